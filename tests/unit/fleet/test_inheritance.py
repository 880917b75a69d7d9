"""What a driver takes over from the one before it, and how that enters the roster."""

from __future__ import annotations

from scalable_hpc.fleet.inheritance import Estate, Inherited
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.model.allocations import AllocationState, ExitReason, JobEnding, JobState
from scalable_hpc.model.events import AllocationChanged
from tests.unit.fleet.builders import hello, limits, seen

LEFT = Inherited("a0003", "cpu", "17", 10.0, 1800)


def change(at, name, state, **more):
    return AllocationChanged(at, name, state, "x", **more)


def draw(roster, now=0.0):
    return roster.draw_view("cpu", busy={}, now=now, closing=False, paused_until=None)


def test_that_what_has_not_ended_is_left_with_all_that_was_said_of_it():
    """Type, job, nodes and walltime are told once; the highest number counts even of what has ended."""
    estate = Estate()
    for event in (
        change(1.0, "a0001", "submitting", worker_type="cpu", walltime_s=1800),
        change(2.0, "a0001", "pending", job_id="17"),
        change(3.0, "a0002", "submitting", worker_type="gpu"),
        change(4.0, "a0007", "submitting", worker_type="cpu"),
        change(5.0, "a0001", "live", nodes=("n1",)),
        change(6.0, "a0007", "ended", reason="failed"),
    ):
        estate.note(event)

    assert estate.left() == (
        Inherited("a0001", "cpu", "17", 1.0, 1800, ("n1",)),
        Inherited("a0002", "gpu", None, 3.0),
    )
    assert estate.worker_types() == {"a0001": "cpu", "a0002": "gpu"}
    assert estate.last_number == 7


def test_that_an_inherited_allocation_counts_as_capacity_before_its_worker_is_back():
    """Else another would be queued for."""
    roster = Roster("run", first_number=4)
    roster.inherit(LEFT, limits(), 100.0)
    roster.observe(seen(JobState.RUNNING), "a0003", 101.0)
    (drawn,) = draw(roster).allocations

    assert (drawn.state, drawn.job_id, drawn.walltime_s) == (AllocationState.STARTING, "17", 1800)
    assert not drawn.reached_live
    assert roster.job_ids() == ["17"]


def test_that_an_inherited_allocation_that_has_ended_is_no_failed_start():
    """It may have run for hours under the driver before; three of them must not pause the fleet."""
    roster = Roster("run", first_number=4)
    roster.inherit(LEFT, limits(), 100.0)
    roster.observe(seen(JobState.ENDED, ending=JobEnding(ExitReason.TIMEOUT, "TIMEOUT")), "a0003", 101.0)

    assert roster.open() == []
    assert draw(roster).start_failures_in_a_row == 0


def test_that_an_inherited_allocation_tells_nothing_of_the_queue():
    """Its worker was here before."""
    roster = Roster("run", first_number=4)
    roster.inherit(LEFT, limits(), 100.0)
    roster.worker_came(hello("a0003"), 500.0)

    assert draw(roster).queue_wait_p90_s == 0.0


def test_that_a_submission_without_an_answer_is_looked_for():
    """By its name, as if this driver had lost the answer."""
    roster = Roster("run", first_number=4)
    roster.inherit(Inherited("a0003", "cpu", None, 10.0), limits(), 100.0)

    assert roster.has_lost_answers()
