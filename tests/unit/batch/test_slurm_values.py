"""Laws of single values as Slurm prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.batch.slurm_values import MOST_NODES, expand_nodes, parse_exit_code, parse_time


@pytest.mark.parametrize(
    ("printed", "names"),
    [
        ("node01", ("node01",)),
        ("node[01-04]", ("node01", "node02", "node03", "node04")),
        ("node[08-10,12],login1", ("node08", "node09", "node10", "node12", "login1")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("a-[1]-ib", ("a-1-ib",)),
        ("", ()),
    ],
)
def test_that_node_lists_are_written_out(printed, names):
    """Zeros in front are kept, as host names have them."""
    assert expand_nodes(printed) == names


@pytest.mark.parametrize("torn", ["node[01-", "node]1[", "node[1-x]", "node[5-1]", "a,,b", f"n[0-{MOST_NODES}]"])
def test_that_a_list_that_cannot_be_read_stays_one_name(torn):
    """squeue cuts what is longer than its column; nothing is made up."""
    assert expand_nodes(torn) == (torn,)


@given(st.text(alphabet="node[]0123456789-,", max_size=40))
def test_that_no_list_raises_or_grows_beyond_measure(text):
    """Damaged lists can hold enormous ranges."""
    assert len(expand_nodes(text)) <= MOST_NODES


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("0:0", (0, None)),
        ("3:0", (3, None)),
        ("0:9", (None, 9)),
        ("768", (3, None)),
        ("9", (None, 9)),
        ("0", (0, None)),
        ("", (None, None)),
        ("N/A", (None, None)),
        ("1:", (None, None)),
        ("²:1", (None, None)),
    ],
)
def test_that_exit_codes_and_signals_are_told_apart(printed, expected):
    """``exit:signal``, or the wait status that squeue prints."""
    assert parse_exit_code(printed) == expected


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("1795334808", 1795334808.0),
        ("2026-11-22T08:06:48", 1795334808.0),
        ("0", None),
        ("Unknown", None),
        ("N/A", None),
        ("2026-13-45T99:00:00", None),
        ("99999999999999999", None),
    ],
)
def test_that_times_are_seconds_since_the_epoch_or_nothing(printed, expected):
    """ISO times are UTC, as the commands are told."""
    assert parse_time(printed) == expected
