"""Which tasks of earlier drivers the calls of this one stand for: an equal call is the same task, not another one.

Rule 1: a task is claimed once; of several with one key, each is claimed by one call.
Rule 2: usable from any thread: what the ledger holds of earlier drivers' tasks does not change its name or key.
"""

from __future__ import annotations

import threading

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState


class Claims:
    """The tasks that earlier drivers of a run had submitted, until a call claims them."""

    def __init__(self, ledger: Ledger) -> None:
        """Take stock; to be called before this driver's own calls come in."""
        self._ledger = ledger
        self._count = len(ledger.tasks)
        self._is_claimed = bytearray(self._count)
        """By order of submission."""
        self._lock = threading.Lock()
        self._others: dict[tuple[str, str], list[str]] | None = None
        """Store and key to the tasks that do not stand for it: several calls may be equal. Found when first needed."""

    def take(self, store: str, key: str) -> str | None:
        """Return the task that an equal call was under an earlier driver, and give it to nobody else; None: none."""
        if not self._count:
            return None
        with self._lock:
            if self._others is None:
                self._others = self._find_others()
            leader = self._ledger.leader(store, key)
            several = [] if leader is None else [leader.task_id]
            several += self._others.get((store, key), ())
            return next((task_id for task_id in several if self._claim(task_id)), None)

    def has_result(self, task_id: str) -> bool:
        """Whether the journal knows of the result of a task that was claimed."""
        return self._ledger.tasks[task_id].state is TaskState.DONE

    def _claim(self, task_id: str) -> bool:
        order = self._ledger.tasks[task_id].order
        if order >= self._count or self._is_claimed[order]:
            return False
        self._is_claimed[order] = 1
        return True

    def _find_others(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        if self._ledger.has_equal_calls:
            for record in list(self._ledger.tasks.values())[: self._count]:
                if self._ledger.leader(record.store, record.key) is not record:
                    found.setdefault((record.store, record.key), []).append(record.task_id)
        return found
