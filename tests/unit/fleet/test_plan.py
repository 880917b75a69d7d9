"""What the fleet does, situation by situation."""

import itertools
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.fleet.case import successor_times
from scalable_hpc.fleet.plan import plan
from scalable_hpc.fleet.roster import START_PATIENCE_S
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import Cancel, Demand, Drain, FleetView, Limits, Pause, Retire, Submit
from tests.unit.fleet.builders import allocation, limits

S = AllocationState


def decide(*allocations, waiting=0, assigned=0, now=100.0, allowed=None, need_s=None, mean_s=None, **view):
    demand = [Demand("cpu", waiting, assigned, need_s, mean_s)] if waiting + assigned else []
    seen = FleetView(tuple(allocations), **view)
    return plan(seen, demand, {"cpu": allowed or limits()}, now)


def kinds(actions):
    return [type(action) for action in actions]


def test_that_work_brings_allocations_and_the_reason_has_the_numbers():
    """Eighteen tasks and four live slots: of at most three allocations two are missing."""
    actions = decide(allocation(busy=4), waiting=18, assigned=4, allowed=limits(maximum=3))

    assert kinds(actions) == [Submit, Submit]
    assert actions[0].because == "18 tasks wait, 4 slots live: asks for 2 allocations of 4 slots"


def test_that_what_is_on_its_way_is_counted():
    """Slots that are pending or starting are not asked for twice."""
    coming = (allocation("a0001", S.SUBMITTING), allocation("a0002", S.PENDING), allocation("a0003", S.STARTING))

    assert decide(*coming, waiting=12, now=1.0) == []


def test_that_nothing_is_asked_for_without_work():
    """No demand, no allocation, whatever the minimum says."""
    assert decide(allowed=limits(minimum=3)) == []


def test_that_the_minimum_is_kept_while_there_is_any_work():
    """One task and a minimum of three allocations: three."""
    assert kinds(decide(waiting=1, allowed=limits(minimum=3))) == [Submit] * 3


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 64), st.integers(1, 4))
def test_that_no_more_is_asked_for_than_wanted_or_allowed(waiting, assigned, maximum, slots, nodes):
    """The first plan of a run asks for exactly what the work can use, up to the maximum."""
    allowed = Limits("cpu", maximum=maximum, slots_per_node=slots, nodes=nodes)

    asked = decide(waiting=waiting, assigned=assigned, allowed=allowed)

    assert len(asked) == min(maximum, math.ceil((waiting + assigned) / (slots * nodes)))


def test_that_pending_submissions_are_bounded():
    """A site's limit on pending jobs holds, whatever the work."""
    assert len(decide(allocation("a0001", S.PENDING), waiting=99, allowed=limits(maximum=50, max_pending=3))) == 2


def test_that_pending_allocations_are_taken_back_when_nothing_is_left():
    """Without work a pending job is cancelled at once."""
    (action,) = decide(allocation("a0001", S.PENDING))

    assert action == Cancel("a0001", "no task is left for it")


def test_that_surplus_pending_allocations_are_taken_back_newest_first():
    """Four tasks left, one live allocation that can take them: what has waited for long enough is cancelled."""
    young = allocation("a0003", S.PENDING, submitted_at=95.0)
    old = allocation("a0002", S.PENDING, submitted_at=50.0)

    actions = decide(allocation(busy=4), old, young, assigned=4)

    assert [type(action) for action in actions] == [Cancel]
    assert actions[0].name == "a0002"


def test_that_an_idle_allocation_is_first_drained_then_retired():
    """It gets nothing new before it is closed, so no attempt is placed on an allocation that goes away."""
    (drain,) = decide(allocation(), last_busy_at={"a0001": 80.0})
    (retire,) = decide(allocation(state=S.DRAINING), last_busy_at={"a0001": 80.0})

    assert drain == Drain("a0001", "idle for 20 s, 0 tasks left: given back")
    assert retire == Retire("a0001", "drained, and nothing runs on it any more")


def test_that_an_allocation_that_was_busy_just_now_is_kept():
    """Idle for less than ``idle_s`` is not idle."""
    assert decide(allocation(), last_busy_at={"a0001": 99.0}) == []


def test_that_everything_idle_is_retired_at_once_when_the_session_closes():
    """A closing session with nothing left does not wait for ``idle_s``."""
    actions = decide(allocation(), allocation("a0002", S.STARTING, started_at=99.0), closing=True)

    assert [(type(action), action.name) for action in actions] == [(Retire, "a0001"), (Retire, "a0002")]


def test_that_a_closing_session_opens_nothing():
    """Even with work: nothing new."""
    assert decide(waiting=5, closing=True) == []


def test_that_idle_allocations_are_kept_while_the_work_needs_them():
    """Waiting tasks will be placed in a moment: an idle allocation that they fit is no surplus."""
    assert decide(allocation(), waiting=3, last_busy_at={"a0001": 1.0}) == []


def test_that_an_idle_allocation_that_no_waiting_task_fits_is_given_up():
    """Idle although a task waits that needs more time than is left: drained, so that another can come."""
    actions = decide(
        allocation(ends_at=1000.0), waiting=1, mean_s=10.0, need_s=2000.0, now=400.0, last_busy_at={"a0001": 300.0}
    )

    assert kinds(actions) == [Drain, Submit]


def test_that_an_allocation_without_room_for_a_waiting_task_is_drained_and_replaced():
    """Twenty seconds of work, twelve left: drained, and since it counts no more, replaced beyond the maximum."""
    actions = decide(allocation(ends_at=117.0, busy=2), waiting=9, assigned=2, mean_s=20.0, allowed=limits(maximum=1))

    assert kinds(actions) == [Drain, Submit]
    assert actions[0].because == "12 s left for work, a waiting task needs 20 s"


def test_that_an_allocation_that_never_had_room_is_not_drained_for_it():
    """A fresh allocation that is too short for the task would be replaced by another just like it, for ever."""
    assert Drain not in kinds(decide(allocation(ends_at=117.0), waiting=9, mean_s=20.0))


def test_that_the_margin_is_kept_free():
    """Inside the margin nothing may start any more, known runtimes or not."""
    (action,) = decide(allocation(ends_at=103.0, busy=1), assigned=1)

    assert action == Drain("a0001", "3 s left, kept free as margin")


def test_that_a_worker_that_asks_is_drained():
    """A warning signal on the node is followed, in the worker's words."""
    actions = decide(allocation(drain_asked="SIGUSR1", busy=4), assigned=4)

    assert actions == [Drain("a0001", "it asked: SIGUSR1")]


def test_that_a_busy_allocation_is_retired_only_when_its_time_is_over():
    """A second before its end it may still finish; at its end it is closed, busy or not."""
    busy = allocation(state=S.DRAINING, busy=1, ends_at=100.0)

    assert decide(busy, assigned=1, now=99.0) == []
    assert decide(busy, assigned=1, now=100.0) == [Retire("a0001", "its walltime is over, 1 attempt still assigned")]


def test_that_a_job_without_a_worker_is_not_kept_for_ever():
    """A job that runs and never brings a worker is given back after ten minutes."""
    alone = allocation(state=S.STARTING, started_at=10.0, alone_since=10.0, ends_at=3610.0)

    assert decide(alone, waiting=4, now=10.0 + START_PATIENCE_S - 1) == []
    assert kinds(decide(alone, waiting=4, now=10.0 + START_PATIENCE_S)) == [Retire, Submit]


def test_that_an_allocation_that_lost_its_worker_is_no_capacity():
    """Its job still runs, so it counts against the maximum; but the work needs slots elsewhere."""
    lost = allocation(state=S.STARTING, reached_live=True, alone_since=99.0, ends_at=3610.0)

    assert kinds(decide(lost, waiting=4)) == [Submit]
    assert decide(lost, waiting=4, allowed=limits(maximum=1)) == []


# ---- successors ----


def test_that_a_successor_is_asked_for_before_the_end_if_there_will_still_be_work():
    """At end - (queue wait + lead) and not before; with nothing known of the tasks, whatever waits will still wait."""
    one = limits(maximum=1)
    running = allocation(busy=4)
    soon = 3610.0 - (60.0 + 120.0)

    assert decide(running, waiting=9, assigned=4, now=soon - 1, allowed=one, queue_wait_p90_s=60.0) == []
    (action,) = decide(running, waiting=9, assigned=4, now=soon, allowed=one, queue_wait_p90_s=60.0)
    assert action.replaces == "a0001"
    assert action.because == "a0001 ends in 180 s, 9 tasks will wait then: asks for one more"


def test_that_a_predecessor_has_one_successor():
    """The successor is pending or live: no second one."""
    one = limits(maximum=1)
    for successor in (
        allocation("a0002", S.PENDING, submitted_at=3500.0),
        allocation("a0002", started_at=3500.0, ends_at=7100.0, busy=4),
    ):
        assert decide(allocation(busy=4), successor, waiting=9, assigned=8, now=3550.0, allowed=one) == []


def test_that_a_successor_that_came_early_gets_no_successor_beside_both():
    """Predecessor and successor both near their ends: with a maximum of one there are never three."""
    both = (allocation(busy=4), allocation("a0002", started_at=400.0, ends_at=4000.0, busy=4))

    assert decide(*both, waiting=99, assigned=8, now=3400.0, allowed=limits(maximum=1), queue_wait_p90_s=600.0) == []


def test_that_no_successor_is_asked_for_when_the_work_ends_first():
    """Nine tasks of ten seconds on four slots are done long before the end."""
    assert decide(allocation(busy=4), waiting=9, assigned=4, mean_s=10.0, now=3500.0, allowed=limits(maximum=1)) == []


def test_that_no_successor_is_asked_for_when_nothing_waits():
    """What is running will end where it runs."""
    assert decide(allocation(busy=4), assigned=4, now=3600.0, allowed=limits(maximum=1)) == []


def test_that_only_as_many_successors_come_as_the_remaining_work_needs():
    """Three allocations end, five tasks will be left: two successors of four slots."""
    ending = [allocation(f"a000{n}", busy=4) for n in (1, 2, 3)]

    actions = decide(*ending, waiting=5, assigned=12, now=3590.0, allowed=limits(maximum=3))

    assert kinds(actions) == [Submit, Submit]


def test_that_a_short_walltime_shortens_the_lead():
    """A lead of two minutes in a one-minute walltime: the successor is asked for in the last third of it."""
    one = limits(maximum=1, walltime_s=60)
    short = allocation(walltime_s=60, started_at=0.0, ends_at=60.0, busy=4)

    assert decide(short, waiting=9, assigned=4, now=39.0, allowed=one) == []
    assert kinds(decide(short, waiting=9, assigned=4, now=40.0, allowed=one)) == [Submit]


def test_that_a_long_queue_does_not_double_the_fleet():
    """However long the queue, no successor is asked for in the first quarter of a life."""
    one = limits(maximum=1)
    view = {"waiting": 9, "assigned": 4, "allowed": one, "queue_wait_p90_s": 1e6}

    assert decide(allocation(busy=4), now=900.0, **view) == []
    assert kinds(decide(allocation(busy=4), now=911.0, **view)) == [Submit]


def test_that_successors_of_allocations_that_end_together_are_staggered():
    """They are asked for one after the other, so that they will not end together."""
    ending = [allocation(f"a000{n}") for n in (1, 2, 3)]

    times = sorted(successor_times(ending, limits(), 60.0, None).values())

    assert [second - first for first, second in itertools.pairwise(times)] == [30.0, 30.0]
    assert times[-1] == 3610.0 - 180.0


@given(
    st.lists(st.floats(0, 1e5), max_size=20),
    st.floats(0, 1e5),
    st.integers(1, 10_000),
    st.floats(0, 1e5),
    st.none() | st.floats(1, 1e4),
)
def test_that_a_successor_is_never_asked_for_too_early_nor_after_the_end(starts, wait, walltime, lead, typical):
    """Whatever the figures: after the first quarter of the predecessor's life, and before its end."""
    running = [
        allocation(f"a{n}", started_at=start, ends_at=start + walltime, walltime_s=walltime)
        for n, start in enumerate(starts)
    ]

    times = successor_times(running, limits(walltime_s=walltime, lead_s=lead), wait, typical)

    for seen in running:
        assert seen.ends_at - 0.75 * walltime - 1e-6 <= times[seen.name] <= seen.ends_at


def test_that_a_replacement_is_not_asked_for_when_it_would_come_too_late():
    """The queue takes an hour, the four slots that are here are through in a minute: nothing is asked for."""
    assert decide(allocation(busy=4), waiting=20, assigned=4, mean_s=5.0, queue_wait_p90_s=3600.0) == []


# ---- failures ----


@pytest.mark.parametrize(("failures", "wait"), [(1, 2.0), (2, 4.0)])
def test_that_failed_starts_pause_longer_each_time(failures, wait):
    """After a failed start nothing is opened for a while that doubles."""
    (action,) = decide(waiting=9, start_failures_in_a_row=failures)

    assert isinstance(action, Pause)
    assert action.until == 100.0 + wait


def test_that_a_pause_is_waited_out_and_then_one_is_tried():
    """While paused nothing; then one allocation to see whether it starts, not all of them."""
    streak = {"waiting": 99, "start_failures_in_a_row": 1, "paused_until": 102.0}

    assert decide(now=101.0, **streak) == []
    assert kinds(decide(now=102.0, **streak)) == [Submit]
    assert decide(allocation("a0005", S.PENDING, submitted_at=102.0), now=103.0, **streak) == []


def test_that_three_failed_starts_stop_the_fleet():
    """At the limit nothing more is opened until somebody has looked at it."""
    (action,) = decide(waiting=9, start_failures_in_a_row=3)

    assert math.isinf(action.until)
    assert decide(waiting=9, start_failures_in_a_row=3, paused_until=math.inf) == []


def test_that_a_job_that_hangs_in_its_teardown_is_not_waited_for():
    """A cancelled job on a dead node can hang in COMPLETING for hours; after a minute it no longer counts."""
    hanging = allocation(state=S.CLOSING, closing_since=40.0)

    assert decide(hanging, waiting=4, now=90.0, allowed=limits(maximum=1)) == []
    assert kinds(decide(hanging, waiting=4, now=101.0, allowed=limits(maximum=1))) == [Submit]


# ---- several worker types, and speed ----


def test_that_worker_types_are_planned_apart():
    """Each type has its own work and its own maximum; an allocation of a type without limits is given back."""
    other = Limits("gpu", maximum=1, slots_per_node=1)
    view = FleetView((allocation("a0001", worker_type="gone"),), last_busy_at={})

    actions = plan(view, [Demand("cpu", 4, 0), Demand("gpu", 4, 0)], {"cpu": limits(), "gpu": other}, 100.0)

    assert [(type(action), getattr(action, "worker_type", None)) for action in actions] == [
        (Submit, "cpu"),
        (Drain, None),
        (Submit, "gpu"),
    ]


def test_that_two_thousand_allocations_are_planned_within_twenty_milliseconds():
    """The plan is made on the engine's loop, at least once a second: it must not be felt there."""
    states = [S.LIVE, S.LIVE, S.PENDING, S.DRAINING, S.STARTING]
    many = tuple(
        replace(allocation(f"a{n:04d}", states[n % 5], busy=4 * (n % 5 < 2)), submitted_at=float(n % 90))
        for n in range(2000)
    )
    view = FleetView(many, queue_wait_p90_s=60.0, last_busy_at={})
    demand, allowed = [Demand("cpu", 100_000, 3200, 20.0, 10.0)], {"cpu": limits(maximum=2000)}

    took = []
    for now in (100.0, 3300.0, 3500.0) * 3:
        began = time.thread_time()
        plan(view, demand, allowed, now)
        took.append(time.thread_time() - began)

    assert min(took[0::3]) <= 0.020
    assert min(took[1::3]) <= 0.020
    assert min(took[2::3]) <= 0.020
