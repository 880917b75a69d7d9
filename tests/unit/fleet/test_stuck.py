"""A job that waits for what will not pass by itself is told of, with the scheduler's reason and forecast."""

import asyncio

import pytest

from scalable_hpc.fleet.stuck import StuckWatch
from scalable_hpc.model.allocations import AllocationState, JobState
from scalable_hpc.model.events import FleetNote
from scalable_hpc.model.units import format_time
from tests.unit.fleet.builders import allocation, limits
from tests.unit.fleet.fakes import Harness

S = AllocationState


def stuck(reason):
    return "its partition is down" if reason == "PartitionDown" else None


def watch(**more):
    return StuckWatch({"cpu": limits(fallback_after_s=60.0, **more)}, stuck)


def waits(reason="PartitionDown", state=S.PENDING, **more):
    return allocation("a0001", state, pending_because=reason, submitted_at=0.0, **more)


def test_that_the_scheduler_s_reason_and_forecast_are_told():
    """In its own words, and in ours."""
    told = watch().look([waits(expected_start=1_800_000_000.0)], 61.0)

    reason = "a0001 has waited 61 s, and its partition is down (PartitionDown)"
    assert told == [f"{reason}; its start is forecast for {format_time(1_800_000_000.0)}"]
    assert watch().look([waits()], 61.0)[0].endswith("(PartitionDown); no start is forecast")


@pytest.mark.parametrize(
    ("seen", "now", "more"),
    [
        pytest.param(waits("Priority"), 1e6, {}, id="its turn will come"),
        pytest.param(waits(), 59.0, {}, id="not for long yet"),
        pytest.param(waits(state=S.STARTING), 1e6, {}, id="it runs"),
        pytest.param(waits(worker_type="gone"), 1e6, {}, id="of a type that is not on the target"),
        pytest.param(waits(), 1e6, {"fallbacks": ("other",)}, id="others do its work, and that is told"),
    ],
)
def test_that_nothing_is_said_of_others(seen, now, more):
    """Else nobody would read it."""
    assert watch(**more).look([seen], now) == []


def test_that_each_reason_is_told_once():
    """A new one is news, and so is the old one when it is back."""
    here = StuckWatch({"cpu": limits(fallback_after_s=60.0)}, lambda reason: f"it is {reason}")

    told = [bool(here.look([waits(reason)], 100.0 + at)) for at, reason in enumerate("AABBA")]

    assert told == [True, False, True, False, True]


def test_that_the_run_hears_of_it_and_goes_on_waiting(caplog):
    """A note in the journal and a warning; nothing is cancelled or failed: it may pass any time."""

    async def play():
        async with Harness(fallback_after_s=60.0, stuck=stuck) as fleet:
            await fleet.want(4)
            fleet.batch.say("1", JobState.PENDING, because="PartitionDown")
            await fleet.clock.wind(120.0)
            return list(fleet.events), fleet.failures, fleet.names()

    events, failures, names = asyncio.run(play())

    [note] = [event for event in events if isinstance(event, FleetNote) and event.kind == "stuck"]
    assert note.because.startswith("a0001 has waited 6")
    assert note.because in caplog.text
    assert failures == []
    assert names == ["a0001"]
