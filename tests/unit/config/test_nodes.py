"""A component may say how many nodes each of its tasks has."""

import pytest

from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.errors import ManifestError
from scalable_hpc.planning import make_plan

MANIFEST = """
    version: 1
    targets:
      cluster: {provider: slurm, allocations: {max: 2ALLOCATION}}
    components:
      solver: {cpus: 32, memory: 100G, nodes: 2}
      single: {cpus: 4}
"""


def load(desk, nodes=None, **changes):
    text = MANIFEST.replace("ALLOCATION", "" if nodes is None else f", nodes: {nodes}")
    for old, new in changes.items():
        text = text.replace(old, new)
    return desk.load(text)


@pytest.mark.parametrize(("nodes", "expected", "slots"), [(None, 2, 1), (2, 2, 1), (4, 4, 2), (5, 5, 2)])
def test_that_an_allocation_has_a_slot_for_each_group_of_nodes(desk, nodes, expected, slots):
    """As many nodes as a task has unless said otherwise, and that many tasks at a time fit into more."""
    limits = allocation_limits(load(desk, nodes))

    assert (limits["solver"].nodes, limits["solver"].slots) == (expected, slots)
    assert limits["single"].nodes == (nodes or 1), "the other component is as it was"
    assert limits["single"].slots == 4 * (nodes or 1)


def test_that_nodes_that_no_task_can_have_are_told(desk):
    """With the lines that say both numbers, and one that fits."""
    [told] = [issue for issue in load(desk, 5).warnings if issue.code == "W_IDLE_NODES"]

    assert told.message == "nodes is 2, and allocations.nodes is 5 (scalable.yaml:3): 1 of them stay idle"
    assert (told.path, told.line) == ("components.solver.nodes", 5)
    assert told.hint == "allocations: {nodes: 4}"


@pytest.mark.parametrize(
    ("own", "place"),
    [("nodes: 3", "scalable.yaml:3"), ("nodes: 3, allocations: {nodes: 2}", "scalable.yaml:5")],
    ids=["the target's", "its own"],
)
def test_that_more_nodes_than_an_allocation_has_are_refused(desk, own, place):
    """Where both are written, and what to write instead."""
    with pytest.raises(ManifestError) as told:
        load(desk, 2, **{"nodes: 2}\n": f"{own}}}\n"})

    assert "scalable.yaml:5" in str(told.value)
    assert f"nodes is 3, more than an allocation has: allocations.nodes is 2 ({place})" in str(told.value)
    assert "allocations: {nodes: 3}" in str(told.value)


def test_that_a_task_shares_its_nodes_with_no_other(desk):
    """Slots beside it on the same nodes are refused."""
    with pytest.raises(ManifestError, match="slots is 2, nodes is 2: a task that has several nodes has"):
        load(desk, 4, **{"nodes: 2}\n": "nodes: 2, slots: 2}\n"})


def test_that_on_this_machine_it_counts_with_all_of_its_cpus(desk):
    """Its allocation is one of one node all the same, and its script names those that it would have."""
    loaded = load(desk, **{"provider: slurm,": "provider: local, capacity: {cpus: 128},"})
    plan = make_plan(loaded)

    assert (plan.limits["solver"].nodes, plan.limits["solver"].slots) == (1, 1)
    assert "#LOCAL cpus=64" in plan.scripts["solver"]
    assert "SCALABLE_HPC_HOSTS=$HOSTNAME-1" in plan.scripts["solver"]
    assert "SCALABLE_HPC_HOSTS" not in plan.scripts["single"]


def test_that_a_plan_tells_the_slots_of_several_nodes(desk):
    """In words and as data."""
    plan = make_plan(load(desk, 4))

    assert "2 allocations of 4 node(s) x 1/2 slot for" in str(plan)
    assert plan.to_dict()["worker_types"]["solver"]["nodes_per_worker"] == 2
