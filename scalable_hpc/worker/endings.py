"""How a courier process ends, as its exit status, and what its launcher does about it.

Rule 1: pure; the launcher asks, then acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class CourierExit(IntEnum):
    """Exit status of the courier; any other is a crash."""

    RETIRED = 0
    """It was retired or closed on purpose."""
    UNREACHABLE = 3
    """The way to the scheduler is not to be had, or not to be trusted."""
    LOST = 4
    """No driver was there for as long as its allocation waits for one."""


DEATHS_ALLOWED = 5
DEATHS_WITHIN_S = 60.0
"""A courier runs no user code: five crashes in a minute are the node's or ours, and another would not help."""
PAUSES_S = (0.0, 0.5, 1.0, 2.0)
"""Before each restart: at once after a single crash, then with time for a scheduler to notice that the name is free."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start another courier after ``pause_s``."""

    pause_s: float
    because: str


@dataclass(frozen=True, slots=True)
class Leave:
    """End the allocation's launcher with this exit status."""

    status: int
    because: str


def after_exit(status: int, *, deaths: Sequence[float], now: float, is_retiring: bool) -> Restart | Leave:
    """Decide what follows a courier's exit.

    Args:
        status: what ``Popen.wait`` returned; negative for a signal.
        deaths: times of its predecessors' crashes, without this one.
        now: the time of this exit on the same clock.
        is_retiring: it was told to retire before.
    """
    if status == CourierExit.RETIRED:
        return Leave(0, "the worker was retired")
    if is_retiring:
        return Leave(1, f"the courier ended with status {status} while it retired")
    if status == CourierExit.LOST:
        return Leave(status, "no driver came back in time")
    if status == CourierExit.UNREACHABLE:
        return Leave(1, "the scheduler could not be reached")
    recent = [at for at in deaths if now - at < DEATHS_WITHIN_S]
    if len(recent) + 1 >= DEATHS_ALLOWED:
        because = f"the courier died {len(recent) + 1} times in {DEATHS_WITHIN_S:.0f} s, last with status {status}"
        return Leave(1, because)
    pause_s = PAUSES_S[min(len(recent), len(PAUSES_S) - 1)]
    return Restart(pause_s, f"the courier died with status {status}")
