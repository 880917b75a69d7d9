"""What the fleet does about the run's budget: says when it pays no further allocation, and ends what is left.

Rule 1: what runs is let finish; the run is told once, when nothing that was opened works any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from scalable_hpc.errors import BudgetSpent
from scalable_hpc.fleet.budget import HOUR_S, Balance
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.fleet.walltime import least_walltime_s
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import Demand, Limits

logger = logging.getLogger(__name__)


class Purse:
    """Keeps an eye on the balance, from one plan to the next."""

    def __init__(self, roster: Roster, limits: Mapping[str, Limits], note: Callable[[str, str], None]) -> None:
        self._roster = roster
        self._limits = limits
        self._note = note
        self._is_told = self._is_over = False

    def heed(self, balance: Balance, wanted: Mapping[str, Demand]) -> BudgetSpent | None:
        """Say when nothing more can be opened; return the error for what is left once all that ran is through."""
        short = [] if self._is_over else self._too_dear(balance, wanted)
        if not short:
            return None
        price, cheapest = min(short)
        words = f"{balance}; an allocation of {cheapest!r} takes up to {price / HOUR_S:.3g}"
        if not self._is_told:
            self._is_told = True
            logger.warning("The budget allows no further allocation: %s", words)
            self._note("budget", f"opens nothing more for now: {words}")
        if any(known.view.state is not AllocationState.CLOSING for known in self._roster.open()):
            return None
        if any(each.assigned for each in wanted.values()):
            return None
        self._is_over = True
        left = sum(each.waiting for each in wanted.values())
        return BudgetSpent(
            f"the budget is spent: {words}; {left:,} tasks are left",
            hint="raise budget.node_hours in the target and start the script again: "
            "what is in the cache is not computed again",
        )

    def _too_dear(self, balance: Balance, wanted: Mapping[str, Demand]) -> list[tuple[float, str]]:
        """Price in node-seconds and name of each worker type that is wanted and cannot be paid."""
        prices = [
            (limits.nodes * least_walltime_s(limits, each), name)
            for name, each in wanted.items()
            if each.waiting and (limits := self._limits.get(name)) is not None
        ]
        return [(price, name) for price, name in prices if price > balance.left_node_s]
