"""How long a new allocation is asked for: less than the longest allowed where what is left to do takes less; pure.

Batch systems fit short jobs into gaps before long ones, so a short request starts sooner. It is worth nothing if it
ends before the work does, so everything uncertain counts against it:

- a task of which nothing is known may run for as long as an allocation lasts;
- the work is shared with the slots that are here, as long as they last, and with half of those that still queue or are
  asked for together with it: nobody knows which of them start first, and the first ones have most to do;
- the longest task that waits may be the last one to begin.

Rule 1: no I/O, no clock, no randomness.
Rule 2: never longer than the configured walltime, never shorter than the longest waiting task needs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scalable_hpc.model.fleet import Demand, Limits
from scalable_hpc.model.units import format_walltime

START_S = 120.0
"""From the start of a job to its first attempt: containers and imports from a busy parallel file system."""
DRAIN_SHARE, DRAIN_LEAST_S, DRAIN_MOST_S = 0.05, 3.0, 60.0
"""A worker takes nothing new in the last part of its life."""
COMING_SHARE = 0.5
"""Of the slots that still queue: those that are counted on. Played on published queue waits (``benchmarks``), ensembles
of some hours end much sooner with a half; with more, small ones end later, since the first to start end with work left
while the others still queue."""
SAFETY = 1.25
"""On the mean run time: the tasks that are left need not be like those that were seen."""
WORTH_SHARE = 3 / 4
"""Of the configured walltime: a request that is hardly shorter starts hardly sooner."""
STEPS = ((2 * 3600, 300), (12 * 3600, 1800), (48 * 3600, 7200))
"""Up to (seconds), in steps of: few different requests, and an estimate is not more exact than that."""
LAST_STEP_S = 21600


@dataclass(frozen=True, slots=True)
class Walltime:
    """What to ask for."""

    seconds: int
    because: str = ""
    """Why it is shorter than configured; empty: it is not."""


@dataclass(frozen=True, slots=True)
class Helpers:
    """Slots beside those of the new allocation."""

    here: Sequence[tuple[int, float]] = ()
    """Slots, and for how long (seconds) they take work."""
    coming: Sequence[tuple[int, float]] = ()
    """Those that still queue, or are asked for at the same time."""

    def within(self, seconds: float, last_s: float) -> float:
        """Return the slot-seconds in which they can begin tasks within a time, if none begins later than ``last_s``."""
        here, coming = (
            sum(slots * max(0.0, min(lasts, seconds) - last_s) for slots, lasts in several)
            for several in (self.here, self.coming)
        )
        return here + COMING_SHARE * coming


def room_s(walltime_s: float, margin_s: float) -> float:
    """Return how long the slots of an allocation can work (seconds), at least."""
    drain = min(DRAIN_MOST_S, max(DRAIN_LEAST_S, DRAIN_SHARE * walltime_s))
    return walltime_s - START_S - margin_s - drain


def shorter(limits: Limits) -> list[int]:
    """Return the walltimes (seconds) that may be asked for instead of the configured one, ascending."""
    most = WORTH_SHARE * limits.walltime_s if limits.shortens else 0.0
    return list(_rungs(most))


def least_walltime_s(limits: Limits, demand: Demand) -> int:
    """Return the shortest walltime in which some waiting task can surely end."""
    longest = demand.longest_s
    if longest is None:
        return limits.walltime_s
    return next((each for each in shorter(limits) if room_s(each, limits.margin_s) >= longest), limits.walltime_s)


def choose_walltime(
    limits: Limits, demand: Demand, helpers: Helpers = Helpers(), affordable_s: float | None = None
) -> Walltime:
    """Return the walltime to ask for.

    Args:
        limits: what is allowed.
        demand: what is to be done.
        helpers: who else does it.
        affordable_s: the longest walltime that the run's budget still pays; None: any.
    """
    longest = demand.longest_s
    if longest is None:
        return Walltime(limits.walltime_s)
    slots = max(1, limits.nodes * limits.slots_per_node)
    work_s = SAFETY * demand.work_s
    is_short_of_money = affordable_s is not None and affordable_s < limits.walltime_s
    fitting = [
        each
        for each in shorter(limits)
        if room_s(each, limits.margin_s) >= longest and (affordable_s is None or each <= affordable_s)
    ]

    def is_enough(walltime_s: int) -> bool:
        room = room_s(walltime_s, limits.margin_s)
        return slots * (room - longest) + helpers.within(room, longest) >= work_s

    nth = bisect_left(fitting, True, key=is_enough)
    if nth < len(fitting):
        return Walltime(fitting[nth], f"for {_of(fitting[nth], limits)}, since {_told(demand)} take no longer")
    if is_short_of_money and fitting:
        return Walltime(fitting[-1], f"for {_of(fitting[-1], limits)}, since the budget pays no more")
    return Walltime(limits.walltime_s)


def _rungs(most: float) -> Iterator[int]:
    rung, steps = 0, iter((*STEPS, (float("inf"), LAST_STEP_S)))
    until, step = next(steps)
    while rung + step <= most:
        rung += step
        yield rung
        while rung >= until:
            until, step = next(steps)


def _of(seconds: int, limits: Limits) -> str:
    return f"{format_walltime(seconds)} of {format_walltime(limits.walltime_s)}"


def _told(demand: Demand) -> str:
    mean_s = demand.work_s / max(1, demand.waiting + demand.assigned)
    tasks = f"{demand.waiting + demand.assigned:,} tasks"
    return f"{tasks} of {mean_s:.3g} s, the longest of {demand.longest_s or 0.0:.3g} s,"
