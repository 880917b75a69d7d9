"""What was learned of one worker type, and what one piece of news changed; pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from scalable_hpc.errors import ScalableError
from scalable_hpc.fleet.known import Known
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import Incoming

WAITS_REMEMBERED = 20
"""Queue waits that the p90 is drawn from: queues change within hours, so old waits tell little."""
SETTLES_IN_S = 1.0
"""A script that makes its calls in one go makes the next one sooner; one that waits for results first rarely does."""
GATHERS_FOR_S = 5.0
"""How long a shorter request is put off while calls come in: nothing beside a wait in a queue."""


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
class Calls:
    """How the calls of the run came in, and which of them were there when an allocation was first asked for."""

    count: int = 0
    grew_at: float = -math.inf
    burst_began_at: float = -math.inf
    bursts: int = 0
    bursts_when_asked: int | None = None

    def hear(self, count: int, now: float) -> None:
        """Take in how many calls there are by now."""
        if count > self.count:
            if now - self.grew_at >= SETTLES_IN_S:
                self.bursts, self.burst_began_at = self.bursts + 1, now
            self.grew_at = now
        self.count = count

    def asked(self) -> None:
        """Note that an allocation is asked for."""
        if self.bursts_when_asked is None:
            self.bursts_when_asked = self.bursts

    def incoming(self, now: float) -> Incoming:
        """Say whether more calls are to be expected."""
        is_growing = now - self.grew_at < SETTLES_IN_S
        if self.bursts_when_asked is not None and self.bursts > self.bursts_when_asked:
            return Incoming.OPEN_ENDED
        if not is_growing:
            return Incoming.SETTLED
        return Incoming.GATHERING if now - self.burst_began_at < GATHERS_FOR_S else Incoming.OPEN_ENDED


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
    calls: Calls = field(default_factory=Calls)

    def forgive(self) -> None:
        """Forget all but the queue waits."""
        self.failures, self.paused_until = (), None
        self.trouble, self.troubles = None, 0
