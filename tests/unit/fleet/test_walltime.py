"""How long an allocation is asked for: as short as the work allows, and never so short that the work is cut off."""

import heapq
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from scalable_hpc.fleet.plan import plan
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.fleet.standing import Calls
from scalable_hpc.fleet.walltime import (
    SAFETY,
    Helpers,
    choose_walltime,
    least_walltime_s,
    room_s,
    shorter,
)
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import Cancel, Demand, Drain, FleetView, Incoming, Limits, Submit
from tests.unit.fleet.builders import allocation, limits

S = AllocationState
HOUR = 3600


def demand(durations, assigned=0):
    """What the keeper would say of tasks whose run times are known."""
    return Demand("cpu", len(durations), assigned, longest_s=max(durations), work_s=float(sum(durations)))


patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that is busy with other tests is no failure."""
durations = st.lists(st.floats(0.01, 20_000), min_size=1, max_size=60)
allowed = st.builds(
    limits,
    walltime_s=st.integers(60, 5 * 24 * HOUR),
    slots_per_node=st.integers(1, 64),
    nodes=st.integers(1, 4),
    margin_s=st.floats(0, 60),
    shortens=st.just(True),
)
helpers = st.builds(
    Helpers,
    st.lists(st.tuples(st.integers(0, 16), st.floats(0, 1e5)), max_size=5),
    st.lists(st.tuples(st.integers(0, 16), st.floats(0, 1e5)), max_size=5),
)


def makespan(durations, slots):
    """When the last task ends if each goes to the next free slot, in the order given."""
    free = [0.0] * slots
    for each in durations:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


@patient
@given(durations, allowed)
def test_that_a_shortened_allocation_alone_finishes_all_that_it_was_asked_for(durations, limits):
    """Whatever the order of the tasks: each has begun early enough to end before the last moment for work."""
    asked = choose_walltime(limits, demand(durations))
    assume(asked.because)

    slots = limits.nodes * limits.slots_per_node
    assert makespan(durations, slots) <= room_s(asked.seconds, limits.margin_s)
    assert makespan(sorted(durations), slots) <= room_s(asked.seconds, limits.margin_s)


@patient
@given(durations, allowed, helpers)
def test_that_a_walltime_has_room_for_the_longest_task_and_is_never_longer_than_configured(durations, limits, helpers):
    """What is asked for is the configured walltime or a shorter one, rounded; the longest task fits a shorter one."""
    asked = choose_walltime(limits, demand(durations), helpers)

    assert asked.seconds in (limits.walltime_s, *shorter(limits))
    assert bool(asked.because) == (asked.seconds < limits.walltime_s)
    if asked.because:
        assert room_s(asked.seconds, limits.margin_s) >= max(durations)
    assert asked.seconds >= least_walltime_s(limits, demand(durations))


@patient
@given(durations, allowed, helpers, st.floats(1, 50))
def test_that_more_work_is_never_given_less_time(durations, limits, helpers, more):
    """Nor does the help of others ever lengthen a request."""
    wanted = demand(durations)

    asked = choose_walltime(limits, wanted, helpers)

    assert choose_walltime(limits, replace(wanted, work_s=wanted.work_s * more), helpers).seconds >= asked.seconds
    assert choose_walltime(limits, wanted).seconds >= asked.seconds


@patient
@given(durations, allowed, helpers)
def test_that_nothing_is_shortened_for_tasks_of_which_nothing_is_known_or_where_it_is_not_wanted(
    durations, limits, helpers
):
    """A task of unknown length may need all of it."""
    wanted = demand(durations)

    assert choose_walltime(limits, replace(wanted, longest_s=None), helpers).seconds == limits.walltime_s
    assert choose_walltime(replace(limits, shortens=False), wanted, helpers).seconds == limits.walltime_s


@patient
@given(durations, allowed, helpers, st.floats(0, 5 * 24 * HOUR))
def test_that_a_budget_is_spent_on_what_it_pays_or_on_nothing(durations, limits, helpers, affordable_s):
    """Where the configured walltime is too dear, a shorter one is asked for if the longest task fits what is paid."""
    asked = choose_walltime(limits, demand(durations), helpers, affordable_s)

    is_paid = asked.seconds <= affordable_s
    assert is_paid == (least_walltime_s(limits, demand(durations)) <= affordable_s)


@patient
@given(allowed)
def test_that_shorter_requests_are_round_few_and_worth_it(limits):
    """Five minutes at least, whole minutes, no more than some dozens, three quarters of the walltime at most."""
    found = shorter(limits)

    assert found == sorted(set(found))
    assert all(each % 300 == 0 and 300 <= each <= 0.75 * limits.walltime_s for each in found)
    assert len(found) <= 80


def test_that_the_reason_has_the_numbers():
    """Both walltimes, and what of."""
    asked = choose_walltime(limits(walltime_s=4 * HOUR, shortens=True), demand([60.0] * 40))

    assert asked.seconds == 1200
    assert asked.because == "for 00:20:00 of 04:00:00, since 40 tasks of 60 s, the longest of 60 s, take no longer"


@pytest.mark.parametrize(
    ("helpers", "asked"),
    [
        pytest.param(Helpers(), 10_800, id="alone"),
        pytest.param(Helpers(here=[(4, math.inf)]), 5_400, id="as many are here"),
        pytest.param(Helpers(here=[(4, 2000.0)]), 9_000, id="and end soon"),
        pytest.param(Helpers(coming=[(4, math.inf)]), 6_900, id="as many are coming"),
    ],
)
def test_that_help_counts_for_as_long_as_it_lasts_and_half_while_it_queues(helpers, asked):
    """Of slots on their way nobody knows when they come."""
    tasks = demand([600.0] * 48)

    assert SAFETY * tasks.work_s == 36_000
    assert choose_walltime(limits(walltime_s=8 * HOUR, shortens=True), tasks, helpers).seconds == asked


def decide(*allocations, wanted, now=100.0, more=None, **view):
    return plan(FleetView(tuple(allocations), **view), [wanted], {"cpu": limits(shortens=True, **(more or {}))}, now)


def test_that_a_plan_asks_for_the_time_that_is_left_to_work():
    """Eight tasks of a minute on four slots: the least there is, and the reason of the submission says so."""
    (asked,) = decide(wanted=demand([60.0] * 8), more={"maximum": 1})

    assert isinstance(asked, Submit)
    assert asked.walltime_s == 600
    assert asked.because.startswith("8 tasks wait, 0 slots live: asks for 1 allocation of 4 slots, for 00:10:00 of")


def test_that_allocations_that_are_asked_for_together_share_the_work():
    """Four at once, of which half are counted on; they are asked for the same time, so that one request will do."""
    wanted = demand([600.0] * 96)

    together = decide(wanted=wanted, more={"walltime_s": 8 * HOUR})
    (alone,) = decide(wanted=wanted, more={"walltime_s": 8 * HOUR, "maximum": 1})

    assert [each.walltime_s for each in together] == [9000] * 4
    assert alone.walltime_s == 19_800


def test_that_a_waiting_allocation_that_has_become_too_short_is_taken_back():
    """Meanwhile tasks of half an hour came: what was asked for five minutes is of no use to them."""
    short = allocation("a0001", S.PENDING, walltime_s=300)
    wanted = replace(demand([1800.0] * 3), mean_s=1800.0)

    cancelled, asked = decide(short, wanted=wanted)

    assert cancelled == Cancel("a0001", "asked for 300 s, and a waiting task needs 1800 s now")
    assert isinstance(asked, Submit)
    assert asked.walltime_s == 3600


def test_that_a_running_allocation_that_is_too_short_makes_room():
    """Even one that never had a task: another one is longer now."""
    short = allocation("a0001", S.LIVE, walltime_s=300, ends_at=310.0)
    wanted = replace(demand([1800.0] * 3), mean_s=1800.0)

    drained, asked = decide(short, wanted=wanted)

    assert isinstance(drained, Drain)
    assert isinstance(asked, Submit)
    assert asked.walltime_s == 3600


def test_that_the_last_of_a_budget_pays_a_shorter_allocation():
    """A node-hour is left of which an allocation takes four: what fits is asked for, and no second one."""
    wanted = demand([600.0] * 400)
    actions = decide(wanted=wanted, more={"walltime_s": 4 * HOUR}, node_s_left=3600.0)

    assert [each.walltime_s for each in actions] == [HOUR]
    assert actions[0].because.endswith("for 01:00:00 of 04:00:00, since the budget pays no more")


@pytest.mark.parametrize(
    ("came_at", "looked_at", "asked_after", "incoming"),
    [
        pytest.param([0.0], 0.5, None, Incoming.GATHERING, id="they are coming in"),
        pytest.param([0.0, 0.9, 1.8], 2.0, None, Incoming.GATHERING, id="they still are"),
        pytest.param([0.0, 0.9], 2.0, 0, Incoming.SETTLED, id="one go, one request"),
        pytest.param([0.0, 0.9], 2.0, None, Incoming.SETTLED, id="one go"),
        pytest.param([0.0, 9.0], 60.0, 0, Incoming.OPEN_ENDED, id="more came after the first request"),
        pytest.param([0.0, 9.0], 60.0, 1, Incoming.SETTLED, id="more came before it"),
        pytest.param([number * 0.5 for number in range(20)], 9.6, None, Incoming.OPEN_ENDED, id="they keep coming"),
    ],
)
def test_that_how_calls_came_tells_whether_more_are_to_be_expected(came_at, looked_at, asked_after, incoming):
    """A script that makes its calls in one go has no more; one that makes them in turns may make others."""
    calls = Calls()
    for number, at in enumerate(came_at):
        calls.hear(number + 1, at)
        if number == asked_after:
            calls.asked()

    assert calls.incoming(looked_at) is incoming


def test_that_a_short_request_waits_until_the_calls_are_counted():
    """A whole one does not: it would be the same whatever comes."""
    wanted = demand([60.0] * 8)

    assert decide(wanted=wanted, incoming=Incoming.GATHERING) == []
    assert decide(wanted=wanted, incoming=Incoming.SETTLED)[0].walltime_s == 300
    unknown = decide(wanted=replace(wanted, longest_s=None), incoming=Incoming.GATHERING)
    assert [each.walltime_s for each in unknown] == [3600] * 2


def test_that_where_more_calls_are_to_be_expected_the_whole_walltime_is_asked_for():
    """Or the run would queue again for each turn; the last of a budget may pay a shorter one all the same."""
    wanted = demand([60.0] * 8)

    whole = decide(wanted=wanted, incoming=Incoming.OPEN_ENDED)
    paid = decide(wanted=wanted, incoming=Incoming.OPEN_ENDED, node_s_left=2000.0)

    assert [each.walltime_s for each in whole] == [3600] * 2
    assert [each.walltime_s for each in paid] == [1800]


def test_that_the_roster_tells_the_plan_how_calls_came():
    """By the number of calls at each plan, and the first request that was made."""
    roster = Roster("run")

    def draw(calls, now):
        view = roster.draw_view("cpu", busy={}, now=now, closing=False, paused_until=None, calls=calls)
        return view.incoming

    seen = [draw(10, 0.0), draw(20, 0.5), draw(20, 3.0)]
    roster.enrol(Submit("cpu", 1, 600, "work"), limits(), 3.0)
    seen += [draw(20, 4.0), draw(30, 60.0), draw(30, 90.0)]

    assert [each.name for each in seen] == ["GATHERING"] * 2 + ["SETTLED"] * 2 + ["OPEN_ENDED"] * 2


def test_that_a_budget_that_does_not_pay_the_longest_task_opens_nothing():
    """An allocation in which some task cannot end would be paid for nothing."""
    assert decide(wanted=demand([3000.0] * 400), more={"walltime_s": 4 * HOUR}, node_s_left=3000.0) == []


def test_that_limits_shorten_nothing_unless_told():
    """Of a planner's limits it is a switch."""
    assert shorter(Limits("cpu", walltime_s=24 * HOUR)) == []
