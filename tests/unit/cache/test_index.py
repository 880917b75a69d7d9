"""Laws of the index in memory and of its records on disk."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.cache.index import Index
from scalable_hpc.cache.records import BULK, ENTRY_SIZE, Entry, Kind, file_id, pack_entry
from tests.cache_support import TEST_KEYS

KEYS = [bytes([number]) * 32 for number in range(4)]


def put(key, digest=b"d" * 32, offset=0):
    return Entry(Kind.PACKED, key, digest, offset, 10, 0)


def revoke(key, stem, ordinal):
    return Entry(Kind.REVOKED, key, file_id(stem), ordinal, 0, 0)


def packed(entry, stem="a", keys=TEST_KEYS):
    return pack_entry(entry, keys.seal(stem))


def raw(*entries, stem="a"):
    return b"".join(packed(entry, stem) for entry in entries)


def test_that_the_first_result_of_a_key_counts():
    """Later results of a key stand by until the first one is dropped."""
    index = Index(TEST_KEYS)
    index.feed("a", raw(put(KEYS[0], offset=1)))
    index.feed("b", raw(put(KEYS[0], offset=2), stem="b"))
    first = index.first(KEYS[0])
    index.drop(first)

    assert (first.entry.offset, index.first(KEYS[0]).entry.offset, len(index)) == (1, 2, 1)


def test_that_a_torn_tail_waits_for_its_rest():
    """A half-written entry is no entry, and becomes one when the rest arrives."""
    index, whole = Index(TEST_KEYS), raw(put(KEYS[0]), put(KEYS[1]))
    index.feed("a", whole[: ENTRY_SIZE + 10])
    before = index.keys()
    index.feed("a", whole[index.known("a") :])

    assert (before, index.keys()) == ([KEYS[0]], [KEYS[0], KEYS[1]])


def test_that_a_damaged_entry_costs_only_itself():
    """A flipped bit, or a stretch of zeros, hides one entry and none of its neighbours."""
    for spoil in (lambda entry: bytes(len(entry)), lambda entry: bytes([entry[0] ^ 1]) + entry[1:]):
        entries = [packed(put(key, offset=number)) for number, key in enumerate(KEYS)]
        index = Index(TEST_KEYS)
        index.feed("a", b"".join([entries[0], spoil(entries[1]), *entries[2:]]))

        assert index.keys() == [KEYS[0], KEYS[2], KEYS[3]]
        assert index.first(KEYS[3]).ordinal == 3


def test_that_zeros_at_the_end_are_looked_at_again():
    """A tail that the disk has not filled in yet is not passed over for good."""
    index = Index(TEST_KEYS)
    index.feed("a", raw(put(KEYS[0])) + bytes(ENTRY_SIZE))
    index.feed("a", raw(put(KEYS[1])))

    assert index.keys() == [KEYS[0], KEYS[1]]


def test_that_unknown_kinds_are_passed_over():
    """An entry of a later version does not disturb those around it."""
    index = Index(TEST_KEYS)
    index.feed("a", raw(Entry(77, KEYS[1], b"x" * 32, 0, 0, 0), put(KEYS[0])))

    assert index.keys() == [KEYS[0]]


@settings(max_examples=200)
@given(st.data())
def test_that_the_order_in_which_files_are_read_does_not_matter(data):
    """Whichever file is read first, the same keys have results, and no revoked entry comes back."""
    files = {"a": [], "b": [], "c": []}
    for _ in range(data.draw(st.integers(1, 12))):
        stem = data.draw(st.sampled_from(sorted(files)))
        placed = [(name, n) for name in files for n, entry in enumerate(files[name]) if entry.kind == Kind.PACKED]
        if placed and data.draw(st.booleans()):
            name, ordinal = data.draw(st.sampled_from(placed))
            files[stem].append(revoke(files[name][ordinal].key, name, ordinal))
        else:
            files[stem].append(put(data.draw(st.sampled_from(KEYS)), offset=len(files[stem])))
    revoked = {(e.digest, e.offset) for entries in files.values() for e in entries if e.kind == Kind.REVOKED}
    alive = {
        (entry.key, stem, number)
        for stem, entries in files.items()
        for number, entry in enumerate(entries)
        if entry.kind == Kind.PACKED and (file_id(stem), number) not in revoked
    }
    index = Index(TEST_KEYS)
    chunks = [(stem, packed(entry, stem)) for stem in files for entry in files[stem]]
    order = data.draw(st.permutations([stem for stem, _ in chunks]))
    waiting = {stem: [chunk for name, chunk in chunks if name == stem] for stem in files}
    for stem in order:
        index.feed(stem, waiting[stem].pop(0))

    seen = {(place.entry.key, place.stem, place.ordinal) for key in KEYS for place in index.places(key)}

    assert seen == alive
    assert set(index.keys()) == {key for key, _, _ in alive}


def test_that_many_entries_are_read_as_few_are():
    """Read at once by NumPy or one by one: the same are sound, whatever lies between them and behind."""
    keys = [number.to_bytes(32, "big") for number in range(3 * BULK)]
    seal = TEST_KEYS.seal("a")
    entries = [pack_entry(put(key, offset=number), seal) for number, key in enumerate(keys)]
    damaged = {7, BULK + 1, 3 * BULK - 1}
    for number in damaged:
        entries[number] = bytes([entries[number][0] ^ 1]) + entries[number][1:]
    whole = b"".join(entries)
    at_once, by_piece = Index(TEST_KEYS), Index(TEST_KEYS)
    at_once.feed("a", whole)
    for start in range(0, len(whole), 5000 * ENTRY_SIZE):
        by_piece.feed("a", whole[start : start + 5000 * ENTRY_SIZE])

    assert at_once.keys() == by_piece.keys() == [key for number, key in enumerate(keys) if number not in damaged]
    assert at_once.known("a") == by_piece.known("a") == (3 * BULK - 1) * ENTRY_SIZE
    assert at_once.first(keys[-2]).ordinal == 3 * BULK - 2
