"""What a run's journal records: one class per kind of line, and nothing else is ever written there.

A line is ``{"e": <kind>, "t": <seconds since the epoch>, ...fields}``; ``None`` and default values are left out.
The state of a run is the fold of these events (``lineage/replay``); the live keeper goes through the same fold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Payload, RetryPolicy


@dataclass(frozen=True, slots=True)
class RunOpened:
    """A driver opened the run."""

    at: float
    run_id: str
    target: str
    pid: int
    host: str
    version: str
    argv: tuple[str, ...] = ()
    budget_node_s: float | None = None
    """Node-seconds that the run may use; None: as many as it needs."""


@dataclass(frozen=True, slots=True)
class RunClosed:
    """A driver closed the run; another may open it again."""

    at: float
    because: str


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A call must be run; all that is needed to run it, by any driver."""

    at: float
    task_id: str
    name: str
    key: str
    store: str
    function: Payload
    arguments: Payload
    ancestors: tuple[tuple[str, str], ...] = ()
    """``(task_id, key)`` of each."""
    needs: Needs = field(default_factory=Needs)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_s: float | None = None
    expected_runtime_s: float | None = None
    priority: int = 0
    tag: str | None = None
    label: str = ""
    refresh: bool = False
    checkpoints: bool = False
    pure: bool = True
    verifies: str | None = None
    """The task whose result this one computes once more, to be compared."""
    persist: bool = True
    rule: Payload | None = None
    """``worth_retrying`` of its policy, pickled."""


@dataclass(frozen=True, slots=True)
class TasksHit:
    """Calls answered from the cache; counted, not listed, so that a million hits are a few lines."""

    at: float
    name: str
    count: int
    keys: bytes = b""
    """The first ``HIT_KEY`` bytes of each call's key, one after another; none in journals of older releases."""


@dataclass(frozen=True, slots=True)
class CallKept:
    """A call that was answered from a store, and that another call needs: told so that any driver can make it again."""

    at: float
    call: TaskSubmitted


HIT_KEY = 8
"""Bytes of a key that tell it from any other of a store: a million hits are to be a few megabytes."""


def hit_keys(event: TasksHit) -> list[bytes]:
    """Return what the keys of some hits begin with."""
    return [event.keys[start : start + HIT_KEY] for start in range(0, len(event.keys), HIT_KEY)]


@dataclass(frozen=True, slots=True)
class AttemptPlaced:
    """An attempt is about to be sent to a worker."""

    at: float
    task_id: str
    attempt: int
    worker: str
    allocation: str
    time_left_s: float | None = None
    need_s: float | None = None
    alone: bool = False
    """It is a suspect: nothing else runs on its allocation meanwhile."""
    memory: int | None = None
    """Bytes that are set aside for it on the worker; None: nobody knows how much that has."""


@dataclass(frozen=True, slots=True)
class AttemptRejoined:
    """A worker that had lost its driver is back, and still has the attempt in hand: it is not sent again."""

    at: float
    task_id: str
    attempt: int
    worker: str
    """Its address now."""
    allocation: str


@dataclass(frozen=True, slots=True)
class ReceiptTaken:
    """A result is durable, and the driver knows."""

    at: float
    task_id: str
    attempt: int
    digest: str
    size: int
    started_at: float
    ended_at: float
    peak_memory: int
    node: str
    allocation: str
    reused: bool = False
    cold: bool = False
    """The slot ran this function for the first time."""
    late: bool = False
    """The attempt had been given up, or another one had delivered before: kept for the record, changes nothing."""
    store: str | None = None
    """Where the result lies, if that is not the task's own store."""
    stray: str = ""
    """Why it lies there: it is not what the task's key says."""
    held_by: str | None = None
    """The worker that holds the result; it is nowhere else. A later receipt without says that it is stored now."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt ended without a receipt: evidence in short, verdict, decision."""

    at: float
    task_id: str
    attempt: int
    ending: str
    verdict: str
    charged: bool
    decision: str
    """``again``, ``wait`` or ``give_up``."""
    because: str
    retry_at: float | None = None
    worker: str | None = None
    allocation: str | None = None
    node: str | None = None
    error_type: str | None = None
    error: str | None = None
    traceback: str = ""
    exit_code: int | None = None
    signal: int | None = None
    ran_s: float | None = None
    peak_memory: int | None = None
    allocation_reason: str | None = None
    together: int | None = None
    """Attempts that were executing on the worker when it went, this one included."""
    worker_end: str | None = None
    """How the worker itself died, where that is known."""
    next_memory: int | None = None
    """Bytes that the next attempt must be given at least, since this one ran out of memory."""
    next_timeout_s: float | None = None
    """Timeout of the next attempt, which is given more time than this one."""
    time_left_s: float | None = None
    """Of its allocation, when it ended."""
    allocation_raw: str | None = None
    """The batch system's own words on the allocation."""
    checkpoint: str | None = None
    """A mark of what lay in the checkpoint directory, when the task handed itself back."""


@dataclass(frozen=True, slots=True)
class AttemptExplained:
    """The batch system said later why the allocation under an attempt ended."""

    at: float
    task_id: str
    attempt: int
    allocation: str
    allocation_reason: str
    because: str
    suspect: bool | None = None
    """True: the task may have brought it about, and runs alone next; False: it did not, and is a suspect no more."""


@dataclass(frozen=True, slots=True)
class ResultsDiffer:
    """A task that is said to be pure gave another result when it was computed once more; the first one stays."""

    at: float
    task_id: str
    first: str
    """Digest of its result (64 hex digits)."""
    second: str
    """Digest of the other one, which is kept too, as the result of ``second_task``."""
    second_task: str
    second_node: str
    because: str


@dataclass(frozen=True, slots=True)
class ResultDropped:
    """A result is gone: lost with the worker that held it, let go since nobody needs it any more, or damaged."""

    at: float
    task_id: str
    because: str
    call: TaskSubmitted | None = None
    """Of a result that was stored and is damaged: the call, which is forgotten once there is a result, told again."""


@dataclass(frozen=True, slots=True)
class TaskRecalled:
    """A task whose result was dropped is run again: somebody needs it."""

    at: float
    task_id: str
    because: str


@dataclass(frozen=True, slots=True)
class TaskGivenUp:
    """A task failed for good."""

    at: float
    task_id: str
    error_type: str
    error: str
    because: str


@dataclass(frozen=True, slots=True)
class TaskRevived:
    """A task that had failed for good, or was cancelled, is tried again from the beginning: its user wants it."""

    at: float
    task_id: str
    because: str
    call: TaskSubmitted | None = None
    """As it is told now, where it was submitted again."""


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """A task is no longer wanted."""

    at: float
    task_id: str
    because: str


@dataclass(frozen=True, slots=True)
class AllocationChanged:
    """An allocation was asked for, or moved on in its life."""

    at: float
    name: str
    state: str
    """``AllocationState`` value."""
    because: str
    worker_type: str | None = None
    job_id: str | None = None
    nodes: tuple[str, ...] = ()
    walltime_s: int | None = None
    ends_at: float | None = None
    reason: str | None = None
    """``ExitReason`` value when it ended."""
    raw: str | None = None
    configured_s: int | None = None
    """The walltime of its worker type, where it was asked for less."""


@dataclass(frozen=True, slots=True)
class FleetNote:
    """A planner decision that is not about one allocation: pause, submission refused or deferred, sweep."""

    at: float
    kind: str
    because: str


@dataclass(frozen=True, slots=True)
class HostSuspected:
    """A host does harm: new allocations keep away from it for a time."""

    at: float
    host: str
    until: float
    because: str


@dataclass(frozen=True, slots=True)
class HostsTrusted:
    """Hosts are no longer kept away from, before their time is over."""

    at: float
    hosts: tuple[str, ...]
    because: str


Event = (
    RunOpened
    | RunClosed
    | TaskSubmitted
    | TasksHit
    | CallKept
    | AttemptPlaced
    | AttemptRejoined
    | ReceiptTaken
    | AttemptFailed
    | AttemptExplained
    | ResultsDiffer
    | ResultDropped
    | TaskRecalled
    | TaskGivenUp
    | TaskRevived
    | TaskCancelled
    | AllocationChanged
    | FleetNote
    | HostSuspected
    | HostsTrusted
)
