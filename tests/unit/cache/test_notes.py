"""Laws of the notes beside results."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.cache.keys import KeyMaker
from scalable_hpc.cache.notes import (
    call_line,
    code_id_of,
    code_line,
    differences,
    nearest,
    note_of,
    read_calls,
    read_codes,
)
from tests.cache_support import load_module

_MODEL = """
RATE = {rate}

def helper(x, much={much}):
    return x * RATE * much

def run(x, y={y}):
    return helper(x) + y{own}
"""
_HELPER = "the code of {model}.helper, which it reaches, is another"
_PLAIN = {"rate": 2, "much": 1, "y": 1, "own": ""}


def key_in(tmp_path, name="notes_model", args=(1,), options=None, **changes):
    return maker(tmp_path, name, options or {}, **changes).key(args, {})


def maker(tmp_path, name, options, **changes):
    return KeyMaker(load_module(tmp_path, _MODEL.format(**{**_PLAIN, **changes}), name).run, **options)


def lines_of(key, run_s=1.5, at=1000.0):
    code_id = code_id_of(key.parts)
    return [code_line(code_id, key.parts), call_line(key, code_id, run_s, at)]


def read(lines):
    return list(read_calls(lines, read_codes(lines)))


@pytest.mark.parametrize("kind", [str, bytes])
def test_that_a_note_comes_back_as_it_was(tmp_path, kind):
    """What is written down is read back, with no word that sets it apart."""
    key = key_in(tmp_path)
    lines = lines_of(key)

    [note] = read(lines if kind is str else [line.encode() for line in lines])

    assert note == note_of(key, 1.5, 1000)
    assert differences(note, note_of(key)) == []


@given(st.data())
def test_that_torn_lines_and_strange_ones_are_no_notes(tmp_path_factory, data):
    """Damage and later releases cost a note, never an error."""
    lines = lines_of(key_in(tmp_path_factory.getbasetemp(), "torn_model"))
    cut = [line[: data.draw(st.integers(0, len(line) - 1))] for line in lines]
    strange = ['{"code":1}', '{"key":[]}', '{"key":"a","of":{}}', '{"key"', "[]", "", "\x00"]

    assert read([*cut, *strange]) == []


def test_that_a_note_holds_no_value_of_an_argument(tmp_path):
    """Who may read the store's notes learns nothing that a call was given."""
    text = "".join(lines_of(key_in(tmp_path, args=("a very secret word",))))

    assert "secret" not in text
    assert all(json.loads(line) for line in text.replace("}{", "}\n{").splitlines())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"args": (2,)}, ["the argument x is another"]),
        ({"own": " + 0"}, ["its own code is another"]),
        ({"much": 2}, [_HELPER, "the default 0 of {model}.helper is another"]),
        ({"rate": 3}, ["the value of RATE, which {model}.helper reaches, is another"]),
        ({"y": 7, "args": (1, 1)}, ["its own code is another", "the default 0 is another"]),
        ({"options": {"version": 2}}, ["version= was not given and is 2"]),
        ({"options": {"depends_on": ("numpy",)}}, ["what depends_on= names, numpy, did not count then"]),
    ],
)  # fmt: skip
def test_that_what_changed_is_said_by_name(tmp_path, changes, words):
    """The argument, the function's own code or a helper's, a constant, the version or a dependency."""
    before = note_of(key_in(tmp_path, "before_model"))
    now = note_of(key_in(tmp_path, "before_model", **changes))

    said = differences(before, now)

    assert sorted(said) == sorted(word.format(model="before_model") for word in words)


def test_that_the_call_that_is_most_alike_is_compared_with(tmp_path):
    """Fewest differences first, then the newest."""
    now = note_of(key_in(tmp_path, args=(1, 2)))
    far = note_of(key_in(tmp_path, args=(8, 9)), at=3)
    older, newer = (note_of(key_in(tmp_path, args=(1, second)), at=second) for second in (4, 5))

    assert nearest([far, older, newer], now) == (newer, ["the argument y is another"])
    assert nearest([], now) is None
