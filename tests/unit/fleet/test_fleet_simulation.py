"""The benchmark of the fleet, on a small machine: what its laws are is seen by every test run."""

import pytest

from benchmarks.fleet_simulation import AsAdaptive, KeepJobs, Planner, simulate


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


@pytest.mark.slow
def test_that_an_event_costs_the_same_in_a_large_fleet():
    """Eight times as many nodes: as much for each event, and not eight times as much."""
    small = simulate(Planner, scenarios=100 * 64, nodes=64)
    large = simulate(Planner, scenarios=100 * 512, nodes=512)

    assert large.event_us <= 2.5 * small.event_us
