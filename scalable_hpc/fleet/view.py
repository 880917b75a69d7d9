"""What is heard of one allocation, folded into what is known of it; pure.

Rule 1: ENDED is final, and only the batch system's word (or a submission that never was) makes it so.
Rule 2: a job that the batch system does not know is not over for that; only after ``UNKNOWN_PATIENCE_S`` of answers
    that do not know it, without a worker, is it given up.
Rule 3: silence (``BatchSilent``) is no observation and never reaches this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scalable_hpc.fleet.known import RECONCILED, Known, Word
from scalable_hpc.model.allocations import AllocationState, ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.fleet import AllocationView
from scalable_hpc.model.messages import WorkerDraining, WorkerHello
from scalable_hpc.model.units import format_time

UNKNOWN_PATIENCE_S = 900.0
"""Accounting can lag by minutes, and a controller that was restored from a backup learns of its jobs late."""
UNKNOWN_AFTER_CLOSE_S = 60.0
"""A job that we cancelled and nobody knows any more: nothing of it is wanted, so less patience."""

_WORDS: Mapping[JobState, Word] = {
    JobState.PENDING: Word.WAITING,
    JobState.HELD: Word.WAITING,
    JobState.RUNNING: Word.RUNNING,
    JobState.SUSPENDED: Word.SUSPENDED,
    JobState.ENDING: Word.ENDING,
    JobState.ENDED: Word.ENDED,
    JobState.UNKNOWN: Word.UNKNOWN,
}


def submitted(known: Known, job_id: str, now: float) -> Known:
    """Fold in that the batch system took the job."""
    if known.ending is not None:
        return known
    word = Word.SUBMITTED if known.word is Word.UNSUBMITTED else known.word
    changed = replace(known, word=word, answer_lost_at=None, view=replace(known.view, job_id=job_id))
    return _settled(changed, now)


def not_submitted(known: Known, ending: JobEnding, now: float) -> Known:
    """Fold in that there is no such job and never was: refused, deferred, or lost on the way."""
    if known.ending is not None:
        return known
    return _settled(replace(known, word=Word.ENDED, ending=ending, answer_lost_at=None), now)


def answer_lost(known: Known, now: float) -> Known:
    """Fold in that the submission brought no answer: the job may exist or not."""
    return replace(known, answer_lost_at=now) if known.ending is None and known.view.job_id is None else known


def close_decided(known: Known, because: str, now: float) -> Known:
    """Fold in our own decision to give it back."""
    if known.ending is not None or known.close_because:
        return known
    return _settled(replace(known, close_because=because, closed_from=known.view.state), now)


def drain_decided(known: Known, because: str, now: float) -> Known:
    """Fold in our own decision to give it nothing new."""
    return _settled(replace(known, drain_because=because), now) if known.ending is None else known


def worker_came(known: Known, hello: WorkerHello, now: float) -> Known:
    """Fold in a worker's hello."""
    if known.ending is not None:
        return known
    others = tuple(worker for worker in known.workers if worker[0] != hello.address)
    view = replace(
        known.view,
        reached_live=True,
        job_id=known.view.job_id or hello.job_id or None,
        ends_at=hello.deadline if known.view.ends_at is None else known.view.ends_at,
    )
    workers = (*others, (hello.address, hello.slots))
    nodes = known.nodes if hello.node in known.nodes else (*known.nodes, hello.node)
    changed = replace(known, view=view, workers=workers, nodes=nodes, interrupted=None, answer_lost_at=None)
    return _settled(changed, now)


def worker_drains(known: Known, message: WorkerDraining, now: float) -> Known:
    """Fold in a worker's wish to be given nothing new."""
    if known.ending is not None:
        return known
    ends = [end for end in (known.view.ends_at, message.deadline) if end is not None]
    return _settled(
        replace(known, view=replace(known.view, drain_asked=message.because, ends_at=min(ends, default=None))), now
    )


def worker_left(known: Known, address: str, now: float) -> Known:
    """Fold in that a worker is no longer registered."""
    if known.ending is not None:
        return known
    workers = tuple(worker for worker in known.workers if worker[0] != address)
    # A job whose worker was here did run: that it waits was said before, and has to be said again to count.
    is_old = not workers and known.word in (Word.WAITING, Word.WAITING_AGAIN) and known.view.reached_live
    return _settled(replace(known, workers=workers, word=Word.SUBMITTED if is_old else known.word), now)


def observed(known: Known, seen: JobObservation, now: float) -> Known:
    """Fold in what the batch system says of the job; the same again is no news (of thousands, nearly all are)."""
    if known.ending is not None or (seen == known.seen and seen.state is not JobState.UNKNOWN):
        return known
    said = _WORDS[seen.state]
    if said is Word.WAITING and (known.ran or seen.restarts > known.restarts):
        known, said = _requeued(known, seen, now), Word.WAITING_AGAIN
    elif said is Word.WAITING and known.word is Word.WAITING_AGAIN:
        said = Word.WAITING_AGAIN
    unknown_since = None if said is not Word.UNKNOWN else now if known.unknown_since is None else known.unknown_since
    changed = replace(
        known,
        word=said,
        raw=_raw(seen),
        nodes=seen.nodes or known.nodes,
        granted=seen.nodes or known.granted,
        lost=(*known.lost, *_newly_lost(known, seen)),
        ran=known.ran or said in (Word.RUNNING, Word.SUSPENDED, Word.ENDING),
        restarts=max(known.restarts, seen.restarts),
        unknown_since=unknown_since,
        view=_with_times(known.view, seen, said),
        ending=(seen.ending or JobEnding(ExitReason.UNKNOWN, seen.raw)) if said is Word.ENDED else None,
    )
    settled = _settled(_given_up(changed, now), now, _told_of_waiting(seen, said))
    return replace(settled, seen=seen)


def disowned(known: Known, seen: JobObservation, now: float) -> Known:
    """Fold in that the job id belongs to another job: the batch system lost ours (a controller crash does that)."""
    if known.ending is not None or known.workers:
        return known
    words = f"job id {seen.job_id} now belongs to {seen.name!r}: the batch system lost this job"
    ending = JobEnding(ExitReason.UNKNOWN, words)
    return _settled(replace(known, word=Word.ENDED, ending=ending, is_disowned=True), now)


def _requeued(known: Known, seen: JobObservation, now: float) -> Known:
    """Forget the incarnation that was taken away; its workers count no more, connected or not."""
    view = replace(known.view, started_at=None, ends_at=None, submitted_at=now, drain_asked="")
    view = replace(view, live_slots=0, was_whole=False)
    taken = JobEnding(ExitReason.REQUEUED, _raw(seen), ended_at=now, nodes=known.nodes)
    fresh = replace(known, granted=(), lost=(), workers=(), nodes=(), ran=False, drain_because="")
    return replace(fresh, view=view, interrupted=taken)


def _newly_lost(known: Known, seen: JobObservation) -> tuple[str, ...]:
    """Return the nodes that a job had and goes on without."""
    goes_on = seen.state in (JobState.RUNNING, JobState.SUSPENDED) and bool(seen.nodes)
    return tuple(node for node in known.granted if node not in seen.nodes) if goes_on else ()


def _given_up(known: Known, now: float) -> Known:
    """End what nobody has known for long and no worker speaks for (Rule 2)."""
    patience = UNKNOWN_AFTER_CLOSE_S if known.close_because else UNKNOWN_PATIENCE_S
    if known.workers or known.unknown_since is None or now - known.unknown_since < patience:
        return known
    words = f"the batch system has not known the job for {now - known.unknown_since:.0f} s: {known.raw}"
    return replace(known, word=Word.ENDED, ending=JobEnding(ExitReason.UNKNOWN, words))


def _with_times(view: AllocationView, seen: JobObservation, said: Word) -> AllocationView:
    """Take start and end as the batch system tells them; admins extend walltimes, so its newest word wins."""
    started = seen.started_at if seen.started_at is not None else view.started_at
    if said is Word.RUNNING and seen.ends_at is not None:
        ends: float | None = seen.ends_at
    elif view.ends_at is None and said is Word.RUNNING and started is not None:
        ends = started + view.walltime_s
    else:
        ends = view.ends_at
    if said in (Word.WAITING, Word.WAITING_AGAIN):
        return replace(view, pending_because=seen.because, expected_start=seen.expected_start)
    asked = "the batch system suspended its job" if said is Word.SUSPENDED else ""
    return replace(
        view,
        started_at=started,
        ends_at=ends,
        pending_because="",
        expected_start=None,
        drain_asked=view.drain_asked or asked,
    )


def _told_of_waiting(seen: JobObservation, said: Word) -> str:
    """The scheduler's reason for a job to wait, and when it thinks that the job will start."""
    if said not in (Word.WAITING, Word.WAITING_AGAIN):
        return ""
    expected = "" if seen.expected_start is None else f"expected to start at {format_time(seen.expected_start)}"
    return ", ".join(filter(None, (seen.because if seen.because != "None" else "", expected)))


def _raw(seen: JobObservation) -> str:
    return f"{seen.raw} ({seen.because})" if seen.because and seen.because not in seen.raw else seen.raw


def _settled(known: Known, now: float, because: str = "") -> Known:
    """Draw the state from the table and from what we decided ourselves, and stamp it with its reason."""
    table_state, words = RECONCILED[known.word, known.link]
    state = table_state or known.view.state
    if known.ending is not None:
        words, because = words if known.view.job_id else "never became a job", known.ending.raw
    elif known.close_because:
        state, words = AllocationState.CLOSING, known.close_because
    elif known.drain_because and state is AllocationState.LIVE:
        state, words = AllocationState.DRAINING, known.drain_because
    before = known.view
    alone = state is AllocationState.STARTING
    live_slots = sum(slots for _, slots in known.workers)
    view = replace(
        before,
        state=state,
        live_slots=live_slots,
        was_whole=before.was_whole or live_slots >= before.slots,
        alone_since=(now if before.alone_since is None else before.alone_since) if alone else None,
        closing_since=_since(before.closing_since, now, holds=state is AllocationState.CLOSING),
        ended_at=None if known.ending is None else known.ending.ended_at or now,
        because=f"{words}: {because}" if because else words,
    )
    return replace(known, view=view, seen=None)


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    if not holds:
        return None
    return now if before is None else before
