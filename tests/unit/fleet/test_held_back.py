"""Why the fleet asks for nothing, in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.fleet.case import Case
from scalable_hpc.fleet.held_back import held_back
from scalable_hpc.fleet.plan import plan
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import Demand, FleetView, Incoming, Pause, Submit
from tests.unit.fleet.builders import allocation, limits

S = AllocationState


def why(*allocations, waiting=40, assigned=0, mean_s=None, allowed=None, now=100.0, **view):
    seen = FleetView(tuple(allocations), **view)
    return held_back(Case(seen, Demand("cpu", waiting, assigned, mean_s, mean_s), allowed or limits(), now))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("the session ends", lambda: why(closing=True), id="closing"),
        pytest.param("pauses for 30 s more", lambda: why(paused_until=130.0), id="paused"),
        pytest.param("it pauses, see", lambda: why(paused_until=math.inf), id="stopped"),
        pytest.param("3 allocations in a row ended before", lambda: why(start_failures_in_a_row=3), id="failing"),
        pytest.param(
            "one is tried", lambda: why(allocation(state=S.PENDING), start_failures_in_a_row=1), id="tries one"
        ),
        pytest.param("4 slots are there", lambda: why(allocation(), waiting=3, assigned=1), id="enough"),
        pytest.param(
            "1 allocations are there, and allocations.max is 1",
            lambda: why(allocation(), allowed=limits(maximum=1)),
            id="maximum",
        ),
        pytest.param(
            "1 allocations are in the queue",
            lambda: why(allocation(state=S.PENDING), allowed=limits(max_pending=1)),
            id="queue",
        ),
        pytest.param("as many jobs as the site", lambda: why(jobs_left=0), id="site"),
        pytest.param("0.25 node-hours of the budget are free", lambda: why(node_s_left=900.0), id="budget"),
        pytest.param(
            "through before a new allocation has waited 900 s",
            lambda: why(allocation(), waiting=9, mean_s=10.0, queue_wait_p90_s=900.0),
            id="soon done",
        ),
        pytest.param("", why, id="about to ask"),
        pytest.param("", lambda: why(waiting=0, assigned=2), id="nothing waits"),
    ],
)
def test_that_what_keeps_the_fleet_from_asking_is_said(words, found):
    """With the numbers; nothing where an allocation is about to be asked for."""
    assert words in found() if words else found() == ""


VIEWS = st.fixed_dictionaries(
    {},
    optional={
        "paused_until": st.sampled_from([50.0, 150.0, math.inf]),
        "start_failures_in_a_row": st.integers(0, 4),
        "node_s_left": st.sampled_from([0.0, 3600.0, 100_000.0]),
        "jobs_left": st.integers(0, 3),
        "queue_wait_p90_s": st.sampled_from([0.0, 600.0]),
        "closing": st.booleans(),
        "incoming": st.sampled_from(Incoming),
    },
)
STATES = st.lists(st.sampled_from([S.SUBMITTING, S.PENDING, S.STARTING, S.LIVE, S.DRAINING, S.CLOSING]), max_size=5)


@given(STATES, VIEWS, st.integers(1, 30), st.sampled_from([None, 1.0, 500.0]), st.integers(1, 4), st.integers(1, 3))
def test_that_a_fleet_that_asks_for_nothing_while_tasks_wait_has_a_reason(
    states, view, waiting, mean_s, most, most_queued
):
    """Whatever the situation: the plan does something about it, or it is said why not."""
    allocations = tuple(allocation(f"a{number:04}", state) for number, state in enumerate(states))
    demand = Demand("cpu", waiting, 0, mean_s, mean_s)
    seen, allowed = FleetView(allocations, **view), limits(maximum=most, max_pending=most_queued)
    actions = plan(seen, [demand], {"cpu": allowed}, 100.0)

    if not any(isinstance(action, Submit | Pause) for action in actions):
        assert held_back(Case(seen, demand, allowed, 100.0))
