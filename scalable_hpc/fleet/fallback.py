"""Which worker types cannot be had now, and who does their work meanwhile; pure.

A worker type that has fallbacks is *away* when the batch system refuses it, when its allocations fail to start, or
when they have waited long for a reason that only others can remove (its partition is down). Its tasks then count for
the first of its fallbacks that is not away itself. One allocation of it stays asked for, and when a worker of that is
here, the type is back.

Rule 1: no I/O, no clock; ``now`` comes in.
Rule 2: a type without fallbacks is never away: its troubles are told to the run instead. One that is only a larger
request of another is: the tasks that need it fail, and nobody else.
Rule 3: waiting for one's turn in the queue is no reason: it passes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scalable_hpc.fleet.standing import Standing
from scalable_hpc.fleet.stuck import Stuck, why_stuck
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView, Demand, Limits

_S = AllocationState
_HERE = (_S.LIVE, _S.DRAINING)


@dataclass(frozen=True, slots=True)
class Shift:
    """A worker type goes away, or is back."""

    worker_type: str
    is_away: bool
    because: str


class Understudies:
    """Keeps who is away, from one plan to the next."""

    def __init__(self, limits: Mapping[str, Limits], stuck: Stuck) -> None:
        self._limits = limits
        self._stuck = stuck
        self._away: dict[str, str] = {}

    def look(
        self, seen: Mapping[str, Sequence[AllocationView]], standings: Mapping[str, Standing], now: float
    ) -> list[Shift]:
        """Notice who went away and who is back.

        Args:
            seen: the allocations that have not ended, by worker type.
            standings: what was learned of each type that has fallbacks.
            now: seconds since the epoch.
        """
        shifts: list[Shift] = []
        for worker_type, limits in self._limits.items():
            if not limits.may_be_away:
                continue
            allocations = seen.get(worker_type, ())
            here = next((each.name for each in allocations if each.state in _HERE and each.live_slots), None)
            why = None if here else self._why_away(limits, allocations, standings[worker_type], now)
            if worker_type in self._away and here:
                del self._away[worker_type]
                shifts.append(Shift(worker_type, False, f"a worker of {here} is here"))
            elif worker_type not in self._away and why:
                self._away[worker_type] = why
                shifts.append(Shift(worker_type, True, why))
        return shifts

    def forget(self, worker_type: str) -> None:
        """Nobody wants the type any more: new work is a new try."""
        self._away.pop(worker_type, None)

    def stand_ins(self) -> Mapping[str, tuple[str, ...]]:
        """Return each type that is away with those that may do its work now, the first choice first."""
        return {
            name: tuple(each for each in self._limits[name].fallbacks if each not in self._away) for name in self._away
        }

    def _why_away(
        self, limits: Limits, allocations: Sequence[AllocationView], standing: Standing, now: float
    ) -> str | None:
        if standing.trouble is not None:
            return standing.trouble.message
        if any(each.state is _S.STARTING for each in allocations):
            return None
        reasons = (why_stuck(each, limits, self._stuck, now) for each in allocations)
        return next((why for why in reasons if why is not None), None)


def probing(wanted: Demand | None, worker_type: str) -> Demand | None:
    """Return the demand for a type that is away: one task's worth of what others do for it, so that it is asked for."""
    if wanted is None or not wanted.diverted:
        return wanted
    return Demand(
        worker_type, max(1, wanted.waiting), wanted.assigned, wanted.need_s, wanted.mean_s, calls=wanted.calls
    )
