"""What the fleet needs of others: somebody to open allocations, somebody to ask about them, a clock, a run around it.

Rule 1: the supervisor reaches the world only through these; tests give it fakes, ``wiring`` gives it the real ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scalable_hpc.fleet.inheritance import Inherited
from scalable_hpc.model.allocations import AllocationRequest, JobEnding, JobObservation
from scalable_hpc.model.events import Event
from scalable_hpc.model.fleet import Demand


class Allocator(Protocol):
    """Opens and closes allocations."""

    async def open(self, request: AllocationRequest) -> str:
        """Submit and return the job id.

        Raises:
            SubmissionError: refused for good.
            SubmissionDeferred: not now, perhaps later.
            BatchSilent: no answer: it may have been taken or not.
        """

    async def open_array(self, requests: Sequence[AllocationRequest]) -> Sequence[str]:
        """Submit several as one array of jobs and return their job ids; raises as ``open`` does, for all of them."""

    async def close(self, name: str, because: str) -> None:
        """Give an allocation back and forget it; one that is over, or was never opened here, is no error."""

    async def drain(self, name: str, because: str) -> None:
        """Let an allocation's workers get nothing new; when this returns, none will."""


class Batch(Protocol):
    """The part of a batch backend that the fleet uses; each verb may raise ``BatchSilent``."""

    async def status(self, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
        """Observe many jobs with one query."""

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs."""

    async def find(self, run_id: str) -> Sequence[JobObservation]:
        """Every job of a run that is not over."""


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds since the epoch."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


class WallClock:
    """The real clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Run:
    """What the fleet asks of the run that it serves, and tells it; every call is made on the engine's loop."""

    run_id: str
    demand: Callable[[], Sequence[Demand]]
    busy: Callable[[], Mapping[str, int]]
    """Attempts assigned, by allocation name."""
    record: Callable[[Event], None]
    """Into the journal."""
    on_allocation_ended: Callable[[str, JobEnding], None]
    on_failure: Callable[[Exception], None]
    """The fleet cannot go on for a worker type: refused for good, never to run, or failing to start."""
    log_tail: Callable[[str], str] = lambda _: ""
    """The last lines of an allocation's job output; called in a thread, may block."""
    never_runs: Callable[[str], str | None] = lambda _: None
    """Whether a pending reason means that the job will never run, and if so why, in words."""
    excluded_nodes: Callable[[], tuple[str, ...]] = tuple
    """Nodes that new allocations are to keep away from."""
    unexplained: Callable[[], Collection[str]] = tuple
    """Names of allocations that took attempts along, and whose own end would say why."""
    on_requeued: Callable[[str, JobEnding], None] = lambda *_: None
    """The batch system took an allocation's nodes away and will run its job again, under the same name."""
    on_nodes_lost: Callable[[str, JobEnding], None] = lambda *_: None
    """The batch system took some nodes out of an allocation, which goes on with the others."""
    stuck: Callable[[str], str | None] = lambda _: None
    """Whether a pending reason will not pass by itself, as a turn in the queue does, and if so why, in words."""
    on_stand_ins: Callable[[Mapping[str, tuple[str, ...]]], None] = lambda _: None
    """Which worker types cannot be had now, and which others do their work; told when that changes."""
    most_jobs: int | None = None
    """Jobs that the site takes of this user, waiting and running; None: it has no limit."""
    budget_node_s: float | None = None
    """Node-seconds that the run may use; None: as many as it needs."""
    spent_node_s: float = 0.0
    """What allocations of earlier drivers have used, which have ended."""
    first_number: int = 1
    """The number of the first allocation's name; more than 1 when a run is taken up again."""
    inherited: Sequence[Inherited] = ()
    """Allocations of an earlier driver of this run that may live."""
