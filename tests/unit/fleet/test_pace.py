"""The fleet's formulas of time."""

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.fleet.pace import BACKOFF_MOST_S, CALM_S, QUICK_S, backoff_s, p90, poll_interval_s

seconds = st.floats(0, 1e9, allow_nan=False)


@given(st.none() | seconds, seconds, seconds)
def test_that_the_floor_of_a_site_is_never_undercut(expecting_for, floor, last_query):
    """Whatever is expected, the batch system is not asked more often than the site allows."""
    assert poll_interval_s(expecting_for, floor, last_query) >= floor


@given(seconds, seconds)
def test_that_waiting_longer_never_asks_more_often(earlier, later):
    """The longer something takes, the longer the pause between two questions."""
    first, second = sorted((earlier, later))

    assert poll_interval_s(first, 0.1) <= poll_interval_s(second, 0.1)


def test_that_expectation_is_quick_and_calm_is_not():
    """A fresh surprise is followed up within half a second, a calm fleet is left in peace."""
    assert poll_interval_s(0.0, 0.0) == QUICK_S
    assert poll_interval_s(None, 0.0) == CALM_S
    assert poll_interval_s(15.0, 0.0) == 1.5


def test_that_a_slow_controller_is_asked_less_often():
    """A query that took four seconds is not repeated within twenty."""
    assert poll_interval_s(0.0, 0.0, last_query_s=4.0) == 20.0


def test_that_backoff_doubles_up_to_its_bound():
    """Two seconds, four, eight, and never more than ten minutes."""
    assert [backoff_s(n) for n in (1, 2, 3)] == [2.0, 4.0, 8.0]
    assert backoff_s(10_000) == BACKOFF_MOST_S


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_that_nine_tenths_of_the_waits_are_within_p90(waits):
    """The p90 is one of the values, and at least nine tenths do not exceed it."""
    limit = p90(waits)

    assert limit in waits
    assert sum(wait <= limit for wait in waits) >= 0.9 * len(waits)


def test_that_nothing_observed_is_no_wait():
    """Before any allocation came the p90 is zero."""
    assert p90([]) == 0.0
