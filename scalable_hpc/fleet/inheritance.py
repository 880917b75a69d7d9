"""The allocations that earlier drivers of a run opened and that have not ended, as far as its journal tells; pure.

A driver that takes a run up takes them over: those that wait keep their place in the queue, those that run are
joined by their workers again, and of those that ended meanwhile the batch system says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.events import AllocationChanged

_HOLDS_NODES = (AllocationState.STARTING.value, AllocationState.LIVE.value, AllocationState.DRAINING.value)


@dataclass(frozen=True, slots=True)
class Inherited:
    """One allocation of an earlier driver."""

    name: str
    worker_type: str
    job_id: str | None
    """None: that driver had not heard whether the batch system took it."""
    asked_at: float
    """Seconds since the epoch."""
    walltime_s: int | None = None
    nodes: tuple[str, ...] = ()


class Estate:
    """What the events of a journal leave behind."""

    def __init__(self) -> None:
        self._left: dict[str, Inherited] = {}
        self.last_number = 0
        """Of all allocations' names."""
        self.spent_node_s = 0.0
        """Node-seconds that those have used which have ended."""
        self._began: dict[str, float] = {}

    def note(self, event: AllocationChanged) -> None:
        """Fold in an event, in the order of the journal."""
        self.last_number = max(self.last_number, int(event.name[1:]))
        if event.state in _HOLDS_NODES:
            self._began.setdefault(event.name, event.at)
        if event.state == AllocationState.ENDED.value:
            left = self._left.pop(event.name, None)
            nodes = event.nodes or (left.nodes if left else ())
            self.spent_node_s += max(1, len(nodes)) * (event.at - self._began.pop(event.name, event.at))
            return
        before = self._left.get(event.name)
        self._left[event.name] = Inherited(
            event.name,
            event.worker_type or (before.worker_type if before else ""),
            event.job_id or (before.job_id if before else None),
            before.asked_at if before else event.at,
            event.walltime_s or (before.walltime_s if before else None),
            event.nodes or (before.nodes if before else ()),
        )

    def left(self) -> tuple[Inherited, ...]:
        """Return what has not ended, oldest first."""
        return tuple(self._left.values())

    def worker_types(self) -> Mapping[str, str]:
        """Return the worker type of each allocation that has not ended."""
        return {name: each.worker_type for name, each in self._left.items()}
