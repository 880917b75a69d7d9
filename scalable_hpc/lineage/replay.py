"""From a journal's events back to the state of its run, and to what is left to do.

Rule 1: pure, and the same fold as the live keeper's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scalable_hpc.errors import JournalError
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.model.events import Event


@dataclass(frozen=True, slots=True)
class LeftToDo:
    """What a run still owes, by task id in order of submission."""

    interrupted: tuple[str, ...]
    """An attempt was on its way when the driver ended; its result may lie in the store."""
    ready: tuple[str, ...]
    """To be run now, or when their backoff is over."""
    waiting: tuple[str, ...]
    """For ancestors, or for the task with the same key."""
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]
    done: int

    @property
    def is_nothing(self) -> bool:
        """Whether every task of the run is over."""
        return not (self.interrupted or self.ready or self.waiting)


def replay(events: Iterable[Event], into: Ledger | None = None) -> Ledger:
    """Fold events into a ledger (a new one by default).

    Raises:
        JournalError: an event cannot follow on those before it.
    """
    ledger = Ledger() if into is None else into
    number = 0
    try:
        for event in events:
            number += 1
            ledger.apply(event)
    except ValueError as err:
        raise JournalError(f"event {number} does not follow on those before it: {err}") from err
    return ledger


def left_to_do(ledger: Ledger) -> LeftToDo:
    """Say what is left of a run."""

    def ids(*states: TaskState) -> tuple[str, ...]:
        return tuple(record.task_id for record in ledger.in_state(*states))

    return LeftToDo(
        interrupted=ids(TaskState.SENT),
        ready=ids(TaskState.READY, TaskState.BACKOFF),
        waiting=ids(TaskState.WAITING, TaskState.ATTACHED),
        failed=ids(TaskState.FAILED),
        cancelled=ids(TaskState.CANCELLED),
        done=ledger.count(TaskState.DONE, TaskState.LET_GO),
    )
