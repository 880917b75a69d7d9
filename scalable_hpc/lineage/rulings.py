"""What follows when something happened to a task: events, for the keeper to apply, journal and act on.

Rule 1: pure, and nothing is applied here: a ruling reads the ledger and returns the events.
Rule 2: every task that fails for good gets one ``TaskGivenUp``, whatever else is said about it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from scalable_hpc.faults.escalate import next_timeout_s
from scalable_hpc.faults.history import TaskHistory, more_memory, wants_more_memory
from scalable_hpc.faults.judge import Judgement, judge
from scalable_hpc.faults.retry import Action, Decision, decide
from scalable_hpc.lineage.descent import fallen, shortened
from scalable_hpc.lineage.last_words import last_words
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.model.events import (
    AttemptFailed,
    AttemptRejoined,
    Event,
    ReceiptTaken,
    ResultsDiffer,
    TaskCancelled,
    TaskGivenUp,
)
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Locator, Receipt, Verdict
from scalable_hpc.model.units import format_memory


def on_receipt(ledger: Ledger, receipt: Receipt, now: float) -> list[Event]:
    """Take a receipt: the first one for a task ends it, and all that are attached to it; later ones are only noted."""
    record = ledger.tasks.get(receipt.attempt.task_id)
    if record is None:
        return []
    is_stored_now = record.held_by is not None and not receipt.result.held
    taken = _taken(record, receipt, now, late=record.is_over and not is_stored_now)
    if record.is_over:
        return [taken]
    return [taken, *_shared(ledger, record, receipt.result, now), *_compared(ledger, record, receipt, now)]


def on_found(ledger: Ledger, record: TaskRecord, found: Locator, now: float) -> list[Event]:
    """Take a result that lay in the store already, published by an attempt whose receipt got lost."""
    return [reused(record, found, now), *_shared(ledger, record, found, now)]


def on_evidence(
    ledger: Ledger, evidence: Evidence, now: float, rng: random.Random, sizes: tuple[int, ...] = ()
) -> list[Event]:
    """Judge an attempt that ended without a receipt; one that is not its task's current attempt is no news.

    Args:
        ledger: every task.
        evidence: how the attempt ended.
        now: seconds since the epoch.
        rng: for the jitter of a wait.
        sizes: memory of the workers that could run the task, smallest first (bytes); empty: not known.
    """
    record = ledger.tasks.get(evidence.attempt.task_id)
    if record is None or record.state is not TaskState.SENT or evidence.attempt.number != record.attempts:
        return []
    history = replace(record.history, sizes=sizes)
    judgement = judge(evidence, history, record.policy)
    decision = decide(judgement, history, record.policy, now, rng)
    failed = _attempt_failed(evidence, record, judgement, decision, now)
    if decision.action is not Action.GIVE_UP:
        return [_with_more(failed, evidence, record, history)]
    error_type, error = last_words(evidence, record, judgement, decision, history)
    return [failed, *give_up(ledger, record, error_type, error, failed.because, now)]


def give_up(ledger: Ledger, record: TaskRecord, error_type: str, error: str, because: str, now: float) -> list[Event]:
    """Fail a task for good, with the tasks attached to it and all that wait for its result."""
    given_up = TaskGivenUp(now, record.task_id, error_type, error, because)
    return [given_up, *fallen(ledger, record, shortened(f"failed: {error_type}: {error}"), given_up, now)]


def cancel(ledger: Ledger, task_id: str, because: str, now: float) -> list[Event]:
    """Cancel a task; those that wait for its result fail, those that are attached to it go their own way.

    The failures come first, so that none of them is chosen to stand for the key that the task leaves.
    """
    record = ledger.tasks.get(task_id)
    if record is None or record.is_over:
        return []
    with_it = fallen(ledger, record, f"was cancelled: {because}", None, now)
    return [*with_it, TaskCancelled(now, task_id, because)]


def on_submitted(ledger: Ledger, record: TaskRecord, now: float) -> list[Event]:
    """Fail a task that cannot be run: an ancestor has failed or been cancelled, or the same call is in quarantine."""
    if record.is_over:
        return []
    for ancestor_id, _ in record.ancestors:
        ancestor = ledger.tasks.get(ancestor_id)
        if ancestor is not None and ancestor.state in (TaskState.FAILED, TaskState.CANCELLED):
            why = shortened(f"failed: {ancestor.error}") if ancestor.state is TaskState.FAILED else "was cancelled"
            message = f"{record.task_id!r} was not run: {record.task_id} <- {ancestor_id} {why}"
            return give_up(ledger, record, "AncestorFailed", message, message, now)
    return _quarantined(ledger, record, now)


def on_rejoined(ledger: Ledger, attempt: AttemptId, worker: str, allocation: str, now: float) -> list[Event]:
    """Take an attempt that a worker has brought back, if it is its task's latest; nothing is held against it."""
    record = ledger.tasks.get(attempt.task_id)
    if record is None or not record.may_rejoin(attempt.number):
        return []
    return [AttemptRejoined(now, attempt.task_id, attempt.number, worker, allocation)]


def _quarantined(ledger: Ledger, record: TaskRecord, now: float) -> list[Event]:
    """Fail a call that an earlier driver of the run had convicted, without running it."""
    convict = ledger.quarantined.get((record.store, record.key))
    if convict is None or record.is_over:
        return []
    error = f"{record.task_id!r} was not run: the same call, {convict!r}, was quarantined under an earlier driver"
    return give_up(ledger, record, "TaskKilled", error, f"{error} ({ledger.tasks[convict].error})", now)


def _shared(ledger: Ledger, leader: TaskRecord, result: Locator, now: float) -> list[Event]:
    """Give a result to the tasks with the same key that were attached to the one that made it."""
    return [reused(ledger.tasks[task_id], result, now) for task_id in ledger.followers(leader.task_id)]


def _compared(ledger: Ledger, record: TaskRecord, receipt: Receipt, now: float) -> Iterator[ResultsDiffer]:
    """Report a result that is not the one that it was to confirm."""
    first = ledger.tasks.get(record.verifies or "")
    if first is not None and first.result is not None and first.result.digest != receipt.result.digest:
        because = f"{first.task_id!r} was computed once more and gave another result; the first one stays"
        digests = first.result.digest, receipt.result.digest
        yield ResultsDiffer(now, first.task_id, *digests, record.task_id, receipt.node, because)


def _taken(record: TaskRecord, receipt: Receipt, now: float, *, late: bool) -> ReceiptTaken:
    return ReceiptTaken(
        at=now,
        task_id=receipt.attempt.task_id,
        attempt=receipt.attempt.number,
        digest=receipt.result.digest,
        size=receipt.result.size,
        started_at=receipt.started_at,
        ended_at=receipt.ended_at,
        peak_memory=receipt.peak_memory,
        node=receipt.node,
        allocation=receipt.allocation,
        reused=receipt.reused,
        cold=receipt.cold,
        late=late,
        store=_elsewhere(record, receipt.result),
        stray=receipt.stray,
        held_by=receipt.worker if receipt.result.held else None,
    )


def _elsewhere(record: TaskRecord, result: Locator) -> str | None:
    """Return the store of a result that does not lie in its task's own."""
    return None if result.store == record.store else result.store


def _attempt_failed(
    evidence: Evidence, record: TaskRecord, judgement: Judgement, decision: Decision, now: float
) -> AttemptFailed:
    facts = evidence.exception
    return AttemptFailed(
        at=now,
        task_id=record.task_id,
        attempt=record.attempts,
        ending=evidence.ending.value,
        verdict=judgement.verdict.value,
        charged=judgement.charged,
        decision=decision.action.value,
        because=f"{judgement.because}; {decision.because}",
        retry_at=decision.retry_at,
        worker=evidence.worker or record.worker,
        allocation=evidence.allocation or record.allocation,
        node=evidence.node,
        error_type=facts.type_name if facts else None,
        error=facts.message if facts else None,
        traceback=facts.traceback if facts else "\n".join(filter(None, (evidence.log_tail, evidence.job_log))),
        exit_code=evidence.exit_code,
        signal=evidence.signal,
        ran_s=evidence.ran_s,
        peak_memory=evidence.peak_memory,
        allocation_reason=evidence.allocation_reason,
        checkpoint=facts.checkpoint if facts else None,
        together=evidence.together,
        worker_end=evidence.worker_end or None,
        time_left_s=evidence.time_left_s,
        allocation_raw=evidence.allocation_raw,
    )


def _with_more(failed: AttemptFailed, evidence: Evidence, record: TaskRecord, history: TaskHistory) -> AttemptFailed:
    """Give the next attempt more of what this one ran out of."""
    if wants_more_memory(evidence, history, record.policy):
        memory = more_memory(evidence, history)
        told = "" if memory is None else f" with {format_memory(memory)} of memory"
        return replace(failed, next_memory=memory, because=failed.because + told)
    is_limited = record.policy.limit_of(Verdict.RESOURCE) is not None
    if evidence.ending is Ending.TIMEOUT and record.timeout_s is not None and is_limited:
        timeout_s = next_timeout_s(record.timeout_s)
        return replace(failed, next_timeout_s=timeout_s, because=f"{failed.because} with a timeout of {timeout_s:g} s")
    return failed


def reused(record: TaskRecord, found: Locator, now: float) -> ReceiptTaken:
    """Return the receipt of a task whose result was found, not computed."""
    return ReceiptTaken(
        now,
        record.task_id,
        record.attempts,
        found.digest,
        found.size,
        started_at=now,
        ended_at=now,
        peak_memory=0,
        node="",
        allocation="",
        reused=True,
        store=_elsewhere(record, found),
    )
