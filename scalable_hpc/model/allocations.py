"""Allocations: batch jobs that hold nodes for us, as the batch system and as the fleet see them.

Rule 1: UNKNOWN is a state, never an exception, and never means "finished".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class JobState(Enum):
    """What a batch system says a job is doing, in our words; ``raw`` beside it keeps its own."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDING = "ending"
    """Being torn down (COMPLETING, PBS state E): processes may still run for a few seconds."""
    ENDED = "ended"
    UNKNOWN = "unknown"


class ExitReason(Enum):
    """Why an allocation ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    BOOT_FAIL = "boot_fail"
    PREEMPTED = "preempted"
    REQUEUED = "requeued"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    LAUNCH_FAILED = "launch_failed"
    """The batch system could not start the script (bad directory, unwritable output, bad interpreter)."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class JobEnding:
    """How a job ended, in the batch system's words and ours."""

    reason: ExitReason
    raw: str
    """The state and reason exactly as printed, for logs and reports."""
    exit_code: int | None = None
    signal: int | None = None
    ended_at: float | None = None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobObservation:
    """One job at one moment, as a batch system told it."""

    job_id: str
    state: JobState
    raw: str
    because: str = ""
    """The batch system's reason, unchanged: ``Resources``, ``QOSMaxJobsPerUserLimit``, ``NonZeroExitCode``."""
    name: str = ""
    comment: str = ""
    submitted_at: float | None = None
    started_at: float | None = None
    ends_at: float | None = None
    """When the walltime will end the job, if it runs."""
    nodes: tuple[str, ...] = ()
    ending: JobEnding | None = None
    """Set when and only when ``state`` is ENDED."""
    restarts: int = 0
    expected_start: float | None = None
    """When the batch system thinks that a job which waits will start (seconds since the epoch); a forecast."""


class AllocationState(Enum):
    """The life of an allocation as the fleet sees it."""

    SUBMITTING = "submitting"
    PENDING = "pending"
    STARTING = "starting"
    """The batch job runs; no worker has registered yet."""
    LIVE = "live"
    DRAINING = "draining"
    """Gets nothing new; running attempts finish."""
    CLOSING = "closing"
    """Retired or cancelled; the batch system has not confirmed the end yet."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """What is asked of the batch system for one allocation."""

    name: str
    """Unique in the run and never reused: ``a0007``."""
    worker_type: str
    nodes: int
    walltime_s: int
    because: str
    excluded_nodes: tuple[str, ...] = ()
    array: tuple[str, ...] = ()
    """The allocations that are asked for together with this one, itself included; empty: it is asked for alone."""
