"""Allocations of several nodes: a worker on each, and the loss of one costs what ran there and nothing else."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.ensembles import (
    AttemptFailed,
    AttemptPlaced,
    FleetNote,
    ReceiptTaken,
    allocations_of,
    make_ensemble,
    of_kind,
    reasons_of,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(150)]

COUNT = 40
NODES = 4


@pytest.mark.parametrize("is_first", [True, False], ids=["the one that runs the script", "another"])
def test_that_an_allocation_of_four_nodes_loses_one_and_goes_on(slurm, tmp_path, is_first):
    """The job stays, the other nodes' attempts are undisturbed, what ran on the lost one runs again, uncharged."""
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "poll": 1,
        "allocations": {"min": 0, "max": 1, "nodes": NODES, "walltime": "00:10:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=3.0, cpus=2)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("results", lambda: ensemble.counted("end"), timeout=60)

        def nodes() -> set[str]:
            return {event.node for event in of_kind(ensemble.events(), ReceiptTaken)}

        wait_until("results of every node", lambda: len(nodes()) == NODES, timeout=30)
        job_id = allocations_of(ensemble.events())["a0001"][-1].job_id
        batch_host = slurm.run(["squeue", "-h", "-O", "BatchHost", "-j", job_id]).strip()
        lost = batch_host if is_first else max(nodes() - {batch_host})
        slurm.node("crash", lost)
        out, err = driver.communicate(timeout=110)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"

    events = ensemble.events()
    receipts = {event.task_id: event for event in of_kind(events, ReceiptTaken) if not event.late}
    assert len(receipts) == COUNT
    after = [e for e in of_kind(events, AttemptPlaced) if e.task_id in receipts and e.at > receipts[e.task_id].at]
    assert after == []
    failed = of_kind(events, AttemptFailed)
    assert [event for event in failed if event.charged] == []
    assert {event.node for event in failed} == {lost}
    assert set(reasons_of(events).values()) == {"node_fail"}
    assert sum(ensemble.counted("start").values()) == COUNT + len(failed)
    [note] = [event.because for event in of_kind(events, FleetNote) if event.kind == "nodes_lost"]
    assert note == f"the batch system took {lost} out of a0001 (job {job_id}): it goes on with 3 of 4 nodes"
    lives = allocations_of(events)
    assert list(lives) == ["a0001"]
    assert lives["a0001"][-1].reason in ("completed", "cancelled")


MPI = """
import json, subprocess, sys
from scalable_hpc import ScalableSession, context


def ranks(number):
    here = context()
    say = ["bash", "-c", "echo $(hostname) $SLURM_PROCID$OMPI_COMM_WORLD_RANK"]
    own = ["srun", "--nodes=1", f"--nodelist={{here.hosts[0]}}", f"--ntasks={{here.cpus}}"]
    for command in (own, ["srun", f"--ntasks={{here.cpus}}"], here.launch(), {mpiexec!r} and [{mpiexec!r}, "-n", "2"]):
        found = command and subprocess.run([*command, *say], capture_output=True, text=True, timeout=60)
        yield (sorted(found.stdout.split(chr(10))), found.stderr) if found else None


def tell(number):
    return context().hosts, context().cpus, list(ranks(number))


if __name__ == "__main__":
    with ScalableSession.from_yaml({manifest!r}) as client:
        print(json.dumps([future.result() for future in client.map(tell, range(4), cpus=2)]))
"""


def test_that_a_task_starts_ranks_on_the_cpus_that_it_has(slurm, tmp_path):
    """In a worker that srun itself started: two ranks for a task of two cpus, on its own node, side by side."""
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "poll": 1,
        "allocations": {"max": 1, "nodes": 2, "walltime": "00:10:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=4, seconds=0.0)
    mpiexec = shutil.which("mpiexec.openmpi") or ""
    ensemble.driver.write_text(MPI.format(manifest=str(tmp_path / "scalable.yaml"), mpiexec=mpiexec))
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    ended = ensemble.run(env={**slurm.env, **allowed}, timeout=90)
    assert ended.returncode == 0, ended.stderr

    for hosts, cpus, found in json.loads(ended.stdout):
        assert cpus == 2
        expected = ["", f"{hosts[0]} 0", f"{hosts[0]} 1"]
        assert [lines for lines, _ in filter(None, found)] == [expected] * (4 if mpiexec else 3), found
