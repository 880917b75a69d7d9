"""The numbers that the planner's rules argue with, for one worker type at one moment; pure.

Words: an allocation is *usable* when it has slots for us or will have; *leaving* when its end is near enough that a
successor may exist beside it; it *lingers* when it is closed and the batch system takes long to confirm that.

Rule 1: a case changes only by ``apply``, so that each rule sees what the rules before it decided.
Rule 2: whatever is asked once per allocation is O(1); sums over all are made once per rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from scalable_hpc.fleet.walltime import Helpers, Walltime, choose_walltime, room_s
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import (
    Action,
    AllocationView,
    Demand,
    Drain,
    FleetView,
    Incoming,
    Limits,
    Pause,
    Submit,
)

LEAD_SHARE = 1 / 3
"""The lead is at most this share of the walltime: a two-minute lead is no lead in a one-minute allocation."""
FIRST_SUCCESSOR_SHARE = 1 / 4
"""No successor in the first quarter of a life: a long queue would otherwise double the fleet for good."""
STAGGER_SHARE = 1 / 4
"""Successors of allocations that end together are asked for a quarter of the lead apart."""
CLOSING_OCCUPIES_S = 60.0
"""A cancelled job is gone in seconds; one that hangs in COMPLETING on a dead node, often for hours, is not waited
for."""
NODES_TOGETHER_S = 60.0
"""The nodes of one allocation start their workers within this time; until then those missing count as coming."""

_S = AllocationState
_GROWING = (_S.SUBMITTING, _S.PENDING, _S.STARTING, _S.LIVE)


class Case:
    """One worker type: its allocations, what is wanted of it, what it is allowed."""

    def __init__(self, view: FleetView, demand: Demand, limits: Limits, now: float) -> None:
        self.view = view
        self.demand = demand
        self.limits = limits
        self.now = now
        self.asked = 0
        self._allocations = {
            seen.name: seen
            for seen in view.allocations
            if seen.worker_type == limits.worker_type and seen.state is not _S.ENDED
        }
        self._capacity = {name: self._capacity_of(seen) for name, seen in self._allocations.items()}
        self._busy_elsewhere = sum(seen.busy for seen in self if seen.state not in _GROWING)
        self._touched: set[str] = set()
        self._drained = {seen.name for seen in self if seen.state is _S.DRAINING}
        self._paused = False
        self._successor_at = successor_times(
            list(self._allocations.values()), limits, view.queue_wait_p90_s, self.typical_s
        )

    def __iter__(self) -> Iterator[AllocationView]:
        return iter(self._allocations.values())

    def untouched(self, *states: AllocationState) -> list[AllocationView]:
        """Allocations in these states that no rule has acted on yet."""
        return [seen for seen in self if seen.state in states and seen.name not in self._touched]

    def apply(self, action: Action) -> None:
        """Count an action as done, for the rules that follow."""
        if isinstance(action, Submit):
            self.asked += 1
        elif isinstance(action, Pause):
            self._paused = True
        else:
            seen = self._allocations[action.name]
            self._touched.add(action.name)
            self._capacity[action.name] = 0
            if seen.state in _GROWING:
                self._busy_elsewhere += seen.busy
            if isinstance(action, Drain):
                self._drained.add(action.name)

    @property
    def work(self) -> int:
        """Tasks that wait or are assigned."""
        return self.demand.waiting + self.demand.assigned

    @property
    def slots_each(self) -> int:
        """Slots of one new allocation."""
        return max(1, self.limits.slots)

    @cached_property
    def typical_s(self) -> float | None:
        """How long a waiting task is thought to run; None: not known, or longer than any allocation lives."""
        known = [s for s in (self.demand.mean_s, self.demand.need_s) if s is not None and s > 0]
        shortest = min(known, default=None)
        return None if shortest is None or shortest >= self.limits.walltime_s - self.limits.margin_s else shortest

    def room_s(self, seen: AllocationView) -> float:
        """Time left for new attempts; infinite while its end is not known."""
        return math.inf if seen.ends_at is None else seen.ends_at - self.limits.margin_s - self.now

    def idle_s(self, seen: AllocationView) -> float:
        """For how long it has had nothing to do."""
        since = self.view.last_busy_at.get(seen.name)
        if since is None:
            since = seen.started_at if seen.started_at is not None else seen.submitted_at
        return self.now - since

    def was_ever_busy(self, seen: AllocationView) -> bool:
        """Whether it ever had an attempt."""
        return seen.busy > 0 or seen.name in self.view.last_busy_at

    def capacity(self, seen: AllocationView) -> int:
        """Slots that it has, or will have soon; 0 when it takes nothing new."""
        return self._capacity[seen.name]

    def _capacity_of(self, seen: AllocationView) -> int:
        if seen.state not in _GROWING or seen.drain_asked:
            return 0
        if seen.state is _S.LIVE:
            settled = seen.started_at is not None and self.now - seen.started_at > NODES_TOGETHER_S
            return seen.live_slots if settled or seen.was_whole else max(seen.slots, seen.live_slots)
        lost = seen.reached_live and seen.state is _S.STARTING
        return 0 if lost or self.is_too_short(seen) else seen.slots

    def is_too_short(self, seen: AllocationView) -> bool:
        """Whether it was asked for less time than even a typical task needs by now."""
        is_shortened = seen.walltime_s < self.limits.walltime_s
        return is_shortened and room_s(seen.walltime_s, self.limits.margin_s) < (self.typical_s or 0.0)

    @cached_property
    def walltime(self) -> Walltime:
        """How long the allocations that this plan opens are asked for."""
        if not self.limits.shortens:
            return Walltime(self.limits.walltime_s)
        left = self.view.node_s_left
        affordable_s = None if left is None else left / self.limits.nodes
        if self.view.incoming is Incoming.OPEN_ENDED:
            return choose_walltime(self.limits, replace(self.demand, work_s=math.inf), affordable_s=affordable_s)
        return choose_walltime(self.limits, self.demand, self._helpers(), affordable_s)

    def waits_for_calls(self) -> bool:
        """Whether it would ask for less time than it may find to be needed in a moment."""
        return self.view.incoming is Incoming.GATHERING and bool(self.walltime.because)

    def _helpers(self) -> Helpers:
        here: list[tuple[int, float]] = []
        coming: list[tuple[int, float]] = []
        for seen in self:
            if not (slots := self.capacity(seen)):
                continue
            if seen.state is _S.LIVE:
                here.append((slots, self.room_s(seen)))
            else:
                coming.append((slots, room_s(seen.walltime_s, self.limits.margin_s)))
        together = self._asked_together()
        if together > 1:
            coming.append(((together - 1) * self.slots_each, math.inf))
        return Helpers(here, coming)

    def _asked_together(self) -> int:
        """How many allocations this plan may ask for at once, each for the whole walltime where there is a budget."""
        missing = math.ceil((self.wanted_slots() - self.usable_slots()) / self.slots_each)
        left, whole = self.view.node_s_left, self.limits.nodes * self.limits.walltime_s
        affordable = missing if left is None else math.floor(left / whole)
        return min(missing, affordable, self._places(for_successors=False))

    def is_leaving(self, seen: AllocationView) -> bool:
        """Whether a successor may exist beside it."""
        return seen.name in self._drained or self.now >= self._successor_at.get(seen.name, math.inf)

    def _is_drained(self, seen: AllocationView) -> bool:
        return seen.name in self._drained

    def _lingers(self, seen: AllocationView) -> bool:
        since = seen.closing_since
        return seen.state is _S.CLOSING and since is not None and self.now - since > CLOSING_OCCUPIES_S

    def wanted_slots(self) -> int:
        """Slots that the work can use; what runs on allocations that take nothing new ends there."""
        return self.demand.waiting + max(0, self.demand.assigned - self._busy_elsewhere)

    def usable_slots(self) -> int:
        """Slots that are here or on their way, those asked for in this plan included."""
        return sum(self._capacity.values()) + self.asked * self.slots_each

    def is_all_wanted(self) -> bool:
        """Whether the work can use every slot that is here or on its way: then there is nothing to give back."""
        return sum(self._capacity.values()) <= self.wanted_slots()

    def staying(self) -> list[AllocationView]:
        """Usable allocations that are not leaving."""
        return [seen for seen in self if self.capacity(seen) and not self.is_leaving(seen)]

    def allowance(self, *, for_successors: bool = False) -> int:
        """How many allocations may be asked for now, whatever the work.

        What is drained makes room for a replacement at once; what is leaving but still works, for a successor only.
        """
        places, left = self._places(for_successors=for_successors), self.view.node_s_left
        if not places or left is None:
            return places
        return max(0, min(places, math.floor(left / (self.limits.nodes * self.walltime.seconds)) - self.asked))

    def _places(self, *, for_successors: bool) -> int:
        """How many allocations may be asked for now, whatever they cost."""
        failures = self.view.start_failures_in_a_row
        until = self.view.paused_until
        paused = self._paused or (until is not None and self.now < until)
        if self.view.closing or paused or failures >= self.limits.start_failures:
            return 0
        counted = [seen for seen in self if not self._lingers(seen)]
        gone = self.is_leaving if for_successors else self._is_drained
        occupied = sum(not gone(seen) for seen in counted)
        queued = sum(seen.state in (_S.SUBMITTING, _S.PENDING) for seen in counted)
        allowed = min(
            self.limits.maximum - occupied - self.asked,
            2 * self.limits.maximum - len(counted) - self.asked,
            self.limits.max_pending - queued - self.asked,
        )
        if self.view.jobs_left is not None:
            allowed = min(allowed, self.view.jobs_left - self.asked)
        if failures:
            unproven = sum(seen.state in _GROWING and not seen.reached_live for seen in counted)
            allowed = min(allowed, 1 - unproven - self.asked)
        return max(0, allowed)

    def done_within(self, horizons_s: Sequence[float]) -> list[int]:
        """Return how many tasks the live slots can begin and end within each time; 0 while nothing is known of them.

        Args:
            horizons_s: ascending, each at least 0.
        """
        typical = self.typical_s
        if typical is None:
            return [0] * len(horizons_s)
        live = sorted((max(0.0, self.room_s(seen)), self.capacity(seen)) for seen in self if seen.state is _S.LIVE)
        over, lasting, nth = 0, sum(slots for _, slots in live), 0
        done: list[int] = []
        for horizon in horizons_s:
            while nth < len(live) and live[nth][0] < horizon:
                over += live[nth][1] * math.floor(live[nth][0] / typical)
                lasting -= live[nth][1]
                nth += 1
            done.append(over + lasting * math.floor(horizon / typical))
        return done

    def leavers(self) -> list[AllocationView]:
        """Usable allocations that are leaving, the first to end first."""
        leaving = [seen for seen in self if seen.ends_at is not None and self.capacity(seen) and self.is_leaving(seen)]
        return sorted(leaving, key=lambda seen: (seen.ends_at or 0.0, seen.name))


def successor_times(
    allocations: Sequence[AllocationView], limits: Limits, queue_wait_p90_s: float, typical_s: float | None
) -> Mapping[str, float]:
    """Return from when on a successor of each allocation may be asked for.

    That is ``ends_at - (queue_wait_p90 + lead)``, where the lead is at least what a typical task needs (an allocation
    stops being useful that long before its end) and at most a third of the walltime; never in the first quarter of
    the walltime; and for allocations that end together a quarter of the lead apart, so their successors do not.
    """
    ending = [(seen.ends_at, seen.name, seen.walltime_s) for seen in allocations if seen.ends_at is not None]
    lead = min(limits.lead_s, limits.walltime_s * LEAD_SHARE)
    needed = 0.0 if typical_s is None else typical_s + limits.margin_s
    window = queue_wait_p90_s + max(lead, needed)
    spread = max(0.0, limits.walltime_s * (1 - FIRST_SUCCESSOR_SHARE) - window)
    step = min(lead * STAGGER_SHARE, spread / max(1, len(ending)))
    times: dict[str, float] = {}
    latest = math.inf
    for ends_at, name, walltime_s in sorted(ending, reverse=True):
        earliest = ends_at - walltime_s * (1 - FIRST_SUCCESSOR_SHARE)
        latest = max(earliest, min(ends_at - window, latest - step))
        times[name] = latest
    return times
