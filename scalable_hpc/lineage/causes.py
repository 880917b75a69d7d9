"""What failed tasks had raised, for the tasks that want their results, now or later.

Rule 1: bounded. What is not kept any more, or was raised under an earlier driver, is told from the ledger instead:
class and message, without the exception itself.
"""

from __future__ import annotations

from collections import OrderedDict

from scalable_hpc import errors
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.model.tasks import ExceptionFacts

KEPT = 10_000
KEPT_BYTES = 32 * 1024 * 1024
"""Exceptions that carry data along are rare; a run in which every call fails must not fill the driver with them."""


class Causes:
    """The exceptions of tasks that failed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._raised: OrderedDict[str, ExceptionFacts] = OrderedDict()
        self._size = 0

    def remember(self, task_id: str, raised: ExceptionFacts) -> None:
        """Keep what a task raised; the oldest go first."""
        self._forget(task_id)
        self._raised[task_id] = raised
        self._size += _size(raised)
        while self._size > KEPT_BYTES or len(self._raised) > KEPT:
            self._forget(next(iter(self._raised)))

    def of_ancestor(self, record: TaskRecord) -> ExceptionFacts | None:
        """Return what the task had raised that is to blame for this one; None: it was cancelled, or nobody knows."""
        found = self._root(record)
        if found is None or found is record:
            return None
        return self._raised.get(found.task_id) or as_told(found.error)

    def _root(self, record: TaskRecord) -> TaskRecord | None:
        """Go from failed task to failed ancestor, up to one that failed by itself."""
        seen = set()
        while record.task_id not in seen:
            seen.add(record.task_id)
            if not record.error.startswith("AncestorFailed: "):
                return record
            tasks = self._ledger.tasks
            above = (tasks[task_id] for task_id, _ in record.ancestors if task_id in tasks)
            failed = next((task for task in above if task.state is TaskState.FAILED), None)
            if failed is None:
                return None
            record = failed
        return None

    def _forget(self, task_id: str) -> None:
        raised = self._raised.pop(task_id, None)
        self._size -= 0 if raised is None else _size(raised)


def _size(raised: ExceptionFacts) -> int:
    return len(raised.pickled or b"") + len(raised.traceback) + len(raised.message)


def as_told(error: str) -> ExceptionFacts:
    """Return what ``Type: message`` tells of an exception, as a record keeps it."""
    name, _, message = error.partition(": ")
    if isinstance(vars(errors).get(name), type):
        name = f"{errors.__name__}.{name}"
    elif "." not in name:
        name = f"builtins.{name}"
    return ExceptionFacts(name, (name,), message)
