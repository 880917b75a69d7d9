"""Laws of how pandas' types are encoded."""

from __future__ import annotations

import numpy as np
import pytest

from scalable_hpc.cache.encode import digest
from tests.cache_support import DigestProcess, by_name

pd = pytest.importorskip("pandas")


def key(value):
    return digest(value, by_name)


def frame():
    return pd.DataFrame({"a": [1, 2, 3], "b": [1.0, 2.0, np.nan], "c": ["x", None, "z"], "d": [True, False, True]})


def test_that_block_layout_does_not_matter():
    """A frame made at once and one that grew column by column are the same input."""
    grown = pd.DataFrame({"a": [1, 2, 3]})
    for name in "bcd":
        grown[name] = frame()[name]
    sliced = pd.concat([frame(), frame()]).iloc[:3]
    sliced.index = pd.RangeIndex(3)

    assert {key(grown), key(sliced), key(frame().copy())} == {key(frame())}


def test_that_every_aspect_of_a_frame_counts():
    """Values, types, names, order, index, attributes: a change of any is another input."""
    base = frame()
    typed = base.astype({"a": "int32"})
    family = [
        base, typed, base.astype({"a": float}), base.astype({"a": object}), base.astype({"c": "string"}),
        base.astype({"c": "category"}), base.astype({"a": "Int64"}), base.rename(columns={"a": "A"}), base[["b", "a",
        "c", "d"]],
        base.set_index("a"), base.set_index(["a", "d"]), base.set_axis([5, 6, 7]), base.set_axis([0, 1, 2]),
        base.iloc[::-1],
        base.iloc[:2], base.iloc[:0], base.assign(a=[1, 2, 4]), base.assign(c=["x", "None", "z"]),
        base.assign(c=["x", "", "z"]),
        base["a"], base["a"].rename("A"), base["a"].to_frame(), base["a"].to_numpy(), base["a"].to_list(), base.T,
    ]  # fmt: skip
    noted = frame()
    noted.attrs["source"] = "model"

    assert len({key(value) for value in [*family, noted]}) == len(family) + 1


def test_that_every_kind_of_array_is_encoded_by_value():
    """Nullable, categorical, dated, zoned, period, interval and sparse data: equal copies equal, others not."""
    days = pd.date_range("2026-01-01", periods=3)
    kinds = [
        pd.array([1, None, 3], dtype="Int64"), pd.array([1, None, 4], dtype="Int64"), pd.array([1, None, 3],
        dtype="Int32"),
        pd.array([1.5, None], dtype="Float64"), pd.array([True, None], dtype="boolean"), pd.array(["a", None],
        dtype="string"),
        pd.array(["a", "b"], dtype="string"), pd.Categorical(["a", "b", "a"]), pd.Categorical(["a", "b", "a"], ["b",
        "a"]),
        pd.Categorical(["a", "b", "a"], ordered=True), days, days.tz_localize("UTC"), days.tz_localize("Europe/Oslo"),
        pd.DatetimeIndex(list(days)), days.as_unit("s"), days - days[0], days.to_period("D"), days.to_period("M"),
        pd.interval_range(0, 3), pd.interval_range(0, 3, closed="left"), pd.arrays.SparseArray([0, 0, 1]),
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]]), pd.RangeIndex(3), pd.Index([0, 1, 2]), pd.Index(["a"]),
        pd.Timestamp(0),
        pd.Timestamp(0, tz="UTC"), pd.Timestamp(1), pd.Timedelta(1), pd.Period("2026"), pd.Interval(0, 1), pd.NaT,
        pd.NA,
    ]  # fmt: skip
    import copy

    assert [key(copy.deepcopy(value)) for value in kinds] == [key(value) for value in kinds]
    assert len({key(value) for value in kinds}) == len(kinds)


def test_that_what_lies_under_a_mask_is_not_part_of_a_value():
    """A nullable column's hidden number does not alter its digest."""
    shown = pd.array([1, 2, 3], dtype="Int64")
    shown[1] = pd.NA
    made = pd.array([1, None, 3], dtype="Int64")

    assert key(shown) == key(made)


def test_that_frames_count_the_same_in_every_process():
    """Frames with text have one digest in processes with other hash seeds."""
    process = DigestProcess(3)
    try:
        assert process.digest(frame()) == key(frame())
    finally:
        process.close()
