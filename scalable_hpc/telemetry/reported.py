"""What a run's report holds: one record per thing that it tells of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by how they stand; ``hits`` were never tasks of this run: their results were known."""

    submitted: int
    done: int
    failed: int
    cancelled: int
    unfinished: int
    hits: int


@dataclass(frozen=True, slots=True)
class NameReport:
    """The same by task name."""

    name: str
    submitted: int
    done: int
    failed: int
    hits: int
    mean_s: float | None
    """Mean time of the attempts that delivered; None: there were none."""


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """Attempts that ended without a receipt, in the same way and for the same reason."""

    ending: str
    reason: str
    """Why the allocation under them ended; empty when it did not, or nobody said."""
    verdict: str
    charged: bool
    count: int


@dataclass(frozen=True, slots=True)
class AllocationReport:
    """One allocation's life."""

    name: str
    worker_type: str
    job_id: str
    state: str
    reason: str
    raw: str
    because: str
    nodes: tuple[str, ...]
    asked_at: float
    started_at: float | None
    ended_at: float | None
    node_hours: float
    receipts: int
    lost: int
    """Attempts that ended with it, without a receipt."""
    asked_s: int | None = None
    """The walltime that it was asked for."""
    configured_s: int | None = None
    """The walltime of its worker type, where it was asked for less."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that ended without a receipt, and all that was known of it; None: nobody knew."""

    task_id: str
    label: str
    attempt: int
    at: float
    ending: str
    verdict: str
    charged: bool
    decision: str
    because: str
    worker: str | None
    allocation: str | None
    node: str | None
    exit_code: int | None
    """Of its slot; so is the signal."""
    signal: int | None
    worker_end: str | None
    """How its worker died, if it did."""
    ran_s: float | None
    peak_memory: int | None
    """Bytes."""
    time_left_s: float | None
    """Of its allocation."""
    allocation_reason: str
    """Why its allocation ended, as far as anybody said, then or later; empty: it did not, or nobody did."""
    allocation_raw: str
    """The batch system's own words on that."""
    error_type: str | None
    error: str | None
    traceback: str
    """Of the exception; where there was none, the end of what the slot had printed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed for good."""

    task_id: str
    label: str
    error_type: str
    error: str
    because: str
    verdict: str
    worker: str
    allocation: str
    node: str
    ran_s: float | None
    retries: int
    """Attempts after the first one that were charged."""
    uncharged: int
    """Attempts that infrastructure took and that were not held against it."""
    deaths: int
    """Slots that died running it and nothing else was to blame."""
    workers: int
    """Whole workers that died under it for no reason of the infrastructure's."""
    traceback: str
    attempts: tuple[EndedAttempt, ...] = ()
    """Each of its attempts."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the faults cost: lost, run again, skipped."""

    attempts_lost: int
    """Attempts that were not charged: infrastructure took them."""
    attempts_suspect: int
    """Attempts that were not charged although their slots died: whether they were to blame, another one told."""
    attempts_beside: int
    """Attempts that were running on a worker that died for no known reason: they ran again alone, uncharged."""
    attempts_charged: int
    tasks_run_again: int
    """Tasks with more than one attempt that began."""
    extra_attempts: int
    done_twice: int
    """Tasks that were placed again although a receipt for them had been taken. Should be 0."""
    reused: int
    """Attempts that found their result in the store, published by one whose receipt was lost."""
    done_before: int
    """Tasks that were done before the last driver of the run started."""
    recalled: int = 0
    """Times that a task was run again since its result was lost with the worker that held it, or damaged on disk."""


@dataclass(frozen=True, slots=True)
class Note:
    """A decision of the fleet that is not about one allocation."""

    at: float
    kind: str
    because: str


@dataclass(frozen=True, slots=True)
class Differing:
    """A call that is said to be pure and gave another result when it was computed once more."""

    task_id: str
    label: str
    first: str
    """Digest of the result that counts."""
    second: str
    second_node: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything a run's journal tells."""

    run_id: str
    target: str
    opened_at: float
    last_at: float
    is_closed: bool
    closed_because: str
    drivers: int
    """How many drivers worked on it, one after the other."""
    tasks: TaskCounts
    names: tuple[NameReport, ...]
    attempts: tuple[AttemptCount, ...]
    allocations: tuple[AllocationReport, ...]
    node_hours: float
    failures: tuple[Failure, ...]
    upkeep: Upkeep
    notes: tuple[Note, ...]
    verified: int = 0
    """Calls that were computed once more, to be compared."""
    differing: tuple[Differing, ...] = ()
    """Those of them whose results were not the same."""
    ended: tuple[EndedAttempt, ...] = ()
    """Every attempt that ended without a receipt, in the order of the journal."""
    budget_node_hours: float | None = None
    """What the run may use; None: as many as it needs."""
    forecast_node_hours: float = 0.0
    """What it will have used if every allocation that runs or waits lasts to the end of its walltime."""

    @property
    def wall_s(self) -> float:
        """From the first event to the last."""
        return self.last_at - self.opened_at
