"""What becomes of the tasks that hang on one that failed or was cancelled; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.model.events import TaskGivenUp

_CHAIN = 6
"""Tasks named of a chain of ancestors, besides the one to blame."""
_WHY = 400
"""Characters of an error that is repeated for each of a thousand descendants."""


def fallen(
    ledger: Ledger, root: TaskRecord, why: str, given_up: TaskGivenUp | None, now: float
) -> Iterator[TaskGivenUp]:
    """Fail what hangs on a task: what waits for its result and, unless it was cancelled, what is attached to it."""
    via = {root.task_id: ""}
    queue: deque[tuple[str, TaskGivenUp | None]] = deque([(root.task_id, given_up)])
    while queue:
        cause_id, cause = queue.popleft()
        for task_id in ledger.dependents(cause_id):
            if task_id not in via:
                via[task_id] = cause_id
                message = f"{task_id!r} was not run: {_chain(via, task_id, root.task_id)} {why}"
                event = TaskGivenUp(now, task_id, "AncestorFailed", message, message)
                queue.append((task_id, event))
                yield event
        if cause is None:
            continue
        because = f"the same call as {cause_id}: {cause.because}"
        for task_id in ledger.followers(cause_id):
            if task_id not in via:
                via[task_id] = via[cause_id]
                same = replace(cause, task_id=task_id, because=because)
                queue.append((task_id, same))
                yield same


def _chain(via: Mapping[str, str], task_id: str, root_id: str) -> str:
    """Name the tasks from the one that was not run to the one that is to blame; the middle of a long chain is cut."""
    names = [task_id]
    while via[names[-1]] and len(names) < _CHAIN:
        names.append(via[names[-1]])
    if names[-1] != root_id:
        names += ["...", root_id]
    return " <- ".join(names)


def shortened(text: str) -> str:
    """Return an error as it is repeated to each of those that hang on its task."""
    return text if len(text) <= _WHY else f"{text[:_WHY]}..."
