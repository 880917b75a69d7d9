"""One turn of the keeper: the events it brought about, and what is to be done once they are on disk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, replace

from scalable_hpc.lineage.causes import Causes
from scalable_hpc.lineage.inbox import OnDone
from scalable_hpc.lineage.journal import Journal
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.outcome import Outcome, task_error
from scalable_hpc.lineage.ports import Transport
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.lineage.window import Placement
from scalable_hpc.model.events import Event, ReceiptTaken, TaskCancelled, TaskGivenUp
from scalable_hpc.model.tasks import AttemptId, ExceptionFacts, Locator

logger = logging.getLogger(__name__)

OUR_WORD = frozenset({"AncestorFailed", "AttemptsExhausted", "TaskOutOfMemory"})
"""Errors that say more than what the task raised, which is their cause."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the events of one ruling do not hold themselves, for those whose futures they end."""

    result: Locator | None = None
    """With the inline bytes, which are not journaled."""
    exception: ExceptionFacts | None = None
    error: BaseException | None = None


class Turn:
    """Applies and journals events, and collects what follows from them."""

    def __init__(
        self, ledger: Ledger, journal: Journal, listeners: MutableMapping[str, OnDone], causes: Causes, now: float
    ) -> None:
        self.now = now
        self.placements: list[Placement] = []
        self.releases: list[str] = []
        """Bundles that nobody waits for any more."""
        self.dismissals: dict[str, str] = {}
        """Workers that are to go home at once, and why: what they have in hand was lost already."""
        self.cancels: dict[str, list[AttemptId]] = {}
        """By worker: attempts whose tasks ended without them."""
        self.persists: dict[str, list[str]] = {}
        """By worker: keys of results that it holds and is to store."""
        self.frees: dict[str, list[str]] = {}
        """By worker: keys of results that it need not hold any longer."""
        self.loosened: dict[str, None] = {}
        """Tasks whose results one task less needs now."""
        self._ledger = ledger
        self._journal = journal
        self._listeners = listeners
        self._causes = causes
        self._outcomes: deque[tuple[OnDone, Outcome]] = deque()
        self.is_eventful = False
        """Whether there is anything to bring to disk."""

    def tell(self, events: Iterable[Event], told: Told | None = None) -> None:
        """Apply and journal events, in order."""
        for event in events:
            self.is_eventful = True
            if isinstance(event, (ReceiptTaken, TaskGivenUp, TaskCancelled)):
                self._end(event, told or Told())
            else:
                self._ledger.apply(event)
                self._journal.append(event)

    def answer(self, on_done: OnDone, outcome: Outcome) -> None:
        """Tell somebody what became of a task, at the end of the turn."""
        self._outcomes.append((on_done, outcome))

    def announce(self) -> None:
        """Tell everybody who waits for a task that ended in this turn."""
        while self._outcomes:
            tell_outcome(*self._outcomes.popleft())

    def carry_out(self, transport: Transport) -> None:
        """Tell workers what follows for them."""
        if self.releases:
            transport.release(self.releases)
        for address, attempts in self.cancels.items():
            transport.cancel_attempts(address, attempts)
        for address, keys in self.persists.items():
            transport.persist_held(address, keys)
        for address, keys in self.frees.items():
            transport.free_held(address, keys)
        for address, because in self.dismissals.items():
            transport.dismiss(address, because)

    def fail(self, error: BaseException) -> None:
        """Tell those who were not told yet that what became of their task could not be journaled."""
        while self._outcomes:
            on_done, outcome = self._outcomes.popleft()
            tell_outcome(on_done, Outcome(outcome.task_id, error=error, because="the keeper cannot go on"))

    def _end(self, event: ReceiptTaken | TaskGivenUp | TaskCancelled, told: Told) -> None:
        record = self._ledger.tasks[event.task_id]
        was_over = record.is_over
        delivered = event.attempt if isinstance(event, ReceiptTaken) else None
        if record.state is TaskState.SENT and record.worker is not None and delivered != record.attempts:
            self.cancels.setdefault(record.worker, []).append(record.attempt)
        if self._ledger.held:
            self.loosened.update(dict.fromkeys(task_id for task_id, _ in record.ancestors))
            self.loosened[record.task_id] = None
        self._ledger.apply(event)
        self._journal.append(event)
        if (record.is_over and not was_over) or isinstance(event, TaskGivenUp):
            if isinstance(event, TaskGivenUp):
                told = self._blamed(event, record, told)
            on_done = self._listeners.pop(event.task_id, None)
            if on_done is not None:
                self._outcomes.append((on_done, _outcome(event, record, told)))

    def _blamed(self, event: TaskGivenUp, record: TaskRecord, told: Told) -> Told:
        """Keep what a task raised for those that want its result, and find it for those that come later."""
        if event.error_type == "AncestorFailed":
            return replace(told, exception=told.exception or self._causes.of_ancestor(record))
        if told.exception is not None:
            self._causes.remember(event.task_id, told.exception)
        return told


def tell_outcome(on_done: OnDone, outcome: Outcome) -> None:
    """Call a listener; what it raises is its own affair and must not stop the others from being told."""
    try:
        on_done(outcome)
    except Exception:
        logger.exception("The listener of %s raised", outcome.task_id)


def _outcome(event: ReceiptTaken | TaskGivenUp | TaskCancelled, record: TaskRecord, told: Told) -> Outcome:
    if isinstance(event, ReceiptTaken):
        result = told.result or record.result
        return Outcome(event.task_id, result=result, attempts=record.attempts, reused=event.reused)
    if isinstance(event, TaskCancelled):
        return Outcome(event.task_id, cancelled=True, because=event.because, attempts=record.attempts)
    if told.error is not None:
        return Outcome(event.task_id, error=told.error, because=event.because, attempts=record.attempts)
    if told.exception is not None and event.error_type not in OUR_WORD:
        return Outcome(event.task_id, exception=told.exception, because=event.because, attempts=record.attempts)
    error, cause = task_error(event), told.exception
    return Outcome(event.task_id, error=error, exception=cause, because=event.because, attempts=record.attempts)
