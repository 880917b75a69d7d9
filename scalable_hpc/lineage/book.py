"""The tasks of a run and how each of them stands: what is ready, who waits for whom, and the moves there are.

Rule 1: pure. Only the ledger moves a task, by an event; the passing of time (``release_due``) is none.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from scalable_hpc.lineage.lanes import ReadyQueue
from scalable_hpc.lineage.record import OVER, TaskRecord, TaskState, TaskView, view_of
from scalable_hpc.lineage.ties import Ties
from scalable_hpc.model.events import TaskSubmitted

Shared = TypeVar("Shared")


class TaskBook:
    """Every task of a run, and what is ready."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskRecord] = {}
        self.ready = ReadyQueue()
        self.held: dict[str, None] = {}
        """Tasks that are done and whose results only workers hold."""
        self._counts: Counter[TaskState] = Counter()
        self._ties = Ties()
        self._backoff: list[tuple[float, int, TaskRecord]] = []
        self._tie_breakers = itertools.count()
        self._shared: dict[Any, Any] = {}

    def restore_order(self) -> None:
        """Put the tasks in the order in which they were submitted."""
        orders = [record.order for record in self.tasks.values()]
        if orders != sorted(orders):
            self.tasks = {record.task_id: record for record in sorted(self.tasks.values(), key=lambda one: one.order)}

    def count(self, *states: TaskState) -> int:
        """How many tasks are in any of these states."""
        return sum(self._counts[state] for state in states)

    @property
    def unfinished(self) -> int:
        """How many tasks are not over."""
        return len(self.tasks) - self.count(*OVER)

    def in_state(self, *states: TaskState) -> Iterator[TaskRecord]:
        """Yield the tasks in any of these states, in order of submission; looks at every task."""
        return (record for record in self.tasks.values() if record.state in states)

    def leader(self, store: str, key: str) -> TaskRecord | None:
        """Return the task that stands for a key now; None when none was submitted."""
        task_id = self._ties.leader(store, key)
        return None if task_id is None else self.tasks[task_id]

    @property
    def has_equal_calls(self) -> bool:
        """Whether several tasks have the same key."""
        return self._ties.keys < len(self.tasks)

    def followers(self, task_id: str) -> tuple[str, ...]:
        """Return the tasks that are attached to one."""
        return self._ties.followers(task_id)

    def dependents(self, task_id: str) -> tuple[str, ...]:
        """Return the tasks that are not over and have this one's result among their arguments."""
        return tuple(found for found in self._ties.dependents(task_id) if not self.tasks[found].is_over)

    def next_due(self) -> float | None:
        """When the next backoff ends (seconds since the epoch)."""
        while self._backoff and not _is_backing_off(self._backoff[0]):
            heapq.heappop(self._backoff)
        return self._backoff[0][0] if self._backoff else None

    def views(self) -> dict[str, TaskView]:
        """Return what an observer may compare, for every task."""
        return {task_id: view_of(record) for task_id, record in self.tasks.items()}

    def release_due(self, now: float) -> int:
        """Make tasks whose backoff is over ready, and return how many."""
        released = 0
        while self._backoff and self._backoff[0][0] <= now:
            entry = heapq.heappop(self._backoff)
            if _is_backing_off(entry):
                self._settle(entry[2])
                released += 1
        return released

    def _enter(self, event: TaskSubmitted, order: int | None) -> TaskRecord:
        record = TaskRecord(
            event.task_id,
            self._share(event.name),
            event.key,
            self._share(event.store),
            len(self.tasks) if order is None else order,
            self._share(event.needs),
            self._share(event.policy),
            self._share(event.function),
            event.arguments,
            event.ancestors,
            event.timeout_s,
            event.expected_runtime_s,
            event.priority,
            event.label,
            event.refresh,
            event.checkpoints,
            verifies=event.verifies,
            persist=event.persist,
            rule=None if event.rule is None else self._share(event.rule),
        )
        self.tasks[record.task_id] = record
        self._counts[record.state] += 1
        return record

    def _tell_again(self, record: TaskRecord, call: TaskSubmitted) -> None:
        """Give a task what it is called with once more, and what its call says now."""
        record.needs, record.policy = self._share(call.needs), self._share(call.policy)
        record.function, record.arguments, record.ancestors = self._share(call.function), call.arguments, call.ancestors
        record.timeout_s, record.expected_runtime_s = call.timeout_s, call.expected_runtime_s
        record.priority, record.label, record.checkpoints = call.priority, call.label, call.checkpoints
        record.rule = None if call.rule is None else self._share(call.rule)

    def _known(self, task_id: str) -> TaskRecord:
        record = self.tasks.get(task_id)
        if record is None:
            raise ValueError(f"task {task_id!r} was never submitted")
        return record

    def _enrol(self, record: TaskRecord) -> None:
        """Enter a task with its ancestors; one that was never submitted was answered from the store: it is done."""
        for ancestor_id in dict(record.ancestors):
            ancestor = self.tasks.get(ancestor_id)
            if ancestor is not None and (ancestor.state is not TaskState.DONE or ancestor.held_by is not None):
                self._ties.depend(record.task_id, ancestor_id)
                record.pending += ancestor.state is not TaskState.DONE

    def _settle(self, record: TaskRecord) -> None:
        """Let a task that does not run wait for its ancestors, or for a worker."""
        if record.state is TaskState.READY:
            self._move(record, TaskState.WAITING)  # on its way into another lane
        if not record.pending:
            record.holders = self._holders(record) if self.held else ()
        self._move(record, TaskState.WAITING if record.pending else TaskState.READY)

    def _enter_as_done(self, call: TaskSubmitted, order: int | None) -> None:
        """Make a task of a call that was answered from elsewhere: done, as far as anybody knew."""
        record = self._enter(call, order)
        record.may_be_known = True
        self._move(record, TaskState.DONE)
        if self._ties.leader(record.store, record.key) is None:
            self._ties.lead(record.store, record.key, record.task_id)

    def _begin_again(self, record: TaskRecord) -> None:
        """Let a task that was over be run again: after its ancestors, or with an equal one that is under way."""
        record.pending = 0
        self._enrol(record)
        leader = self.leader(record.store, record.key)
        if leader is not None and not leader.is_over:
            self._attach(record, leader)
            return
        record.leader = None
        self._ties.lead(record.store, record.key, record.task_id)
        self._settle(record)

    def _suspect(self, record: TaskRecord, more: int) -> None:
        """Change how many dead workers a task is suspected of, which decides on where it waits."""
        state = record.state
        if state is TaskState.READY:
            self.ready.discard(record)
        elif state is TaskState.BACKOFF:
            self.ready.delay(record, -1)
        record.suspicions = max(0, record.suspicions + more)
        if state is TaskState.READY:
            self.ready.add(record)
        elif state is TaskState.BACKOFF:
            self.ready.delay(record, +1)

    def _holders(self, record: TaskRecord) -> tuple[str, ...]:
        """Return the workers that hold results the task needs."""
        above = (self.tasks[task_id].held_by for task_id, _ in record.ancestors if task_id in self.held)
        return tuple(sorted({worker for worker in above if worker is not None}))

    def _attach(self, record: TaskRecord, leader: TaskRecord) -> None:
        record.leader = leader.task_id
        self._ties.follow(record.task_id, leader.task_id)
        self._move(record, TaskState.ATTACHED)

    def _promote_followers(self, cancelled: TaskRecord) -> None:
        """Let the first task attached to a cancelled one stand for their key, and attach the others to it."""
        followers = [self.tasks[task_id] for task_id in self._ties.followers(cancelled.task_id)]
        for record in followers:
            self._ties.unfollow(record.task_id, cancelled.task_id)
        if followers:
            first, *others = followers
            first.leader = None
            first.may_be_known = True
            self._ties.lead(first.store, first.key, first.task_id)
            self._settle(first)
            for record in others:
                self._attach(record, first)

    def _move(self, record: TaskRecord, state: TaskState) -> None:
        before = record.state
        if before is TaskState.READY:
            self.ready.discard(record)
        elif before is TaskState.BACKOFF:
            self.ready.delay(record, -1)
        self._counts[before] -= 1
        self._counts[state] += 1
        record.state = state
        if state is not TaskState.SENT:
            record.worker = record.allocation = record.memory = None
        if state is not TaskState.BACKOFF:
            record.retry_at = None
        if state is TaskState.READY:
            self.ready.add(record)
        elif state is TaskState.BACKOFF:
            self.ready.delay(record, +1)

    def _end(self, record: TaskRecord, state: TaskState) -> None:
        """Move to a state that is for good, and let go of what is no longer needed."""
        self._move(record, state)
        if record.leader is not None:
            self._ties.unfollow(record.task_id, record.leader)
        if record.held_by is None and state is not TaskState.FAILED:  # one that failed may be revived
            let_go_of_call(record)

    def _share(self, value: Shared) -> Shared:
        """Return the one copy of a value that many tasks have."""
        shared: Shared = self._shared.setdefault(value, value)
        return shared

    def _back_off(self, record: TaskRecord, until: float) -> None:
        """Have a task wait for its next attempt until then (seconds since the epoch)."""
        record.retry_at = until
        self._move(record, TaskState.BACKOFF)
        heapq.heappush(self._backoff, (until, next(self._tie_breakers), record))


def let_go_of_call(record: TaskRecord) -> None:
    """Forget what nobody asks of a task that will not be run again; a failed one still names its ancestors."""
    record.function = record.arguments = record.rule = None
    if record.state is TaskState.DONE:
        record.label = ""
        record.ancestors = record.avoid = ()


def _is_backing_off(entry: tuple[float, int, TaskRecord]) -> bool:
    return entry[2].state is TaskState.BACKOFF and entry[2].retry_at == entry[0]
