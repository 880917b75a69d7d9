"""Every batch system loses a node and an allocation in the middle of an ensemble."""

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

COUNT = 60


@pytest.mark.timeout(300)
def test_that_an_ensemble_survives_a_node_power_cut_and_a_cancelled_job(batch_system, tmp_path):
    """60 right results, none with a receipt executed twice, nothing charged, the lost capacity replaced."""
    target = batch_system.target(most=2)
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=2.0, cpus=batch_system.cpus)
    driver = ensemble.start(env=batch_system.env)
    try:
        batch_system.wait("ten scenarios done", lambda: len(ensemble.counted("end")) >= 10, 60)

        def at_work() -> list[str]:
            return sorted({event.allocation for event in of_kind(ensemble.events(), AttemptPlaced)})

        batch_system.wait("both allocations at work", lambda: len(at_work()) >= 2, 10)
        victim, cancelled = at_work()[:2]
        jobs = {name: life[-1] for name, life in allocations_of(ensemble.events()).items()}
        # The cut is silent: what it took along may be run again before the batch system tells of it.
        batch_system.cut_off(ensemble, jobs[victim].job_id)
        batch_system.cancel(ensemble, jobs[cancelled].job_id)
        out, err = driver.communicate(timeout=200 * batch_system.slowness)
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
        # assigned a moment before the cut, or refused by a worker that was already leaving: nothing to explain
        if event.ending == "never_started" or event.verdict == "expected":
            continue
        why.setdefault(event.allocation, set()).add(reasons[event.task_id, event.attempt])
    assert why[victim]
    assert why[victim] <= batch_system.lost
    # cancelled jobs have the grace time until SIGKILL, in which attempts of two seconds may well finish
    assert why[cancelled] <= batch_system.cancelled
    lives = allocations_of(events)
    assert lives[victim][-1].reason in batch_system.lost
    assert lives[cancelled][-1].reason in batch_system.cancelled
    assert len(lives) >= 3, "the lost capacity was not replaced"
    more_than_once = sum(ensemble.counted("start").values()) - COUNT
    assert more_than_once <= len(of_kind(events, AttemptFailed)), "a scenario was run again for no recorded reason"
