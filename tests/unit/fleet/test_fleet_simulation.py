"""The benchmark of the fleet, on a small machine: what its laws are is seen by every test run."""

import pytest

from benchmarks.fleet_simulation import (
    AsAdaptive,
    KeepJobs,
    Planner,
    Taught,
    TaughtWholeWalltimes,
    simulate,
    wait_of,
)


@pytest.fixture(scope="module")
def ours():
    return simulate(Planner, scenarios=6000, nodes=24, seed=1)


def test_that_allocated_nodes_are_used(ours):
    """Walltimes, long queues, failing nodes: nine tenths of the node-hours at least are useful."""
    assert ours.left == 0
    assert ours.useful >= 0.9


@pytest.mark.parametrize("policy", [KeepJobs, AsAdaptive])
def test_that_successors_save_the_wait(ours, policy):
    """A job that is asked for when another has ended leaves its nodes empty for as long as it waits."""
    other = simulate(policy, scenarios=6000, nodes=24, seed=1)

    assert ours.days < 0.8 * other.days
    assert ours.cut_off < 0.1 * other.cut_off


def test_that_shorter_requests_end_an_ensemble_of_some_hours_sooner_and_lose_nothing():
    """Shorter jobs wait less; what is cut off is what nodes that fail cut off."""
    whole, short = (
        [simulate(policy, scenarios=400, nodes=40, seed=seed) for seed in range(6)]
        for policy in (TaughtWholeWalltimes, Taught)
    )

    assert sum(each.days for each in short) < 0.85 * sum(each.days for each in whole)
    assert sum(each.left for each in short) == 0
    assert sum(each.cut_off for each in short) <= sum(each.cut_off for each in whole) + 2
    assert sum(each.allocated_h for each in short) < 1.1 * sum(each.allocated_h for each in whole)


def test_that_waits_grow_with_the_walltime_that_is_asked_for():
    """As published, in the mean of the logarithms; between two walltimes in between."""
    half, three, day = (wait_of(int(hours * 3600))[0] for hours in (0.5, 3, 24))

    assert half < three < day
    assert wait_of(300) == wait_of(1800)


@pytest.mark.slow
def test_that_an_event_costs_the_same_in_a_large_fleet():
    """Eight times as many nodes: as much for each event, and not eight times as much."""
    small = simulate(Planner, scenarios=100 * 64, nodes=64)
    large = simulate(Planner, scenarios=100 * 512, nodes=512)

    assert large.event_us <= 2.5 * small.event_us
