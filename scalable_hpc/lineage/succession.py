"""What follows for tasks of an earlier driver when another one takes its run over, and makes its calls again.

Rule 1: pure, and nothing is applied here: a ruling reads the ledger and returns the events.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.rulings import give_up, on_evidence, on_submitted, reused
from scalable_hpc.model.events import Event, TaskGivenUp, TaskRevived, TaskSubmitted
from scalable_hpc.model.tasks import Ending, Evidence


def on_submitted_again(ledger: Ledger, call: TaskSubmitted, now: float) -> list[Event]:
    """Try a task again that ended without a result under an earlier driver: its user has made the call again.

    One that was convicted is not run; how it failed is told once more. Nothing follows for a task that is open, or has
    a result.
    """
    record = ledger.tasks[call.task_id]
    if record.state not in (TaskState.FAILED, TaskState.CANCELLED):
        return []
    convict = ledger.quarantined.get((record.store, record.key))
    if convict is None:
        return [TaskRevived(now, call.task_id, "its call was submitted again", call)]
    why = "it was quarantined under an earlier driver"
    error_type, _, error = ledger.tasks[convict].error.partition(": ")
    told = error if why in error else f"{call.task_id!r} was not run again, {why}: {error}"
    return [TaskGivenUp(now, call.task_id, error_type, told, why)]


def on_new_driver(
    ledger: Ledger, now: float, rng: random.Random, awaited: Collection[str] = ()
) -> Iterator[list[Event]]:
    """Settle what a driver that ended left open; apply each ruling before asking for the next.

    Args:
        ledger: as that driver left it.
        now: seconds since the epoch.
        rng: for jitter.
        awaited: allocations whose workers may come back with what they have in hand.
    """
    for record in list(ledger.in_state(TaskState.SENT)):
        if record.allocation in awaited:
            continue
        ended = Evidence(
            record.attempt,
            Ending.WORKER_LOST,
            now,
            worker=record.worker,
            allocation=record.allocation,
            expected=True,
            log_tail="the driver that had sent it ended",
        )
        yield on_evidence(ledger, ended, now, rng)
    for record in list(ledger.in_state(TaskState.ATTACHED)):
        leader = ledger.tasks[record.leader or ""]
        if leader.result is not None:
            yield [reused(record, leader.result, now)]
        elif leader.state is TaskState.FAILED:
            error_type, _, error = leader.error.partition(": ")
            yield give_up(ledger, record, error_type, error, f"the same call as {leader.task_id}, which failed", now)
    for record in list(ledger.in_state(TaskState.WAITING, TaskState.ATTACHED)):
        yield on_submitted(ledger, record, now)


def on_retry_quarantined(ledger: Ledger, now: float) -> Iterator[Event]:
    """Revive what was convicted under earlier drivers, the same calls, and what was not run because of them.

    Apply each event before asking for the next.
    """
    revived: set[str] = set()
    calls = {(record.store, record.key) for record in ledger.in_state(TaskState.FAILED) if record.is_quarantined}
    for record in list(ledger.in_state(TaskState.FAILED)):
        has_fallen = record.error.startswith("AncestorFailed") and any(name in revived for name, _ in record.ancestors)
        if (record.store, record.key) in calls or has_fallen:
            revived.add(record.task_id)
            yield TaskRevived(now, record.task_id, "its user wants quarantined tasks to be tried again")
