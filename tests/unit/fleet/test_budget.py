"""A run does not use more node-hours than it may, and says what it has used."""

import asyncio
import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.errors import BudgetSpent
from scalable_hpc.fleet.budget import balance_of
from scalable_hpc.fleet.inheritance import Estate
from scalable_hpc.fleet.plan import plan
from scalable_hpc.model.allocations import AllocationState, ExitReason
from scalable_hpc.model.events import AllocationChanged, FleetNote
from scalable_hpc.model.fleet import Demand, FleetView, Submit
from tests.unit.fleet.builders import allocation, limits
from tests.unit.fleet.fakes import Harness
from tests.unit.fleet.simulated import World

S = AllocationState


def on_the_loop(test):
    @functools.wraps(test)
    def run(**arguments):
        asyncio.run(test(**arguments))

    return run


@pytest.mark.parametrize(
    ("seen", "used", "bound"),
    [
        pytest.param(allocation(state=S.PENDING, nodes=3), 0, 3 * 3600, id="what waits may last its whole walltime"),
        pytest.param(allocation(nodes=2), 2 * 990, 2 * 2610, id="what runs may last to its end"),
        pytest.param(allocation(state=S.CLOSING, started_at=10.0, ends_at=3610.0), 990, 0, id="what closes"),
        pytest.param(allocation(ends_at=500.0), 990, 0, id="one over its time is not negative"),
    ],
)
def test_that_an_open_allocation_counts_to_the_end_of_its_walltime(seen, used, bound):
    """Whatever it will really use, it is no more than that."""
    balance = balance_of(1e6, 100.0, [seen], now=1000.0)

    assert (balance.used_node_s, balance.bound_node_s) == (100 + used, bound)
    assert balance.left_node_s == 1e6 - 100 - used - bound


@pytest.mark.parametrize(
    ("left", "count"), [(None, 4), (1e9, 4), (3 * 7200, 3), (2 * 7200 + 7199, 2), (7199, 0), (-5, 0)]
)
def test_that_no_more_is_asked_for_than_is_left(left, count):
    """Allocations of two nodes for an hour: as many as can be paid to the end of their walltime."""
    seen = FleetView((), node_s_left=left)

    actions = plan(seen, [Demand("cpu", 100, 0)], {"cpu": limits(nodes=2, walltime_s=3600)}, 0.0)

    assert sum(isinstance(action, Submit) for action in actions) == count


def test_that_a_successor_must_be_paid_for_too():
    """An allocation that ends before the work does is not replaced on credit."""
    seen = allocation(ends_at=1000.0, started_at=0.0, walltime_s=1000, busy=4)
    allowed = limits(maximum=1, walltime_s=1000)
    many = [Demand("cpu", 1000, 4, need_s=50.0, mean_s=50.0)]

    with_money = plan(FleetView((seen,), node_s_left=5000.0), many, {"cpu": allowed}, 900.0)
    without = plan(FleetView((seen,), node_s_left=999.0), many, {"cpu": allowed}, 900.0)

    assert [type(action) for action in with_money] == [Submit]
    assert without == []


@settings(max_examples=30, deadline=None)
@given(
    budget_h=st.floats(0.2, 6.0),
    tasks=st.integers(1, 400),
    walltime_s=st.sampled_from([300, 900, 3600]),
    losses=st.lists(st.integers(5, 200), max_size=6),
    shortens=st.booleans(),
)
def test_that_a_run_never_uses_more_than_its_budget(budget_h, tasks, walltime_s, losses, shortens):
    """Whatever is lost on the way, what the batch system would charge stays within the budget."""
    allowed = limits(maximum=6, walltime_s=walltime_s, slots_per_node=2, shortens=shortens)
    world = World(limits=allowed, need_s=20.0)
    world.budget_node_s = budget_h * 3600
    world.add_tasks(tasks)
    for step in range(250):
        world.tick(20.0)
        if step in losses and world.running_jobs():
            world.end_job(world.running_jobs()[0], ExitReason.NODE_FAIL)

    charged = sum(
        (job.ended_at if job.reason else world.now) - job.started_at for job in world.jobs.values() if job.started_at
    )
    assert charged <= world.budget_node_s + 20.0 * len(world.jobs)  # an end is noticed at the next tick
    assert world.roster.balance(world.budget_node_s, world.now).used_node_s == pytest.approx(charged, abs=21.0 * 60)
    if budget_h * 3600 >= walltime_s:
        assert world.done


@on_the_loop
async def test_that_a_spent_budget_lets_finish_what_runs_and_fails_the_rest():
    """One allocation can be paid: it works to its end; then the run is told what was used and what is left."""
    async with Harness(maximum=2, walltime_s=3600, budget_node_s=5000.0) as fleet:
        await fleet.want(40)
        opened = fleet.names()
        await fleet.go_live("a0001", "1")
        fleet.assigned, fleet.waiting = {"a0001": 4}, 36
        await fleet.clock.wind(600.0)
        told_while_it_worked = list(fleet.failures)
        fleet.assigned, fleet.waiting = {}, 32
        fleet.batch.end("1", ExitReason.TIMEOUT, "TIMEOUT")
        fleet.lose("a0001")
        await fleet.clock.wind(60.0)

    assert opened == ["a0001"]
    assert told_while_it_worked == []
    # It was lost after ten minutes, so another one could be paid.
    assert fleet.names() == ["a0002"]


@on_the_loop
async def test_that_what_is_left_is_told_once():
    """The error has figures: what was used, what one allocation takes, how many tasks are left."""
    async with Harness(maximum=2, walltime_s=3600, budget_node_s=5000.0) as fleet:
        await fleet.want(40)
        await fleet.go_live("a0001", "1")
        fleet.assigned, fleet.waiting = {"a0001": 4}, 36
        await fleet.clock.wind(3000.0)
        fleet.assigned, fleet.waiting = {}, 32
        fleet.batch.end("1", ExitReason.TIMEOUT, "TIMEOUT")
        fleet.lose("a0001")
        await fleet.clock.wind(60.0)

        assert fleet.names() == []
        balance = fleet.supervisor.balance()
    [error] = fleet.failures
    assert isinstance(error, BudgetSpent)
    assert "0.83" in error.message
    assert "of 1.39 node-hours used" in error.message
    assert "32 tasks are left" in error.message
    assert balance.used_node_s == pytest.approx(3000.0, abs=10.0)
    assert [event.kind for event in fleet.events if isinstance(event, FleetNote)].count("budget") == 1


def test_that_earlier_drivers_of_a_run_count():
    """A run that is taken up again has the rest of its budget, not a new one."""
    estate = Estate()
    for at, name, state, nodes in [
        (100.0, "a0001", "submitting", ()),
        (150.0, "a0001", "starting", ("n1", "n2")),
        (160.0, "a0001", "live", ("n1", "n2")),
        (450.0, "a0001", "ended", ()),
        (200.0, "a0002", "pending", ()),
        (300.0, "a0002", "ended", ()),
        (400.0, "a0003", "live", ("n3",)),
    ]:
        estate.note(AllocationChanged(at, name, state, "because", nodes=nodes))

    assert estate.spent_node_s == 2 * 300.0
