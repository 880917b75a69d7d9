"""The sums that a report is made of: one small record per task and allocation, moved on event by event; pure.

Rule 1: events may come without those that should precede them (a torn journal): nothing is assumed, nothing raised.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from scalable_hpc.model.allocations import AllocationState, ExitReason
from scalable_hpc.model.events import (
    AllocationChanged,
    AttemptExplained,
    AttemptFailed,
    AttemptPlaced,
    AttemptRejoined,
    CallKept,
    Event,
    FleetNote,
    HostsTrusted,
    HostSuspected,
    ReceiptTaken,
    ResultDropped,
    ResultsDiffer,
    RunClosed,
    RunOpened,
    TaskCancelled,
    TaskGivenUp,
    TaskRecalled,
    TaskRevived,
    TasksHit,
    TaskSubmitted,
)
from scalable_hpc.model.hits import HitCount
from scalable_hpc.model.tasks import Ending, Verdict

_HOLDS_NODES = (AllocationState.STARTING.value, AllocationState.LIVE.value, AllocationState.DRAINING.value)
_NOT_BEGUN = (Ending.NEVER_STARTED.value, Ending.REFUSED.value)


@dataclass(slots=True)
class TaskTally:
    """One task so far."""

    name: str = ""
    label: str = ""
    state: str = "unfinished"
    begun: int = 0
    """Attempts that were placed and are not known to have ended before they began."""
    begun_after_receipt: int = 0
    """Attempts that were placed although a receipt had been taken: there should be none."""
    reused: int = 0
    rejoined: int = 0
    """Times that an attempt of it came back with its worker after a lost link."""
    is_done_before: bool = False
    ran_s: float | None = None
    failed: list[AttemptFailed] = field(default_factory=list)
    given_up: TaskGivenUp | None = None


@dataclass(slots=True)
class AllocationTally:
    """One allocation so far."""

    last: AllocationChanged
    asked_at: float
    worker_type: str = ""
    job_id: str = ""
    nodes: tuple[str, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    receipts: int = 0


def is_lost(failed: AttemptFailed) -> bool:
    """Tell whether an attempt was taken from its task; one whose slot died under it may have been to blame itself."""
    return not failed.charged and failed.verdict != Verdict.KILLER.value


def is_suspect(failed: AttemptFailed) -> bool:
    """Tell whether an attempt may have brought down, or brought down, what it ran on."""
    return failed.verdict == Verdict.KILLER.value


def took_worker(failed: AttemptFailed) -> bool:
    """Tell whether it was a whole worker that went down, and not a slot alone."""
    return failed.ending == Ending.WORKER_LOST.value


class Tally:
    """A run so far."""

    def __init__(self) -> None:
        self.run_id = ""
        self.target = ""
        self.opened_at: float | None = None
        self.last_at = 0.0
        self.closed_because: str | None = None
        self.drivers = 0
        self.budget_node_s: float | None = None
        self.tasks: dict[str, TaskTally] = {}
        self.once_more: dict[str, TaskTally] = {}
        """Tasks that compute another one's result once more, to be compared: nobody had submitted them."""
        self.differing: list[ResultsDiffer] = []
        self.recalled: list[TaskRecalled] = []
        self.hits = HitCount()
        self.allocations: dict[str, AllocationTally] = {}
        self.notes: list[FleetNote] = []
        self.lost_on: Counter[str] = Counter()
        self._explained: dict[tuple[str, int], str] = {}

    def add(self, event: Event) -> None:
        """Count one event."""
        self.opened_at = event.at if self.opened_at is None else self.opened_at
        self.last_at = max(self.last_at, event.at)
        if isinstance(event, FleetNote):
            self.notes.append(event)
        elif isinstance(event, HostSuspected | HostsTrusted):
            kind = "host excluded" if isinstance(event, HostSuspected) else "hosts trusted again"
            self.notes.append(FleetNote(event.at, kind, event.because))
        elif isinstance(event, TasksHit):
            self.hits.add(event)
        elif isinstance(event, RunOpened | RunClosed):
            self._add_run(event)
        elif isinstance(event, AllocationChanged):
            self._add_allocation(event)
        elif isinstance(event, TaskRecalled):
            self.recalled.append(event)
            self.tasks.setdefault(event.task_id, TaskTally()).state = "unfinished"
        elif isinstance(event, ResultDropped):
            self._add_dropped(event)
        elif isinstance(event, CallKept):
            pass  # it is counted as a hit
        elif isinstance(event, ResultsDiffer):
            self.differing.append(event)
        else:
            self._add_task(event)

    def reason_of(self, failed: AttemptFailed) -> str:
        """Why the allocation under an attempt ended, as far as anybody said, then or later.

        One that ended well explains no attempt that was lost on it before.
        """
        said = self._explained.get((failed.task_id, failed.attempt)) or failed.allocation_reason or ""
        return "" if said == ExitReason.COMPLETED.value else said

    def raw_of(self, failed: AttemptFailed) -> str:
        """The batch system's last words on the allocation under an attempt, once that has ended."""
        seen = self.allocations.get(failed.allocation or "")
        return "" if seen is None or seen.ended_at is None else seen.last.raw or ""

    def _add_run(self, event: RunOpened | RunClosed) -> None:
        if isinstance(event, RunClosed):
            self.closed_because = event.because
            return
        self.run_id, self.target, self.budget_node_s = event.run_id, event.target, event.budget_node_s
        self.closed_because = None
        self.drivers += 1
        self.hits.begin_driver()
        for task in self.tasks.values():
            task.is_done_before = task.state == "done"

    def _add_task(
        self,
        event: TaskSubmitted
        | AttemptPlaced
        | AttemptRejoined
        | ReceiptTaken
        | AttemptFailed
        | AttemptExplained
        | TaskGivenUp
        | TaskRevived
        | TaskCancelled,
    ) -> None:
        is_once_more = event.task_id in self.once_more or (isinstance(event, TaskSubmitted) and event.verifies)
        task = (self.once_more if is_once_more else self.tasks).setdefault(event.task_id, TaskTally())
        if isinstance(event, TaskSubmitted):
            task.name, task.label = event.name, event.label
        elif isinstance(event, AttemptPlaced):
            task.begun += 1
            task.begun_after_receipt += task.state == "done"
        elif isinstance(event, AttemptRejoined):
            task.rejoined += 1
        elif isinstance(event, ReceiptTaken):
            self._add_receipt(task, event)
        elif isinstance(event, AttemptFailed):
            self._add_failed(task, event)
        elif isinstance(event, AttemptExplained):
            self._explained[event.task_id, event.attempt] = event.allocation_reason
        elif isinstance(event, TaskGivenUp):
            task.state, task.given_up = "failed", event
        elif isinstance(event, TaskRevived):
            task.state, task.given_up = "unfinished", None
        else:
            task.state = "cancelled"

    def _add_dropped(self, event: ResultDropped) -> None:
        """Take note of a call that had been a hit and is a task now; else it matters only if the task is run again."""
        if event.call is not None and event.task_id not in self.tasks:
            self.tasks[event.task_id] = TaskTally(event.call.name, event.call.label)
            self.hits.became_task(event.call.name)

    def _add_receipt(self, task: TaskTally, event: ReceiptTaken) -> None:
        if event.reused:
            task.reused += 1
        else:
            task.ran_s = event.ended_at - event.started_at
        if not event.late:
            task.state, task.given_up = "done", None
        if event.allocation in self.allocations:
            self.allocations[event.allocation].receipts += 1

    def _add_failed(self, task: TaskTally, event: AttemptFailed) -> None:
        task.failed.append(event)
        if event.ending in _NOT_BEGUN:
            task.begun = max(0, task.begun - 1)
        if is_lost(event) and event.allocation is not None and event.ending != Ending.CANCELLED.value:
            self.lost_on[event.allocation] += 1

    def _add_allocation(self, event: AllocationChanged) -> None:
        seen = self.allocations.get(event.name)
        if seen is None:
            seen = self.allocations[event.name] = AllocationTally(event, event.at)
        seen.last = event
        seen.worker_type = event.worker_type or seen.worker_type
        seen.job_id = event.job_id or seen.job_id
        seen.nodes = event.nodes or seen.nodes
        if event.state in _HOLDS_NODES and seen.started_at is None:
            seen.started_at = event.at
        if event.state == AllocationState.ENDED.value:
            seen.ended_at = event.at
