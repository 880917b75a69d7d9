"""Laws of arrays that lie on top of a mapped file: read-only, unless the caller makes them their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from scalable_hpc.cache.serial import dumps, loads


@dataclass
class Outcome:
    """A result of a user's own class."""

    values: Any


def lent(value):
    """Return a value as a hit hands it out, and the bytes below it."""
    below = bytearray(dumps(value))
    return loads(memoryview(below), frozen=True), below


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda array: array, lambda value: value),
        (lambda array: [array], lambda value: value[0]),
        (lambda array: {"a": (1, {"b": array})}, lambda value: value["a"][1]["b"]),
        (lambda array: (array, array), lambda value: value[1]),
        (Outcome, lambda value: value.values),
    ],
    ids=["bare", "list", "dict of tuple of dict", "twice", "dataclass"],
)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.ones(3, [("x", "i4"), ("y", "f8")]),
    ],
    ids=["c", "fortran", "structured"],
)
def test_that_a_mapped_array_is_read_only_and_can_be_made_ones_own(array, wrap, unwrap):
    """Wherever in a result it is: writing raises, until the caller says so; then it is written in place."""
    value, below = lent(wrap(array))
    found, before = unwrap(value), bytes(below)

    assert not found.flags.writeable
    assert np.array_equal(found, array)
    with pytest.raises(ValueError, match="read-only"):
        found[...] = found
    own = found.copy()
    own[...] = np.zeros(1, array.dtype)
    assert bytes(below) == before
    found.flags.writeable = True
    found[...] = np.zeros(1, array.dtype)
    assert bytes(below) != before


def test_that_what_was_read_only_when_it_was_stored_can_be_made_ones_own_too():
    """A result that was made of another hit is no less its caller's than that one."""
    first, _ = lent(np.arange(5.0))
    second, below = lent([np.ones(3), first[1:]])

    second[1].flags.writeable = True
    second[1][0] = 7.0

    assert second[1].tolist() == [7.0, 2.0, 3.0, 4.0]
    assert np.array([7.0]).tobytes() in below


def test_that_copies_are_the_callers_own():
    """A small result is no mapping: nothing of it is read-only."""
    assert loads(dumps([np.arange(3)]), frozen=True)[0].flags.writeable


def frame():
    pd = pytest.importorskip("pandas")
    days = pd.date_range("2026-01-01", periods=5)
    return pd.DataFrame(
        {
            "f": np.arange(5.0),
            "g": [1.0, np.nan, 3.0, 4.0, 5.0],
            "day": days,
            "zoned": days.tz_localize("UTC"),
            "kind": pd.Categorical(list("abcab")),
            "nullable": pd.array([1, 2, None, 4, 5], dtype="Int64"),
            "text": list("vwxyz"),
        },
        index=[10, 20, 30, 40, 50],
    )


EDITS = {
    "one value": lambda df: df.__setitem__("f", df["f"].where(df["f"] != 0.0, 9.0)),
    "iloc": lambda df: df.iloc.__setitem__((0, 0), 9.0),
    "loc": lambda df: df.loc.__setitem__((10, "f"), 9.0),
    "arithmetic": lambda df: df.__setitem__("f", df["f"] + 1),
    "date": lambda df: df.loc.__setitem__((10, "day"), df["day"].iloc[1]),
    "zoned date": lambda df: df.loc.__setitem__((10, "zoned"), df["zoned"].iloc[1]),
    "category": lambda df: df.loc.__setitem__((10, "kind"), "b"),
    "nullable": lambda df: df.loc.__setitem__((10, "nullable"), 9),
    "text": lambda df: df.loc.__setitem__((10, "text"), "q"),
    "fillna": lambda df: df.fillna({"g": 0.0}, inplace=True),
    "sort": lambda df: df.__setitem__(slice(None), df.sort_values("f", ascending=False).to_numpy()),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_that_a_frame_of_a_hit_is_edited_like_a_computed_one(edit):
    """Pandas writes into what its frames hold: that is not read-only, and comes out as without the cache."""
    pd = pytest.importorskip("pandas")
    computed, (found, _) = frame(), lent({"frame": frame(), "series": frame()["f"]})

    edit(computed)
    edit(found["frame"])
    found["series"].iloc[0] = 9.0

    pd.testing.assert_frame_equal(found["frame"], computed)
    assert found["series"].iloc[0] == 9.0


def test_that_a_frame_of_a_hit_is_not_copied():
    """Its columns lie on top of the mapping; an array beside it is read-only all the same."""
    pytest.importorskip("pandas")
    (found, array), below = lent((frame(), np.arange(5.0)))
    start = np.frombuffer(below, "u1").ctypes.data

    column = found["f"].to_numpy()

    assert start <= column.ctypes.data < start + len(below)
    assert not array.flags.writeable


@pytest.mark.parametrize("wrap", [lambda array: array, lambda array: {"a": [array, array]}, lambda array: (array, len)])
def test_that_a_result_made_of_a_found_one_is_the_same_record(wrap):
    """Found or computed, whole or a part of it, it has the same digest: whoever compares results sees no difference."""
    computed = np.arange(12.0)
    found, _ = lent(computed)
    frozen = computed.copy()
    frozen.flags.writeable = False

    assert dumps(wrap(found)) == dumps(wrap(computed))
    assert dumps(wrap(found[3:])) == dumps(wrap(computed[3:]))
    assert not found.flags.writeable
    assert np.array_equal(loads(dumps(frozen)), frozen)
    assert np.array_equal(loads(dumps(np.frombuffer(bytes(24)))), np.zeros(3))
