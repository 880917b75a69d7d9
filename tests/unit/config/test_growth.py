"""How far a component's memory may grow, who says so, and what is asked for then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config import growth
from scalable_hpc.config.growth import grown, rungs
from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.errors import ManifestError
from scalable_hpc.faults.escalate import LEAST_FACTOR, next_memory
from scalable_hpc.planning import make_plan
from tests.manifest_files import LOCAL

MIB, GIB = 1 << 20, 1 << 30
SLURM = LOCAL.replace("local", "slurm") + "        site: mine\n"
WORK = "    components:\n      work: {cpus: 4, memory: 8G}\n"
SITE = """
    batch: slurm
    partitions:
      small: {default: true, memory: 64G}
      large: {memory: 1T, cpus: 64}
      narrow: {memory: 4T, cpus: 2}
"""


def most_of(manifest):
    return {name: each.most for name, each in manifest.growth.items()}


@given(st.integers(16 * MIB, 512 * GIB), st.integers(16 * MIB, 4096 * GIB))
def test_that_a_task_that_always_runs_out_gets_all_there_is_in_a_few_steps(memory, most):
    """Sizes grow, end at the bound, and are no further apart than what a task is given next."""
    sizes = rungs(memory, most)

    assert sizes == sorted(set(sizes))
    assert sizes[-1:] == ([most] if most > memory else [])
    assert all(size > memory for size in sizes)
    had, tries = memory, 0
    while (following := next_memory(had, None, [memory, *sizes])) is not None:
        assert following >= min(LEAST_FACTOR * had, sizes[-1]) - 1
        had, tries = following, tries + 1
    assert had >= 0.95 * max(most, memory)
    assert tries <= 20


@pytest.mark.parametrize(
    ("target", "work", "most", "because"),
    [
        ("", WORK, 64, "partition 'small' of site 'mine'"),
        ("        partition: large\n", WORK, 1024, "partition 'large' of site 'mine'"),
        ("", WORK.replace("8G", "8G, partition: large"), 1024, "partition 'large' of site 'mine'"),
        ("", WORK.replace("8G", "8G, max_memory: 32G"), 32, "its max_memory"),
        ("", WORK.replace("8G", "8G, max_memory: 128G"), 64, "partition 'small' of site 'mine'"),
    ],
)
def test_that_memory_grows_to_the_largest_node_that_the_site_says(desk, target, work, most, because):
    """Of the partition that the component goes to; the user may say less."""
    desk.write(SITE, "site-configs/mine.yaml")

    found = desk.load(SLURM + target + work).growth["work"]

    assert found.most == most * GIB
    assert because in found.because


def test_that_where_the_batch_system_chooses_the_largest_node_that_fits_is_the_bound(desk):
    """Partitions whose nodes have too few cpus are left out."""
    desk.write(SITE.replace("default: true, ", ""), "site-configs/mine.yaml")

    assert most_of(desk.load(SLURM + WORK)) == {"work": 1024 * GIB}


@pytest.mark.parametrize(
    ("site", "work"),
    [
        ("batch: slurm\n", WORK),
        (SITE.replace("memory: 64G", "nodes: 3"), WORK),
        (SITE, WORK.replace("8G", "64G")),
        (SITE, WORK.replace("8G", "8G, max_memory: 8G")),
        (SITE, "    components:\n      work: {cpus: 4}\n"),
    ],
    ids=["a site of no facts", "a partition of unknown nodes", "all there is", "the user says so", "no memory said"],
)
def test_that_nothing_grows_where_no_bound_is_known_or_none_is_left(desk, site, work):
    """A request that nobody can serve is not made for a task's sake."""
    desk.write(site, "site-configs/mine.yaml")

    manifest = desk.load(SLURM + work)

    assert manifest.growth == {}
    assert grown(manifest).worker_types == manifest.worker_types
    assert make_plan(manifest).to_dict()["worker_types"]["work"]["memory_grows_to"] is None


def test_that_this_machine_is_not_asked_for_all_it_has(desk, monkeypatch):
    """Nine tenths; and no more than the target may use, less what it keeps."""
    here = growth.memory_here()
    assert here is not None
    assert here > GIB
    small = WORK.replace("8G", "100M")

    assert most_of(desk.load(LOCAL + small))["work"] == pytest.approx(0.9 * here, abs=MIB)
    bounded = LOCAL + "        capacity: {cpus: 8, memory: 1G}\n        allocations: {min: 1, max: 2}\n" + small
    assert most_of(desk.load(bounded)) == {"work": GIB - 100 * MIB}


def test_that_a_bound_below_the_memory_is_an_error(desk):
    """With the key and both figures."""
    with pytest.raises(ManifestError, match="max_memory is 4 GiB, less than the memory, 8 GiB"):
        desk.load(LOCAL + WORK.replace("8G", "8G, max_memory: 4G"))


def test_that_a_larger_request_differs_in_memory_alone_and_is_made_only_when_needed(desk):
    """The component's own queue and number of allocations, none kept; and no names that components have."""
    desk.write(SITE, "site-configs/mine.yaml")
    work = WORK.replace("8G", "8G, partition: large, allocations: {max: 3}") + "      work-32G: {cpus: 1}\n"
    manifest = desk.load(SLURM + "        allocations: {min: 1, max: 2}\n" + work)

    larger = grown(manifest)
    new = [name for name in larger.worker_types if name not in manifest.worker_types]
    limits = allocation_limits(larger)

    assert new[:2] == ["work-16G", "work-64G"]
    assert new[-1] == "work-1024G"
    for name in new:
        kind, own = larger.worker_types[name], larger.worker_types["work"]
        assert (kind.cpus, kind.slots, kind.grown_from, kind.fallbacks) == (own.cpus, own.slots, "work", ())
        assert (limits[name].minimum, limits[name].maximum, limits[name].is_grown) == (0, 3, True)
        assert larger.target_of(name).partition == "large"
    assert (limits["work"].minimum, limits["work"].is_grown) == (1, False)


def test_that_the_plan_shows_the_bound_and_who_set_it(desk):
    """In words, and as data."""
    desk.write(SITE, "site-configs/mine.yaml")
    plan = make_plan(desk.load(SLURM + WORK))

    assert (
        "  a task of it that runs out of memory is given more, up to 64 GiB a node"
        " (the largest node of partition 'small' of site 'mine')" in str(plan)
    )
    assert plan.to_dict()["worker_types"]["work"]["memory_grows_to"] == {
        "most": 64 * GIB,
        "because": "the largest node of partition 'small' of site 'mine'",
    }
