from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.fit import Ask, listed, longest_walltime, misfits, per_limit
from scalable_hpc.config.site_schema import Partition

HOUR, GIB = 3600, 2**30
WHOLE = Partition.model_validate({"walltime": "1d", "nodes": 8, "cpus": 64, "memory": "240G", "gpus": 0})
numbers = st.integers(1, 10**6)


def ask(**changes):
    return Ask(
        **{"worker_type": "model", "nodes": 1, "cpus": 8, "memory": None, "gpus": 0, "walltime_s": HOUR} | changes
    )


def test_that_each_limit_refuses_with_both_numbers():
    """What was asked for, and what there is."""
    wrong = misfits(ask(nodes=9, cpus=65, memory=241 * GIB, gpus=1, walltime_s=25 * HOUR), WHOLE)

    assert wrong == [
        "9 nodes are more than 8",
        "walltime 1-01:00:00 is longer than 1-00:00:00",
        "65 cpus are more than a node has, 64",
        "241 GiB are more than a node has, 240 GiB",
        "1 gpus are more than a node has, 0",
    ]


def test_that_the_limit_itself_is_allowed():
    """Limits are what may be had, not what may not."""
    assert misfits(ask(nodes=8, cpus=64, memory=240 * GIB, walltime_s=24 * HOUR), WHOLE) == []


@given(numbers, numbers, numbers, numbers, numbers)
def test_that_a_limit_that_says_nothing_refuses_nothing(nodes, cpus, memory, gpus, walltime):
    """Facts that nobody published are not invented."""
    assert misfits(ask(nodes=nodes, cpus=cpus, memory=memory, gpus=gpus, walltime_s=walltime), Partition()) == []


def test_that_the_walltime_may_depend_on_the_size():
    """Each size has the walltime of the first bin that holds it; above all bins the plain limit counts."""
    bins = [{"nodes": 183, "walltime": "06:00:00"}, {"nodes": 91, "walltime": "02:00:00"}]
    limit = Partition.model_validate({"bins": bins, "walltime": "12:00:00"})

    assert [longest_walltime(limit, nodes) for nodes in (1, 91, 92, 183, 184)] == [
        2 * HOUR, 2 * HOUR, 6 * HOUR, 6 * HOUR, 12 * HOUR,
    ]  # fmt: skip
    assert misfits(ask(nodes=92, walltime_s=7 * HOUR), limit) == [
        "walltime 07:00:00 is longer than 06:00:00 for 92 node(s)"
    ]


@given(numbers, numbers)
def test_that_a_smaller_request_never_fits_worse(cpus, walltime):
    """Less of everything has no more reasons against it (but for the fewest nodes)."""
    big, small = ask(cpus=cpus + 1, walltime_s=walltime + 1), ask(cpus=cpus, walltime_s=walltime)

    assert len(misfits(small, WHOLE)) <= len(misfits(big, WHOLE))


def test_that_a_job_can_be_too_small():
    """Queues for large jobs refuse small ones."""
    assert misfits(ask(nodes=3), Partition.model_validate({"least_nodes": 10})) == ["3 nodes are fewer than 10"]


def test_that_every_limit_is_listed_with_its_reasons():
    """One line each; what fits says so."""
    limits = {"whole": WHOLE, "any": Partition()}

    assert listed(per_limit(ask(cpus=65), limits)) == "  whole: 65 cpus are more than a node has, 64\n  any: fits"
