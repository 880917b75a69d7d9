"""What was learned of one worker type, and what one piece of news changed; pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from scalable_hpc.errors import ScalableError
from scalable_hpc.fleet.known import Known
from scalable_hpc.model.allocations import AllocationState

WAITS_REMEMBERED = 20
"""Queue waits that the p90 is drawn from: queues change within hours, so old waits tell little."""


@dataclass(frozen=True, slots=True)
class Change:
    """One allocation before (None: it is new) and after something was heard or done."""

    before: Known | None
    after: Known

    @property
    def is_new_state(self) -> bool:
        """Whether its state changed, or it was requeued within its state."""
        return (
            self.before is None
            or self.before.view.state is not self.after.view.state
            or self.before.view.submitted_at != self.after.view.submitted_at
        )

    @property
    def is_new_reason(self) -> bool:
        """Whether it waits as before, for another reason, or has now been told when it may start."""
        if self.before is None or self.after.view.state is not AllocationState.PENDING:
            return False
        before, after = self.before.view, self.after.view
        is_first_forecast = before.expected_start is None and after.expected_start is not None
        return before.pending_because != after.pending_because or is_first_forecast

    @property
    def lost_nodes(self) -> tuple[str, ...]:
        """Nodes that it has just lost while its job goes on."""
        before = () if self.before is None else self.before.lost
        return tuple(node for node in self.after.lost if node not in before)

    @property
    def has_ended(self) -> bool:
        """Whether this is the moment that it ended."""
        return self.after.ending is not None and (self.before is None or self.before.ending is None)


@dataclass(slots=True)
class Standing:
    """What was learned of one worker type."""

    failures: tuple[str, ...] = ()
    """Allocations in a row that ended before any worker registered, oldest first."""
    paused_until: float | None = None
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=WAITS_REMEMBERED))
    trouble: ScalableError | None = None
    """Why it cannot be had, where a fallback does its work meanwhile."""
    troubles: int = 0
    """How often in a row it could not be had."""

    def forgive(self) -> None:
        """Forget all but the queue waits."""
        self.failures, self.paused_until = (), None
        self.trouble, self.troubles = None, 0
