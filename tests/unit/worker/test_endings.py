"""Laws of what follows a courier's exit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker.endings import DEATHS_ALLOWED, CourierExit, Leave, Restart, after_exit

CRASHES = st.integers(-31, 255).filter(lambda status: status not in set(CourierExit))


@given(gaps=st.lists(st.floats(0.01, 200), min_size=1, max_size=40), status=CRASHES)
def test_that_restarts_are_bounded_in_time_and_not_in_number(gaps, status):
    """Five crashes within a minute end it, however many there were before that minute."""
    now, deaths = 0.0, []
    for gap in gaps:
        now += gap
        recent = [at for at in deaths if now - at < 60]
        following = after_exit(status, deaths=deaths, now=now, is_retiring=False)

        if len(recent) + 1 >= DEATHS_ALLOWED:
            assert following == Leave(1, following.because)
            assert f"{DEATHS_ALLOWED} times" in following.because
            return
        assert isinstance(following, Restart)
        assert (following.pause_s == 0) == (not recent)
        deaths.append(now)


@given(is_retiring=st.booleans())
def test_that_a_clean_retire_leaves_with_zero(is_retiring):
    """Retired by the driver or by the launcher, the job ends well."""
    following = after_exit(0, deaths=[], now=0, is_retiring=is_retiring)

    assert following == Leave(0, following.because)


@given(status=CRASHES | st.sampled_from([CourierExit.LOST, CourierExit.UNREACHABLE]))
def test_that_nothing_is_restarted_in_an_allocation_that_ends(status):
    """A courier that fails while it retires is not replaced, and the job does not look clean."""
    following = after_exit(status, deaths=[], now=0, is_retiring=True)

    assert following == Leave(1, following.because)


def test_that_a_worker_that_found_no_driver_leaves():
    """It has looked for one as long as it may; the job does not look clean."""
    following = after_exit(CourierExit.LOST, deaths=[], now=100, is_retiring=False)

    assert following == Leave(int(CourierExit.LOST), following.because)
    assert "no driver came back in time" in following.because


def test_that_an_unreachable_scheduler_ends_the_job():
    """A second courier would wait as long for nothing."""
    following = after_exit(CourierExit.UNREACHABLE, deaths=[], now=0, is_retiring=False)

    assert following == Leave(1, following.because)
