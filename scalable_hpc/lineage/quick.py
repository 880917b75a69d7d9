"""From a journal's lines to a ledger, quickly: of the tasks that are done no more is read than their end needs.

A submission is put off until something else than its placing and its receipt is said of it. What so never comes to the
ledger as an event is entered there as its events would have left it.

Rule 1: pure. A line that is not, to the letter, as our writer makes it goes the long way, through its event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Protocol

from scalable_hpc.lineage.codec import decode_event
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.model.events import AllocationChanged, Event, ResultDropped, TaskRevived, TaskSubmitted
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Locator, RetryPolicy

_TEXT = r'"([^"\\]*)"'
_SKIPPED = r'"[^"\\]*"'
_NUMBER = r"[-+.\deE]+"
_SUBMITTED = re.compile(
    rf'{{"e":"task_submitted","t":{_NUMBER},"task_id":{_TEXT},"name":{_TEXT},"key":{_TEXT},"store":{_TEXT},"function":'
)
_PLACED = re.compile(rf'{{"e":"attempt_placed","t":{_NUMBER},"task_id":{_TEXT},"attempt":1,')
_TAKEN = re.compile(
    rf'{{"e":"receipt_taken","t":{_NUMBER},"task_id":{_TEXT},"attempt":\d+,"digest":{_TEXT},"size":(\d+)'
    rf',"started_at":({_NUMBER}),"ended_at":({_NUMBER}),"peak_memory":(\d+),"node":{_TEXT},"allocation":{_SKIPPED}'
    r'(,"reused":true)?(,"cold":true)?}\Z'
)
_ANCESTOR = re.compile(rf'\[{_TEXT},"[0-9a-f]+"\]')
_NEEDS, _POLICY = Needs(), RetryPolicy()
"""Stand for what a task wanted that is done."""


_PutOff = tuple[str, int, str, str, str]
"""A submission that the ledger does not know of yet: its line, its order, and the task's name, key and store."""


class Fold(Protocol):
    """What takes a journal in, line by line."""

    def take(self, line: str) -> None:
        """Take one line, without its checksum.

        Raises:
            ValueError: it is no event, or cannot follow on those before it.
        """

    def finish(self) -> None:
        """Hear that all lines are taken."""


class QuickFold:
    """Folds the lines of a journal into a ledger."""

    def __init__(self, ledger: Ledger, each: Callable[[Event], object] | None = None) -> None:
        """Begin.

        Args:
            ledger: what to fold into.
            each: called for the events of all other lines, after each was applied.
        """
        self._ledger = ledger
        self._each = each
        self._put_off: dict[str, _PutOff] = {}
        self._placings: dict[str, str] = {}
        """The line of the first placing, of those that are put off and were placed."""
        self._keys: dict[str, str] = {}
        """Key to task, of those that are put off."""
        self._above: dict[str, list[str]] = {}
        """Ancestor to tasks, of those that were put off."""
        self._ways = {"t": self._submitted, "a": self._placed, "r": self._taken, "c": _is_kept}
        """By the first letter of their kind; each tells whether it has taken the line."""

    def take(self, line: str) -> None:
        """Take one line, without its checksum.

        Raises:
            ValueError: it is no event, or cannot follow on those before it.
        """
        way = self._ways.get(line[6:7])
        if way is None or not way(line):
            self._take_slowly(line)

    def finish(self) -> None:
        """Let the ledger know of what is open; to be called when all lines are taken."""
        for task_id in list(self._put_off):
            self._enter(task_id)
        self._ledger.restore_order()

    def _submitted(self, line: str) -> bool:
        found = _SUBMITTED.match(line)
        if found is None:
            return False
        task_id, name, key, store = found.groups()
        ledger = self._ledger
        if key in self._keys or task_id in ledger.tasks or ledger.leader(store, key) is not None:
            return False  # equal calls are tied to each other
        order = len(ledger.tasks) + len(self._put_off)
        self._put_off[task_id] = line, order, name, key, store
        self._keys[key] = task_id
        if '"ancestors":[[' in line:
            for above in _ANCESTOR.findall(line, line.index('"ancestors":[[')):
                self._above.setdefault(above, []).append(task_id)
        return True

    def _placed(self, line: str) -> bool:
        found = _PLACED.match(line)
        if found is None or found[1] not in self._put_off or found[1] in self._placings:
            return False
        self._placings[found[1]] = line
        return True

    def _taken(self, line: str) -> bool:
        found = _TAKEN.match(line)
        if found is None:
            return False
        task_id, digest, size, started, ended, peak, node, reused, cold = found.groups()
        known = self._put_off.pop(task_id, None)
        if known is None:
            return False
        _, order, name, key, store = known
        del self._keys[key]
        record = TaskRecord(task_id, name, key, store, order, _NEEDS, _POLICY, None, None)
        record.state = TaskState.DONE
        if self._placings.pop(task_id, ""):
            record.attempts, record.may_be_known = 1, True
        record.result = Locator(store, key, digest, int(size))
        ran_s = None if reused else float(ended) - float(started)
        self._ledger.enter_done(record, ran_s, cold=cold is not None, peak_memory=int(peak), node=node)
        return True

    def _take_slowly(self, line: str) -> None:
        event = _event(line)
        if isinstance(event, TaskSubmitted):
            self._submit(event, len(self._ledger.tasks) + len(self._put_off))
        else:
            self._enter(getattr(event, "task_id", ""))
            if isinstance(event, ResultDropped | TaskRevived) and event.call is not None:
                for ancestor_id, _ in event.call.ancestors:
                    self._enter(ancestor_id)
            if isinstance(event, ResultDropped):
                self._drop(event)
            else:
                self._ledger.apply(event)
        if self._each is not None:
            self._each(event)

    def _drop(self, event: ResultDropped) -> None:
        """Let the ledger know of a lost result, and before it of those that need it."""
        for task_id in self._above.pop(event.task_id, ()):  # they were placed while it was there
            self._enter(task_id)
        if event.call is None or event.task_id in self._ledger.tasks:
            self._ledger.apply(event)
            return
        self._enter(self._keys.get(event.call.key, ""))
        self._ledger.turned_out_lost(event, len(self._ledger.tasks) + len(self._put_off))

    def _submit(self, event: TaskSubmitted, order: int) -> None:
        """Let the ledger know of a task, and before it of those that it is tied to."""
        self._enter(self._keys.get(event.key, ""))
        self._enter(event.verifies or "")
        for ancestor_id, _ in event.ancestors:
            self._enter(ancestor_id)
        self._ledger.submit(event, order)

    def _enter(self, task_id: str) -> None:
        """Let the ledger know of a task that was put off; no error if it was not."""
        known = self._put_off.pop(task_id, None)
        if known is None:
            return
        line, order, _, key, _ = known
        placing = self._placings.pop(task_id, "")
        del self._keys[key]
        event = _event(line)
        assert isinstance(event, TaskSubmitted), "nothing else is put off"
        self._submit(event, order)
        if placing:
            self._ledger.apply(_event(placing))


def _is_kept(line: str) -> bool:
    """Whether a line tells what somebody else's result was made from: the ledger has no use for it."""
    return line.startswith('{"e":"call_kept"')


class OnlyAllocations:
    """Tells of a journal's allocations, and reads no more of the other lines than their kind."""

    def __init__(self, each: Callable[[AllocationChanged], object]) -> None:
        self._each = each

    def take(self, line: str) -> None:
        """Take one line, without its checksum.

        Raises:
            ValueError: it is no event.
        """
        if line.startswith('{"e":"allocation_changed"'):
            event = _event(line)
            assert isinstance(event, AllocationChanged), "the kind says so"
            self._each(event)

    def finish(self) -> None:
        """Nothing was put off."""


def _event(line: str) -> Event:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("it is not an object")  # noqa: TRY004  every kind of damage is a ValueError here
    return decode_event(record)
