"""Allocations of several nodes: a worker on each, and the loss of one costs what ran there and nothing else."""

from __future__ import annotations

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
