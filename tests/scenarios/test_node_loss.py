"""A real Slurm cluster loses a node and an allocation in the middle of an ensemble."""

from __future__ import annotations

import pytest

from tests.ensembles import (
    AttemptFailed,
    AttemptPlaced,
    ReceiptTaken,
    allocations_of,
    make_ensemble,
    of_kind,
    reasons_of,
)
from tests.waiting import wait_until

COUNT = 60


@pytest.mark.slurm
@pytest.mark.timeout(300)
def test_that_an_ensemble_survives_a_node_power_cut_and_a_scancel(slurm, tmp_path):
    """60 right results, none with a receipt executed twice, nothing charged, the lost capacity replaced."""
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "allocations": {"min": 0, "max": 2, "walltime": "00:10:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=2.0)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("ten scenarios done", lambda: sum(ensemble.counted("end").values()) >= 10, timeout=60)
        first = {event.allocation: event for event in of_kind(ensemble.events(), AttemptPlaced)}
        assert len(first) >= 2, "both allocations should be at work by now"
        victim, cancelled = sorted(first)[:2]
        jobs = {name: life[-1] for name, life in allocations_of(ensemble.events()).items()}
        node = slurm.run(["squeue", "-h", "-o", "%N", "-j", jobs[victim].job_id]).strip()
        # The cut is silent: the controller notices by itself after some 16 s, when this ensemble may be over already.
        slurm.node("crash", node)
        slurm.run(["scancel", jobs[cancelled].job_id])
        out, err = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"
    assert f"complete {COUNT}" in out

    events = ensemble.events()
    receipts = {event.task_id: event for event in of_kind(events, ReceiptTaken) if not event.late}
    assert len(receipts) == COUNT
    placed_after_receipt = [
        event
        for event in of_kind(events, AttemptPlaced)
        if event.task_id in receipts and event.at > receipts[event.task_id].at
    ]
    assert placed_after_receipt == []
    ended = ensemble.counted("end")
    assert set(ended) == set(range(COUNT))
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []

    reasons = reasons_of(events)
    why: dict[str, set[str | None]] = {victim: set(), cancelled: set()}
    for event in of_kind(events, AttemptFailed):
        why.setdefault(event.allocation, set()).add(reasons[event.task_id, event.attempt])
    assert why[victim] == {"node_fail"}
    # scancel leaves running attempts the grace time until SIGKILL, in which those of two seconds may well finish
    assert why[cancelled] <= {"cancelled"}
    lives = allocations_of(events)
    assert lives[victim][-1].reason == "node_fail"
    assert lives[cancelled][-1].reason == "cancelled"
    assert len(lives) >= 3, "the lost capacity was not replaced"
    more_than_once = sum(ensemble.counted("start").values()) - COUNT
    assert more_than_once <= len(of_kind(events, AttemptFailed)), "a scenario was run again for no recorded reason"
