"""What the live display says at one moment, as plain words: counts, and a line per allocation; pure.

Rule 1: what is shown in colour is also said in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView
from scalable_hpc.model.units import format_walltime

LINES_MOST = 12
"""Allocations shown one by one; a terminal has some 24 lines."""
_FIRST = (
    AllocationState.LIVE,
    AllocationState.DRAINING,
    AllocationState.STARTING,
    AllocationState.CLOSING,
    AllocationState.PENDING,
    AllocationState.SUBMITTING,
)
"""Which states are shown when there is not room for all."""


class Counts(Protocol):
    """How far a run is, in tasks."""

    @property
    def done(self) -> int: ...  # noqa: D102  (the names are the words of the design)
    @property
    def running(self) -> int: ...  # noqa: D102
    @property
    def waiting(self) -> int: ...  # noqa: D102
    @property
    def failed(self) -> int: ...  # noqa: D102
    @property
    def cancelled(self) -> int: ...  # noqa: D102
    @property
    def hits(self) -> int: ...  # noqa: D102
    @property
    def excluded(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def budget(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Line:
    """One allocation, as shown."""

    name: str
    state: str
    slots: str
    """Busy and registered slots: ``3/4``; ``-`` before there are any."""
    left: str
    """Until its walltime ends."""
    because: str


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything shown at one moment."""

    done: int
    total: int
    """Hits included: what is known already is part of what was asked for."""
    tasks: str
    lines: tuple[Line, ...]
    rest: str
    """The allocations that have no line of their own, summed up."""


def draw_frame(counts: Counts, allocations: Sequence[AllocationView], now: float) -> Frame:
    """Say in words how far a run is."""
    over = counts.done + counts.hits + counts.failed + counts.cancelled
    ordered = sorted(allocations, key=lambda seen: (_rank(seen), seen.name))
    shown, rest = ordered[:LINES_MOST], ordered[LINES_MOST:]
    states = Counter(seen.state.value for seen in rest)
    more = ", ".join(f"{number:,} {state}" for state, number in states.most_common())
    return Frame(
        done=over,
        total=over + counts.running + counts.waiting,
        tasks=say_counts(counts),
        lines=tuple(_line(seen, now) for seen in shown),
        rest=f"and {len(rest):,} more: {more}" if rest else "",
    )


def say_counts(counts: Counts) -> str:
    """Return ``12 done, 4 running, 44 waiting, 0 failed, 0 cache hits``."""
    said = f"{counts.done:,} done, {counts.running:,} running, {counts.waiting:,} waiting, {counts.failed:,} failed"
    cancelled = f", {counts.cancelled:,} cancelled" if counts.cancelled else ""
    hosts = f", keeps away from {', '.join(counts.excluded)}" if counts.excluded else ""
    budget = f", {counts.budget}" if counts.budget else ""
    return f"{said}{cancelled}, {counts.hits:,} cache hit{'' if counts.hits == 1 else 's'}{hosts}{budget}"


def say_fleet(allocations: Sequence[AllocationView], now: float) -> str:
    """Return the fleet in one line: ``2 live (7 of 8 slots busy, first ends in 00:00:12), 1 pending``."""
    if not allocations:
        return "no allocations"
    states = Counter(seen.state for seen in allocations)
    words = [f"{states[state]:,} {state.value}" for state in _FIRST if states[state]]
    slots = sum(seen.live_slots for seen in allocations)
    if slots:
        busy = sum(seen.busy for seen in allocations)
        ends = min((seen.ends_at for seen in allocations if seen.ends_at is not None and seen.live_slots), default=None)
        first = "" if ends is None else f", first ends in {format_walltime(max(0.0, ends - now))}"
        words[0] += f" ({min(busy, slots):,} of {slots:,} slots busy{first})"
    return ", ".join(words)


def _rank(seen: AllocationView) -> int:
    return _FIRST.index(seen.state) if seen.state in _FIRST else len(_FIRST)


def _line(seen: AllocationView, now: float) -> Line:
    slots = f"{min(seen.busy, seen.live_slots)}/{seen.live_slots}" if seen.live_slots else "-"
    runs = seen.ends_at is not None and seen.state not in (AllocationState.PENDING, AllocationState.SUBMITTING)
    left = format_walltime(max(0.0, (seen.ends_at or now) - now)) if runs else ""
    return Line(seen.name, seen.state.value, slots, left, _why(seen, now))


def _why(seen: AllocationView, now: float) -> str:
    """Why it is in its state; of one that waits the batch system's reason, and when that thinks it will start."""
    if seen.state is not AllocationState.PENDING:
        return seen.because
    starts_in = None if seen.expected_start is None else format_walltime(max(0.0, seen.expected_start - now))
    starts = "" if starts_in is None else f"may start in {starts_in}"
    return ", ".join(filter(None, (seen.pending_because, starts))) or seen.because
