"""Which jobs have waited long for what only others can remove, and have nobody who does their work meanwhile; pure.

Rule 1: each job is told of once for each reason; to wait for one's turn is no reason.
Rule 2: no I/O, no clock; ``now`` comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView, Limits
from scalable_hpc.model.units import format_time

Stuck = Callable[[str], str | None]
"""Says, of the reason that a pending job waits for, why that will not pass by itself; None: it is the queue."""


def why_stuck(seen: AllocationView, limits: Limits, stuck: Stuck, now: float) -> str | None:
    """Return since when and what for an allocation waits, if that is long and for what others must remove."""
    waited = now - seen.submitted_at
    if seen.state is not AllocationState.PENDING or waited < limits.fallback_after_s:
        return None
    why = stuck(seen.pending_because)
    return None if why is None else f"{seen.name} has waited {waited:.0f} s, and {why} ({seen.pending_because})"


class StuckWatch:
    """Remembers who was told of."""

    def __init__(self, limits: Mapping[str, Limits], stuck: Stuck) -> None:
        self._limits = {name: each for name, each in limits.items() if not each.fallbacks}
        self._stuck = stuck
        self._told: dict[str, str] = {}

    def look(self, allocations: Iterable[AllocationView], now: float) -> list[str]:
        """Return the words on those that are stuck and were not told of; types with fallbacks are not looked at."""
        words: list[str] = []
        for seen in allocations:
            limits = self._limits.get(seen.worker_type)
            if limits is None or self._told.get(seen.name) == seen.pending_because:
                continue
            why = why_stuck(seen, limits, self._stuck, now)
            if why is not None:
                self._told[seen.name] = seen.pending_because
                start = seen.expected_start
                expected = (
                    "no start is forecast" if start is None else f"its start is forecast for {format_time(start)}"
                )
                words.append(f"{why}; {expected}")
        return words
