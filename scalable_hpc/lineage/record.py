"""One task as the ledger keeps it: what it is, where it stands, what happened to it.

Rule 1: pure, and small: a waiting task may cost 2 kB in all, so what many tasks share is kept once, and what an ended
task no longer needs is let go.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from scalable_hpc.faults.history import TaskHistory
from scalable_hpc.lineage.lanes import Lane
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import AttemptId, Locator, Payload, RetryPolicy


class TaskState(Enum):
    """Where a task stands."""

    WAITING = "waiting"
    """For ancestors."""
    ATTACHED = "attached"
    """To a task with the same key that is in flight."""
    READY = "ready"
    BACKOFF = "backoff"
    SENT = "sent"
    DONE = "done"
    LET_GO = "let_go"
    """Was done, and its result is nowhere any more; it is run again if somebody needs it."""
    FAILED = "failed"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__  # members are single objects; Enum's own hash, of the name, costs ten times as much


OVER = frozenset({TaskState.DONE, TaskState.LET_GO, TaskState.FAILED, TaskState.CANCELLED})


@dataclass(slots=True, eq=False)
class TaskRecord:
    """A task of the run; changed by the ledger only."""

    task_id: str
    name: str
    key: str
    store: str
    order: int
    """Of submission; a task that is tried again keeps its place."""
    needs: Needs
    policy: RetryPolicy
    function: Payload | None
    """None once the task is over; so are the arguments."""
    arguments: Payload | None
    ancestors: tuple[tuple[str, str], ...] = ()
    """``(task_id, key)`` of each."""
    timeout_s: float | None = None
    expected_runtime_s: float | None = None
    priority: int = 0
    label: str = ""
    refresh: bool = False
    """A result that is there already will not do."""
    checkpoints: bool = False
    """It goes on in another attempt when its time is up: its user says so, or it has done so."""
    handed_back: bool = False
    """It has handed itself back."""
    state: TaskState = TaskState.WAITING
    pending: int = 0
    """Ancestors that are not done."""
    attempts: int = 0
    charged: int = 0
    uncharged: int = 0
    deaths: int = 0
    suspicions: int = 0
    """Whole workers that died under it since it was last acquitted; while there are any it runs alone."""
    is_quarantined: bool = False
    """It was convicted of killing what it runs on, and is not run again."""
    first_placed_at: float | None = None
    bound_s: float = 0.0
    """It is known to need longer than this: the longest it ran before something else ended it."""
    retry_at: float | None = None
    worker: str | None = None
    """Where its attempt is, while it is SENT."""
    allocation: str | None = None
    avoid: tuple[str, ...] = ()
    """Nodes and workers that the next attempt had better not go to."""
    may_be_known: bool = False
    """Its result may be in the store already: it was tried before, or an equal call was."""
    leader: str | None = None
    """The task with the same key that it is attached to."""
    result: Locator | None = None
    """Once DONE; without its inline bytes."""
    error: str = ""
    """Once FAILED: ``Type: message``."""
    verifies: str | None = None
    """The task whose result this one computes once more."""
    rule: Payload | None = None
    """What to ask whether an exception is worth another try; None once the task is over."""
    limited: tuple[tuple[str, int], ...] = ()
    """Verdict to endings, for verdicts that have a limit of their own."""
    memory: int | None = None
    """Bytes that are set aside for its attempt, while it is SENT."""
    checkpoint: str = ""
    """Mark of what lay in its checkpoint directory when it last handed itself back."""
    idle_legs: int = 0
    """Times in a row that it handed itself back and nothing had changed there."""
    floor_memory: int = 0
    """Bytes that it must be given at least: it ran out of less."""
    persist: bool = True
    """Its result is stored, not held by its worker."""
    held_by: str | None = None
    """Once DONE: the worker that alone has its result."""
    recalls: int = 0
    """How often it was run again since its result had been dropped."""
    renews: bool = False
    """Its stored result turned out to be damaged: what lies under its key is read before it is believed."""
    holders: tuple[str, ...] = ()
    """While READY: the workers that hold results it needs."""
    ticket: int = field(default=0, repr=False)
    lane: Lane | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.state in OVER

    def may_rejoin(self, attempt: int) -> bool:
        """Whether an attempt that a worker still has in hand is this task's latest, and may yet end it."""
        return attempt == self.attempts and self.state in (TaskState.SENT, TaskState.READY, TaskState.BACKOFF)

    @property
    def ask_first(self) -> bool:
        """Whether its store must be asked before it is sent; where a result is to be replaced, that tells nothing."""
        return self.may_be_known and not self.refresh

    @property
    def attempt(self) -> AttemptId:
        """The latest attempt."""
        return AttemptId(self.task_id, self.attempts)

    @property
    def in_hand(self) -> Needs:
        """What its attempt has of its worker."""
        return self.needs if self.memory is None else replace(self.needs, memory=self.memory)

    @property
    def history(self) -> TaskHistory:
        """What the judge may know of it."""
        return TaskHistory(
            self.charged,
            self.uncharged,
            self.deaths,
            self.first_placed_at,
            self.suspicions,
            self.limited,
            self.memory,
            checkpoint=self.checkpoint,
            idle_legs=self.idle_legs,
        )


@dataclass(frozen=True, slots=True)
class TaskView:
    """What an observer may compare: two ledgers that agree in these agree on the run."""

    state: TaskState
    attempts: int
    charged: int
    uncharged: int
    deaths: int
    bound_s: float
    retry_at: float | None
    worker: str | None
    avoid: tuple[str, ...]
    digest: str | None
    error: str
    floor_memory: int = 0
    idle_legs: int = 0
    timeout_s: float | None = None
    suspicions: int = 0


def view_of(record: TaskRecord) -> TaskView:
    """Return a record as an observer may see it."""
    return TaskView(
        record.state,
        record.attempts,
        record.charged,
        record.uncharged,
        record.deaths,
        record.bound_s,
        record.retry_at,
        record.worker,
        record.avoid,
        record.result.digest if record.result else None,
        record.error,
        record.floor_memory,
        record.idle_legs,
        record.timeout_s,
        record.suspicions,
    )
