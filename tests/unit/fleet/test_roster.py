"""The books over all allocations: names, streaks, waits."""

from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.fleet import view
from scalable_hpc.fleet.inheritance import Inherited
from scalable_hpc.fleet.roster import START_PATIENCE_S, Roster
from scalable_hpc.fleet.told import as_event
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobState
from scalable_hpc.model.fleet import Submit
from tests.unit.fleet.builders import hello, limits, seen

ASKED = Submit("cpu", 1, 3600, "18 tasks wait")


def enrol(roster, now=0.0, job_id="17"):
    name = roster.enrol(ASKED, limits(), now).name
    roster.tell(name, partial(view.submitted, job_id=job_id, now=now), now)
    return name


def end(roster, name, reason, now=100.0):
    roster.observe(seen(JobState.ENDED, ending=JobEnding(reason, reason.name)), name, now)


def draw(roster, now=0.0, busy=()):
    return roster.draw_view("cpu", busy=dict(busy), now=now, closing=False, paused_until=None)


@given(st.integers(1, 50), st.integers(1, 12_000), st.sets(st.integers(1, 12_050), max_size=10))
def test_that_names_are_never_used_twice(count, first, adopted):
    """Not even those that a driver before us has used."""
    roster = Roster("run", first_number=first)
    others = [f"a{number:04d}" for number in adopted]
    for name in others:
        roster.adopt(hello(name), limits(), 0.0)

    names = [roster.enrol(ASKED, limits(), 0.0).name for _ in range(count)]

    assert len({*names, *others}) == count + len(others)


def test_that_a_request_carries_what_was_asked():
    """Nodes, walltime and reason go to the batch system as planned."""
    request = Roster("run").enrol(ASKED, limits(), 0.0, ("node07",))

    assert (request.name, request.nodes, request.walltime_s) == ("a0001", 1, 3600)
    assert (request.because, request.excluded_nodes) == ("18 tasks wait", ("node07",))


def test_that_an_allocation_counts_with_the_time_that_it_was_asked_for():
    """In what the planner sees, in the budget, and for the next driver; what is configured is kept beside it."""
    roster, later = Roster("run"), Roster("run")
    name = roster.enrol(replace(ASKED, walltime_s=600), limits(), 0.0).name
    later.inherit(Inherited(name, "cpu", "17", 0.0, walltime_s=600), limits(), 50.0)
    whole = roster.enrol(ASKED, limits(), 0.0).name

    for each in (roster, later):
        assert (each[name].view.walltime_s, each[name].view.configured_s) == (600, 3600)
        assert as_event(each[name], 0.0).configured_s == 3600
    assert roster.balance(1e6, 0.0).bound_node_s == 600 + 3600
    assert roster[whole].view.configured_s is None


def test_that_queue_waits_are_measured_from_submission_to_first_worker():
    """The planner is told the p90 of what was seen; workers that come back are no new wait."""
    roster = Roster("run")
    for wait in (10.0, 20.0, 300.0):
        name = enrol(roster)
        roster.worker_came(hello(name, address=f"tcp://{wait}"), wait)
        roster.worker_came(hello(name, address=f"tcp://{wait}-again"), 9000.0)

    assert draw(roster).queue_wait_p90_s == 300.0


def test_that_an_allocation_that_we_did_not_submit_tells_nothing_of_the_queue():
    """When it was submitted is not known."""
    roster = Roster("run")
    roster.adopt(hello("a0007"), limits(), 50.0)
    roster.worker_came(hello("a0007", address="tcp://second"), 500.0)

    assert draw(roster).queue_wait_p90_s == 0.0
    assert [allocation.name for allocation in draw(roster).allocations] == ["a0007"]


def test_that_a_streak_is_of_allocations_that_never_had_a_worker():
    """What ended by our own will, through its node, or after it had lived, is none."""
    roster = Roster("run")
    end(roster, enrol(roster), ExitReason.FAILED)
    end(roster, enrol(roster), ExitReason.NODE_FAIL)
    end(roster, enrol(roster), ExitReason.UNKNOWN)
    closed = enrol(roster)
    roster.tell(closed, partial(view.close_decided, because="no task is left for it", now=1.0), 1.0)
    end(roster, closed, ExitReason.CANCELLED)

    assert draw(roster).start_failures_in_a_row == 1
    lived = enrol(roster)
    roster.worker_came(hello(lived), 5.0)
    end(roster, lived, ExitReason.FAILED)
    assert draw(roster).start_failures_in_a_row == 0


def test_that_a_job_that_ran_long_without_a_worker_is_a_failed_start():
    """We closed it, but because no worker came: the next one would fare the same."""
    roster = Roster("run")
    name = enrol(roster)
    roster.observe(seen(JobState.RUNNING, started_at=1.0), name, 1.0)
    late = 1.0 + START_PATIENCE_S
    roster.tell(name, partial(view.close_decided, because="without a worker", now=late), late)
    end(roster, name, ExitReason.CANCELLED, now=late + 1)

    assert draw(roster).start_failures_in_a_row == 1


def test_that_the_longer_of_two_pauses_holds():
    """The type's own and the fleet's."""
    roster = Roster("run")
    roster.standing("cpu").paused_until = 50.0

    longer = roster.draw_view("cpu", busy={}, now=0.0, closing=False, paused_until=70.0)
    shorter = roster.draw_view("cpu", busy={}, now=0.0, closing=False, paused_until=20.0)

    assert (longer.paused_until, shorter.paused_until) == (70.0, 50.0)


def test_that_the_view_has_the_attempts_of_this_moment():
    """Busy counts change from plan to plan, and the last time of having any is remembered."""
    roster = Roster("run")
    name = enrol(roster)
    roster.worker_came(hello(name), 5.0)

    assert draw(roster, 10.0, {name: 3}).allocations[0].busy == 3
    later = draw(roster, 20.0)
    assert later.allocations[0].busy == 0
    assert later.last_busy_at == {name: 10.0}


def test_that_job_names_are_matched_to_our_allocations_only():
    """A job of another run, or of nobody, belongs to none of ours."""
    roster = Roster("run")
    name = enrol(roster)

    assert roster.by_job_name(f"scalable-run-{name}") == name
    assert roster.by_job_name(f"scalable-other-{name}") is None
    assert roster.by_job_name("bash") is None


def test_that_shortened_or_missing_job_names_are_no_reason_for_suspicion():
    """Some batch systems cut names; accounting is late with them."""
    roster = Roster("run")
    name = enrol(roster)
    for said in ("", "allocation", "scalable-ru"):
        roster.observe(seen(JobState.RUNNING, name=said), name, 5.0)

    assert roster[name].ending is None
