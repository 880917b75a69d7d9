"""What a driver that was warned does with allocations that end with its own job: what they run may finish first.

Allocations that are jobs of their own go on without a driver, and keep their work for the run's next one. Steps of the
driver's own job are gone when that ends, which is as soon as the driver does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from scalable_hpc.config.resolved import ResolvedTarget
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView

FOR_THE_REST_S = 10.0
"""Kept of a job's time for what a driver still has to do: to let the workers go, and to close its journal."""
_LOOK_EVERY_S = 0.2

logger = logging.getLogger(__name__)


class Placing(Protocol):
    """The keeper, as far as it is needed here."""

    def busy(self) -> Mapping[str, int]:
        """Return how many attempts each connected allocation has in hand."""

    def drain_allocation(self, name: str, because: str) -> None:
        """Give an allocation's workers nothing new, now and later."""


class Opening(Protocol):
    """The fleet likewise."""

    def wind_down(self) -> None:
        """From now on open nothing."""

    def snapshot(self) -> tuple[AllocationView, ...]:
        """Return every allocation that has not ended."""


async def let_finish(target: ResolvedTarget, keeper: Placing, fleet: Opening | None, because: str) -> None:
    """Begin nothing more, and wait for what runs for as long as the job lasts; only inside the driver's own job.

    Args:
        target: with the end of the job, as it was known when the driver began.
        keeper: places attempts.
        fleet: opens allocations; None: it has opened none.
        because: why nothing more begins.
    """
    if not target.inside or fleet is None:
        return
    fleet.wind_down()
    until = _end_of(fleet.snapshot(), target.ends_at) - FOR_THE_REST_S
    while time.time() < until:
        for seen in fleet.snapshot():  # one that comes up just now, too
            if seen.state is not AllocationState.ENDED:
                keeper.drain_allocation(seen.name, because)
        if not any(keeper.busy().values()):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    if left := sum(keeper.busy().values()):
        logger.warning("%s: %d attempts are cut short, and run again at no cost to them", because, left)


def _end_of(allocations: Iterable[AllocationView], known: float | None) -> float:
    """Return when the job ends: as the batch system told last, since limits of running jobs are changed."""
    told = [seen.ends_at for seen in allocations if seen.ends_at is not None]
    return max(told) if told else known or 0.0
