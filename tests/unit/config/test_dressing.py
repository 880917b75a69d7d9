"""A target that is played by this machine: limits and shapes stay, time is shorter, nothing real is asked."""

from __future__ import annotations

import pytest

from scalable_hpc.config.dressing import LEAST_WALLTIME_S, Rehearsal, dressed, factor_for, from_text, to_text

MANIFEST = """
    version: 1
    targets:
      cluster:
        provider: slurm
        interface: ib0
        nodes: 4
        node_local: /local/scratch
        modules: [gcc]
        setup: ["ulimit -s unlimited"]
        scheduler_ports: 40000-40100
        commands: {sbatch: /opt/site/sbatch}
        allocations: {max: 8, walltime: "04:00:00", nodes: 4, array: 4}
        clusters: c2
    components:
      model: {cpus: 64, memory: 128G, gpus: 4, image_name: gcam.sif}
    tasks:
      run: {component: model, expected_runtime: 20m, timeout: 1h}
"""


@pytest.fixture
def manifest(desk):
    return desk.load(MANIFEST.replace(", image_name: gcam.sif", "").replace("        nodes: 4\n", ""), "cluster")


def test_that_nothing_real_is_ever_asked(manifest):
    """Whatever the target is, it is played on this machine, on its loopback, by no command of the site's."""
    target = dressed(manifest, Rehearsal(100.0)).target

    assert (target.provider, target.plays) == ("local", "slurm")
    assert (target.interface, target.scheduler_ports, target.nodes) == ("lo", None, 1)
    assert (target.array, target.clusters) == (1, None)
    assert dict(target.commands) == {}
    assert target.node_local is None


def test_that_time_is_compressed_and_the_users_own_is_not(manifest):
    """Walltime, waits and expected run times by the factor; a timeout is of the user's code, which is no quicker."""
    played = dressed(manifest, Rehearsal(480.0, queue_wait_s=4800.0))

    assert played.target.walltime_s == 30
    assert played.target.queue_wait_s == pytest.approx(10.0)
    assert played.tasks["run"].expected_runtime_s == pytest.approx(2.5)
    assert played.tasks["run"].timeout_s == 3600.0
    assert played.factor == 480.0


def test_that_every_allocation_that_the_target_allows_can_be_played_at_once(manifest):
    """With one more for each that is replaced before its end; the shape of a worker stays, but for its slots."""
    played = dressed(manifest, Rehearsal(480.0, cpus=2))

    kind = played.worker_types["model"]
    assert (kind.cpus, kind.memory, kind.gpus, kind.slots) == (64, 128 * 2**30, 4, min(2, kind.slots))
    assert played.target.allocations_max == manifest.target.allocations_max
    assert played.target.capacity_cpus == 2 * 8 * 64


def test_that_software_is_used_unless_it_is_left_out(manifest):
    """A login node has the site's modules, a laptop has not."""
    with_it = dressed(manifest, Rehearsal(10.0)).target
    without = dressed(manifest, Rehearsal(10.0, software=False)).target

    assert (with_it.modules, with_it.setup) == (("gcc",), ("ulimit -s unlimited",))
    assert (without.modules, without.setup, without.use_containers) == ((), (), False)


@pytest.mark.parametrize("factor", [1.0, 7.0, 1e3, 1e6])
def test_that_no_factor_leaves_less_than_a_worker_needs_to_start(manifest, factor):
    """Margin and lead leave most of the walltime to work in."""
    target = dressed(manifest, Rehearsal(factor)).target

    assert target.walltime_s >= LEAST_WALLTIME_S
    assert target.margin_s + target.lead_s < target.walltime_s / 2


def test_that_a_rehearsal_survives_the_environment():
    """It is told to the driver as text."""
    told = Rehearsal(12.5, 60.0, software=False, cpus=3)

    assert from_text(to_text(told)) == told


def test_that_a_short_walltime_is_played_as_it_is():
    """No factor below one: nothing is made slower."""
    assert factor_for(20, 30) == 1.0
    assert factor_for(14400, 30) == 480.0
