"""Tasks, attempts, receipts and the evidence of attempts that ended without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from scalable_hpc.model.resources import Needs
from scalable_hpc.model.retry import RetryPolicy as RetryPolicy  # noqa: PLC0414 - told here too
from scalable_hpc.model.retry import Verdict as Verdict  # noqa: PLC0414 - likewise


@dataclass(frozen=True, slots=True)
class AttemptId:
    """The n-th try of a task, counted from 1; unique, and so is the Dask key made from it."""

    task_id: str
    number: int

    def __str__(self) -> str:
        return f"{self.task_id}.{self.number}"


PUT = "put-"
"""What the name of a value begins with that was put into the run's store by the driver."""


@dataclass(frozen=True, slots=True)
class ResultRef:
    """Stands in a task's arguments for the result of another task, or for a value that was put into the store."""

    task_id: str
    key: str
    """The lineage key of that task (64 hex digits)."""

    @property
    def is_shared(self) -> bool:
        """Whether many tasks are likely to ask for it: it was put there for them."""
        return self.task_id.startswith(PUT)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the task's number: equal calls of a driver that is started again are equal bytes."""
        return ResultRef, (f"{PUT if self.is_shared else ''}{self.key[:12]}", self.key)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a durable result lies."""

    store: str
    """Absolute path of the store's root."""
    key: str
    """The key it is stored under (64 hex digits)."""
    digest: str
    """BLAKE3 of the stored bytes (64 hex digits)."""
    size: int
    inline: bytes | None = None
    """The stored bytes themselves when they are small, so that nobody needs to open the store for them."""
    held: bool = False
    """It is not in the store: the worker that computed it holds it, on its node."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Says that an attempt's result is durable."""

    attempt: AttemptId
    result: Locator
    started_at: float
    ended_at: float
    peak_memory: int
    """Bytes: the highest resident set of the slot while it ran this attempt."""
    node: str
    worker: str
    allocation: str
    reused: bool = False
    """The result was found in the store; nothing was computed."""
    cold: bool = False
    """The slot ran this function for the first time: what it imports is part of its run time."""
    stray: str = ""
    """Why the result lies in the run's own store and not where its key leads; empty where it does not."""


class Ending(Enum):
    """How an attempt ended when it ended without a receipt."""

    EXCEPTION = "exception"
    SLOT_DIED = "slot_died"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    NEVER_STARTED = "never_started"
    """Was assigned to a worker (or waited in a bundle) and had not begun."""
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """The worker could not take it: drained in the meantime, payload unreadable, store unwritable."""


@dataclass(frozen=True, slots=True)
class ExceptionFacts:
    """A raised exception as data: judged by type and errno, never by its text."""

    type_name: str
    """``module.QualName`` of the class."""
    bases: tuple[str, ...]
    """``module.QualName`` of every class in its MRO, most derived first."""
    message: str
    errno: int | None = None
    http_status: int | None = None
    traceback: str = ""
    pickled: bytes | None = None
    """The exception itself (cloudpickle), opened only where its owner asks for the result."""
    worth_retrying: bool | None = None
    """What the user's own rule said of it; None: nothing."""
    rule_failed: str = ""
    """Why the user's own rule could not be asked."""
    checkpoint: str | None = None
    """A mark of what lay in the checkpoint directory of a task that handed itself back; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts about one attempt that ended without a receipt; what is not known is None."""

    attempt: AttemptId
    ending: Ending
    at: float
    worker: str | None = None
    allocation: str | None = None
    node: str | None = None
    exception: ExceptionFacts | None = None
    exit_code: int | None = None
    signal: int | None = None
    ran_s: float | None = None
    """How long the attempt had been executing; None when it is not known to have started."""
    peak_memory: int | None = None
    time_left_s: float | None = None
    allocation_reason: str | None = None
    """``ExitReason`` value of the allocation, when the batch system has said."""
    allocation_raw: str | None = None
    expected: bool = False
    """We asked for it: our own drain, retire or cancel."""
    log_tail: str = ""
    together: int | None = None
    """How many attempts were executing on the worker when it went, this one included; None: this one was not."""
    worker_end: str = ""
    """How the worker itself died, when somebody on its node lived to tell: ``SIGKILL``, ``exit code 1``."""
    job_log: str = ""
    """The end of what it printed itself where its worker lost only its slots, or of what its job did, which had died;
    the latter is read for an attempt that ran alone."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Pickled bytes, in hand or in the run's payload pack."""

    digest: str
    """BLAKE3 of the bytes (64 hex digits)."""
    size: int
    inline: bytes | None = None
    offset: int | None = None
    """Where the bytes start in ``payloads.pack``."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One submitted call: what the keeper keeps of it."""

    task_id: str
    """Unique in the run, readable: ``run_simulation-00042``."""
    name: str
    """The task name of the manifest, or the function's name; what is learned is learned per name."""
    key: str
    """Lineage key (64 hex digits): function, code, bound arguments, ancestors; for a cacheable call its cache key."""
    function: Payload
    arguments: Payload
    """cloudpickle of ``(args, kwargs)`` with every future replaced by its ResultRef."""
    store: str
    """Root of the store that the result is published to: the shared cache for cacheable calls, else the run's own."""
    ancestors: tuple[ResultRef, ...] = ()
    needs: Needs = field(default_factory=Needs)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_s: float | None = None
    expected_runtime_s: float | None = None
    priority: int = 0
    tag: str | None = None
    submitted_at: float = 0.0
    label: str = ""
    """The call as a person would write it, shortened: ``run_simulation(scenario_id=47)``."""
    refresh: bool = False
    """Compute even where the key has a result, and put the new one in its place."""
    checkpoints: bool = False
    """It saves its state and raises ``Checkpointed`` in time: it may run longer than any allocation lasts."""
    pure: bool = True
    """The same call gives the same result; else its first result is the one that counts."""
    verify_pure: float = 0.0
    """Share of such tasks that are computed once more, to be compared."""
    verifies: str | None = None
    """The task whose result this one computes once more."""
    persist: bool = True
    """Its result is stored; else its worker holds it, and it is computed again if the worker is lost."""
    rule: Payload | None = None
    """``worth_retrying`` of its policy, pickled."""
    is_resumed: bool = False
    """It is a task that an earlier driver of the run had submitted, and that a call of this one stands for again."""


@dataclass(slots=True, eq=False)
class Hit:
    """A call that was answered from a store, should its result there be lost, and what it depends on."""

    spec: TaskSpec
    above: tuple[Hit, ...] = ()
    """Those of the calls it depends on that were answered so too."""
    is_kept: bool = False
    """The journal has been told what it was called with."""


def unkept(hits: Iterable[Hit]) -> list[Hit]:
    """Return those of some hits, and of what they depend on, that the journal does not know; each is taken for kept."""
    found: list[Hit] = []
    left = list(hits)
    while left:
        hit = left.pop()
        if not hit.is_kept:
            hit.is_kept = True
            found.append(hit)
            left += hit.above
    return found
