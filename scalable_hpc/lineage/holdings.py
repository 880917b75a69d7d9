"""What follows for results that a worker held and lost, that nobody needs, or that turn out to be damaged on disk.

Rule 1: pure, and nothing is applied here: a ruling reads the ledger and returns the events.
Rule 2: a task is run again only if a task that is not over, or somebody who asks for its value, needs its result;
what its own ancestors have lost is run again before it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.lineage.rulings import give_up
from scalable_hpc.model.events import Event, ResultDropped, TaskRecalled, TaskSubmitted

IsWanted = Callable[[str], bool]
"""Whether somebody else than a task waits for the value of one."""


def drop(ledger: Ledger, task_ids: Iterable[str], because: str, now: float) -> list[Event]:
    """Say that results are gone; those that are held no more are no news."""
    return [ResultDropped(now, task_id, because) for task_id in task_ids if task_id in ledger.held]


def spoil(ledger: Ledger, call: TaskSubmitted, because: str, now: float) -> list[Event]:
    """Say that a stored result is damaged wherever it lay; one that is not there any more is no news.

    A call that was never submitted had been answered from a store: it becomes a task by this.
    """
    record = ledger.tasks.get(call.task_id)
    is_there = record is None or (record.state is TaskState.DONE and record.held_by is None)
    return [ResultDropped(now, call.task_id, because, call)] if is_there else []


def held_by(ledger: Ledger, worker: str) -> list[str]:
    """Return the tasks whose results a worker holds."""
    return [task_id for task_id in ledger.held if ledger.tasks[task_id].held_by == worker]


def recall(ledger: Ledger, task_ids: Iterable[str], because: str, now: float) -> list[Event]:
    """Have tasks run again whose results were dropped, each after those of its ancestors that need it too.

    A task that lost its result too often is given up; what waits for it falls with it.
    """
    order: dict[str, str] = {}
    for task_id in task_ids:
        _collect(ledger, task_id, because, order)
    found: list[Event] = []
    for task_id, why in order.items():
        record = ledger.tasks[task_id]
        if record.recalls >= record.policy.infrastructure_limit:
            text = f"{task_id!r}: its result was lost {record.recalls + 1} times"
            found += give_up(ledger, record, "AttemptsExhausted", text, f"{text}; {why}", now)
            continue
        found.append(TaskRecalled(now, task_id, why))
    return found


def needed(ledger: Ledger, task_ids: Iterable[str], is_wanted: IsWanted) -> Iterator[str]:
    """Yield those of the tasks whose result a task that is not over needs, or somebody else."""
    return (task_id for task_id in task_ids if is_wanted(task_id) or ledger.dependents(task_id))


def let_go(ledger: Ledger) -> list[str]:
    """Return every task whose result was dropped and that was not run again."""
    return [record.task_id for record in ledger.in_state(TaskState.LET_GO)]


def recall_for(ledger: Ledger, record: TaskRecord, now: float) -> list[Event]:
    """Have what a task needs run again where it was dropped."""
    lost = [task_id for task_id, _ in record.ancestors if _is_let_go(ledger, task_id)]
    return recall(ledger, lost, f"{record.task_id!r} needs its result", now) if lost and not record.is_over else []


def _collect(ledger: Ledger, task_id: str, because: str, order: dict[str, str]) -> None:
    """Add a task to those that are run again, after its ancestors; chains may be longer than Python's stack."""
    stack: list[tuple[str, str, bool]] = [(task_id, because, False)]
    while stack:
        current, why, is_ready = stack.pop()
        if current in order or not _is_let_go(ledger, current):
            continue
        if is_ready:
            order[current] = why
            continue
        stack.append((current, why, True))
        above = ledger.tasks[current].ancestors
        stack += [(ancestor_id, f"{current!r} needs its result", False) for ancestor_id, _ in above]


def _is_let_go(ledger: Ledger, task_id: str) -> bool:
    record = ledger.tasks.get(task_id)
    return record is not None and record.state is TaskState.LET_GO
