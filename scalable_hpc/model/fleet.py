"""What the fleet planner is told and what it answers; plain data, so that a year of cluster life is a unit test."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from scalable_hpc.model.allocations import AllocationState


class Incoming(Enum):
    """Whether the work that is known is all there will be, as far as the past tells."""

    SETTLED = "all calls came in one go, which is over"
    GATHERING = "calls are coming in at this moment"
    OPEN_ENDED = "calls keep coming, or came after the first request"


@dataclass(frozen=True, slots=True)
class AllocationView:
    """One allocation as the planner sees it."""

    name: str
    worker_type: str
    state: AllocationState
    slots: int
    """All nodes together."""
    walltime_s: int
    submitted_at: float
    job_id: str | None = None
    started_at: float | None = None
    ends_at: float | None = None
    live_slots: int = 0
    """Slots of workers that are registered now."""
    busy: int = 0
    """Attempts assigned to its workers."""
    pending_because: str = ""
    drain_asked: str = ""
    """Set when a worker asked to be drained; its words."""
    reached_live: bool = False
    """A worker of it registered at least once."""
    alone_since: float | None = None
    """Since when its job runs without any worker of it being registered; None: has one, or does not run."""
    closing_since: float | None = None
    ended_at: float | None = None
    because: str = ""
    """Why it is in its state, in words."""
    was_whole: bool = False
    """All its slots were live at one time: what is missing now was lost, and is not on its way."""
    nodes: int = 1
    expected_start: float | None = None
    """When the batch system thinks that it will start; None: it waits no more, or nobody says."""
    configured_s: int | None = None
    """The walltime of its worker type, where it was asked for less."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the keeper wants run, per worker type."""

    worker_type: str
    waiting: int
    """Ready or about to be ready, not assigned."""
    assigned: int
    need_s: float | None = None
    """How long the longest waiting task is thought to run; None: not known."""
    mean_s: float | None = None
    diverted: int = 0
    """Of the tasks that are meant for it: those that wait for another type, since this one cannot be had."""
    longest_s: float | None = None
    """What the longest of the waiting tasks may need; None: of one of them at least nothing is known."""
    work_s: float = 0.0
    """Slot-seconds that all of them need, as far as is known; those that are assigned count as if they began now."""
    calls: int = field(default=0, compare=False)
    """That the run has taken so far, of all worker types."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the manifest and the site allow for one worker type on one target."""

    worker_type: str
    minimum: int = 0
    """Allocations kept while there is any work at all."""
    maximum: int = 1
    """Allocations that may exist (pending or running) in steady state; a successor may overlap its predecessor."""
    nodes: int = 1
    slots_per_node: int = 1
    """Of each node that has a worker."""
    walltime_s: int = 3600
    margin_s: float = 5.0
    """Kept free at the end of an allocation: no attempt is placed that might reach into it."""
    lead_s: float = 120.0
    """How long before its end an allocation is replaced at the latest, queue wait aside."""
    start_failures: int = 3
    """Allocations in a row that end before any worker registers, then the fleet pauses with an error."""
    max_pending: int = 100
    idle_s: float = 15.0
    """How long a worker may have nothing to do before its allocation is given back."""
    fallbacks: tuple[str, ...] = ()
    """Worker types that do its work while it cannot be had, the first choice first."""
    fallback_after_s: float = 300.0
    """How long it may wait for a reason that only others can remove, before a fallback takes over."""
    shortens: bool = False
    """Whether allocations may be asked for a shorter time than ``walltime_s`` where less is left to do."""
    array: int = 1
    """Allocations that one submission may ask for."""
    is_grown: bool = False
    """A larger request of another worker type: where it cannot be had, that one's tasks do without."""
    nodes_per_worker: int = 1

    @property
    def may_be_away(self) -> bool:
        """Whether the run goes on where this worker type cannot be had."""
        return bool(self.fallbacks) or self.is_grown

    @property
    def slots(self) -> int:
        """Of an allocation; nodes that are too few for another worker have none."""
        return max(1, self.nodes // self.nodes_per_worker) * self.slots_per_node


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything the planner may look at."""

    allocations: tuple[AllocationView, ...]
    queue_wait_p90_s: float = 0.0
    """Observed from submission to first worker; 0 until something was observed."""
    start_failures_in_a_row: int = 0
    paused_until: float | None = None
    last_busy_at: dict[str, float] = field(default_factory=dict)
    """Allocation name to the last time it had anything assigned."""
    closing: bool = False
    """The session is ending: nothing new."""
    jobs_left: int | None = None
    """Jobs that the site takes of this user besides those of the whole fleet; None: it has no limit."""
    incoming: Incoming = Incoming.SETTLED
    node_s_left: float | None = None
    """Node-seconds of the run's budget that nobody uses or may use yet; None: there is no budget."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Ask for one more allocation."""

    worker_type: str
    nodes: int
    walltime_s: int
    because: str
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Give an allocation nothing new."""

    name: str
    because: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Close an allocation whose workers have nothing left to do, or no time."""

    name: str
    because: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take back an allocation that has not started."""

    name: str
    because: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Open nothing before ``until`` (seconds since the epoch)."""

    until: float
    because: str


Action = Submit | Drain | Retire | Cancel | Pause
