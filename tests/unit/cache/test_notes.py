"""Laws of the notes beside results."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.cache.index import Index
from scalable_hpc.cache.keys import KeyMaker
from scalable_hpc.cache.notes import NOTE, Note, decode_note, differences, encode_note, note_of
from scalable_hpc.cache.records import Entry, Kind, pack_entry
from tests.cache_support import TEST_KEYS, load_module

named = st.dictionaries(st.text(), st.text()).map(lambda given: tuple(sorted(given.items())))
notes = st.builds(Note, st.text(), st.text(), named, named, named, st.floats(0, 1e9))

_MODEL = """
RATE = {rate}

def helper(x):
    return x * RATE

def run(x, y=1):
    return helper(x) + y
"""


@given(notes)
def test_that_a_note_comes_back_as_it_was(note):
    """What is written down is read back, with no word that sets it apart."""
    back = decode_note(encode_note(note))

    assert back == note
    assert differences(back, note) == []


@pytest.mark.parametrize("raw", [b"", b"\x80\x04.", b"{}", b"[]", b"1", b'{"note":1}', b'{"note":2,"function":"f"}'])
def test_that_what_is_no_note_is_none(raw):
    """Damage and later releases cost a note, never an error."""
    assert decode_note(raw) is None


@given(notes, st.data())
def test_that_a_cut_note_is_none(note, data):
    """Half of a note is no note."""
    raw = encode_note(note)

    assert decode_note(raw[: data.draw(st.integers(0, len(raw) - 1))]) is None


def test_that_readers_pass_over_notes():
    """An index with a note in it knows no result more."""
    entries = [Entry(Kind.PACKED, b"a" * 32, b"d" * 32, 0, 1, 0), Entry(NOTE, b"b" * 32, b"d" * 32, 0, 1, 0)]
    index = Index(TEST_KEYS)

    index.feed("w", b"".join([pack_entry(entry, TEST_KEYS.seal("w")) for entry in entries]))

    assert index.keys() == [b"a" * 32]


def note(module, *args, version=None) -> Note:
    return note_of(KeyMaker(module.run, version=version).key(args, {}), 1.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"args": (2,)}, ["the argument x is another"]),
        ({"args": (1, 5)}, ["the argument y is another"]),
        ({"version": 2}, ["version= was not given and is int 2"]),
    ],
)
def test_that_the_part_that_changed_is_named(tmp_path, change, told):
    """A miss is told by the argument or version that is another, and by nothing that is the same."""
    module = load_module(tmp_path, _MODEL.format(rate=2))

    words = differences(note(module, 1), note(module, *change.get("args", (1,)), version=change.get("version")))

    assert words == told


def test_that_the_constant_that_changed_is_named(tmp_path):
    """Only code is told, and among it what the constant is called."""
    before = note(load_module(tmp_path, _MODEL.format(rate=2)), 1)

    words = differences(before, note(load_module(tmp_path, _MODEL.format(rate=3)), 1))

    assert any("RATE" in word for word in words)
    assert all(word.startswith("the code of ") for word in words)


def test_that_a_note_holds_no_value(tmp_path):
    """What an argument holds cannot be read out of a note."""
    raw = encode_note(note(load_module(tmp_path, _MODEL.format(rate=2)), 123456789123456789))

    assert json.loads(raw)["arguments"][0][0] == "x"
    assert b"123456789" not in raw
