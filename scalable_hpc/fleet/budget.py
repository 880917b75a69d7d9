"""What a run has used of its node-hours, and what it may still use; pure.

Everything open counts to the end of its walltime, since it may last so long: so a budget is never overspent by a
decision of ours. What is given back earlier frees the rest.

Rule 1: no I/O, no clock; ``now`` comes in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView

HOUR_S = 3600.0
_NOT_BEGUN = (AllocationState.SUBMITTING, AllocationState.PENDING)


@dataclass(frozen=True, slots=True)
class Balance:
    """A run's budget at one moment, in node-seconds."""

    budget_node_s: float
    used_node_s: float
    """By every allocation of the run, those of earlier drivers too, until now."""
    bound_node_s: float
    """What the open allocations use if each lasts to the end of its walltime."""

    @property
    def left_node_s(self) -> float:
        """What nobody has used or may use yet."""
        return self.budget_node_s - self.used_node_s - self.bound_node_s

    def __str__(self) -> str:
        used, bound, whole = (each / HOUR_S for each in (self.used_node_s, self.bound_node_s, self.budget_node_s))
        return f"{used:.3g} of {whole:.3g} node-hours used" + (
            f", {bound:.3g} more at most by what is open" * (bound > 0)
        )


def balance_of(budget_node_s: float, spent_node_s: float, opened: Iterable[AllocationView], now: float) -> Balance:
    """Return the balance.

    Args:
        budget_node_s: the whole budget.
        spent_node_s: by allocations that have ended.
        opened: those that have not.
        now: seconds since the epoch.
    """
    several = list(opened)
    used = spent_node_s + sum(used_node_s(seen, now) for seen in several)
    return Balance(budget_node_s, used, sum(_may_use_node_s(seen, now) for seen in several))


def used_node_s(seen: AllocationView, until: float) -> float:
    """Return what an allocation has used of its nodes by a time; nothing while it waits."""
    return 0.0 if seen.started_at is None else seen.nodes * max(0.0, until - seen.started_at)


def _may_use_node_s(seen: AllocationView, now: float) -> float:
    if seen.state is AllocationState.CLOSING:
        return 0.0
    if seen.state in _NOT_BEGUN or (seen.ends_at is None and seen.started_at is None):
        return float(seen.nodes * seen.walltime_s)
    ends_at = seen.ends_at if seen.ends_at is not None else (seen.started_at or now) + seen.walltime_s
    return seen.nodes * max(0.0, ends_at - now)
