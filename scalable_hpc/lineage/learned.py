"""What was learned about run times and memory: per task name, from receipts and from attempts that were cut off.

Rule 1: pure and deterministic: the same events teach the same.
Rule 2: the first run in a slot is learned apart: its imports may take longer than the task.
Rule 3: an attempt that was cut off after r seconds says "longer than r", never "r".
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Protocol

from scalable_hpc.model.resources import Needs

_STEP = math.log(1.05)
"""Run times are counted in classes 5 % wide: a p95 is right within that, whatever the number of tasks."""
_SHORTEST_S = 1e-4
FEW = 10
"""Up to this many observations a p95 is hardly more than the longest one."""
SAFETY_FEW = 1.5
SAFETY = 1.2
"""Factor on the p95: a node may be slower than its neighbours."""
HOPE = 0.7
"""Of a first run in a slot: what the next one there is hoped to take, until one has ended or was cut off. To try costs
the end of one allocation; not to try, the ends of all, as long as no slot has time for a second run as long."""
CUT_OFF_FACTOR = 1.25
"""On a run time of which only a lower bound is known."""


def time_class(seconds: float) -> int:
    """Return the number of the 5 % class that a run time falls into."""
    return round(math.log(max(seconds, _SHORTEST_S)) / _STEP)


def class_end_s(number: int) -> float:
    """Return a run time (seconds) that nothing in a class exceeds."""
    return math.exp((number + 0.5) * _STEP)


@dataclass(slots=True, eq=False)
class Times:
    """Some run times."""

    count: int = 0
    total_s: float = 0.0
    _classes: dict[int, int] = field(default_factory=dict)
    _unsorted: array[float] = field(default_factory=lambda: array("d"))
    """Those that are in no class yet: of a finished run nobody asks for any."""

    def add(self, seconds: float) -> None:
        """Count one more in."""
        seconds = max(seconds, 0.0)  # clocks of nodes step back now and then
        self.count += 1
        self.total_s += seconds
        self._unsorted.append(seconds)

    @property
    def classes(self) -> dict[int, int]:
        """How many there are of each class."""
        for number in map(time_class, self._unsorted):
            self._classes[number] = self._classes.get(number, 0) + 1
        del self._unsorted[:]
        return self._classes

    def __eq__(self, other: object) -> bool:
        mine = self.count, self.total_s, self.classes
        return isinstance(other, Times) and mine == (other.count, other.total_s, other.classes)

    def __hash__(self) -> int:
        raise TypeError("times are added to; they cannot be a key")

    @property
    def p95(self) -> float | None:
        """What 95 % of them do not exceed; None: there are none."""
        wanted, classes = math.ceil(0.95 * self.count), self.classes
        for number in sorted(classes):
            wanted -= classes[number]
            if wanted <= 0:
                return class_end_s(number)
        return None

    @property
    def longest_s(self) -> float:
        """What none of them exceeds, within a class; there must be some."""
        return class_end_s(max(self.classes))

    @property
    def need_s(self) -> float | None:
        """How long to allow: the p95 and some more; None: there are none."""
        p95 = self.p95
        return None if p95 is None else p95 * (SAFETY_FEW if self.count <= FEW else SAFETY)


@dataclass(slots=True)
class NameTimes:
    """Run times of the tasks of one name."""

    warm: Times = field(default_factory=Times)
    cold: Times = field(default_factory=Times)
    longest_cut_s: float = 0.0
    vain_hope_s: float = 0.0
    """The longest of those that were cut off before a first run would have ended: a second one is not so short."""
    peaks: Times = field(default_factory=Times)
    """Bytes that they held, counted in the same classes."""

    def cut_off(self, seconds: float) -> None:
        """Count in an attempt that somebody ended."""
        self.longest_cut_s = max(self.longest_cut_s, seconds)
        if seconds < self._mean_cold_s:
            self.vain_hope_s = max(self.vain_hope_s, seconds)

    @property
    def _mean_cold_s(self) -> float:
        return self.cold.total_s / max(1, self.cold.count)

    @property
    def believed(self) -> Times:
        """The warm ones, once there are any."""
        return self.warm if self.warm.count else self.cold

    @property
    def need(self) -> Need:
        """How long to allow for such a task, on a worker that ran some before and on one that did not."""
        warm_s, cold_s = self.warm.need_s, self.cold.need_s
        known = [need_s for need_s in (warm_s, cold_s) if need_s is not None]
        if not known:
            cut_s = self.longest_cut_s * CUT_OFF_FACTOR or None
            return Need(cut_s, cut_s)
        return Need(min(self.hoped_s, max(known)) if warm_s is None else warm_s, max(known))

    @property
    def hoped_s(self) -> float:
        """What a run in a slot that has had one may take (seconds), while none has been seen."""
        return max(HOPE * self._mean_cold_s, CUT_OFF_FACTOR * self.vain_hope_s)


class _HasNeeds(Protocol):
    needs: Needs


@dataclass(frozen=True, slots=True)
class Need:
    """What to allow for a task; None: nothing is known."""

    warm_s: float | None = None
    """On a worker whose slots have imported what it needs."""
    cold_s: float | None = None
    """On any other; never less."""
    needs: Needs | None = None
    """What it is given of a worker; None: what it says."""

    def of(self, record: _HasNeeds) -> Needs:
        """Return what a task is given of a worker."""
        return self.needs or record.needs


UNKNOWN = Need()


class Learned:
    """Run times and memory by task name."""

    def __init__(self) -> None:
        self._names: dict[str, NameTimes] = {}
        self._needs: dict[str, Need] = {}
        self._memory: dict[str, int | None] = {}

    def completed(self, name: str, seconds: float, *, cold: bool = False, peak_memory: int = 0) -> None:
        """Learn from a receipt.

        Args:
            name: of the task.
            seconds: how long it ran.
            cold: the slot ran that function for the first time, imports included.
            peak_memory: bytes that it held at most; 0: not known.
        """
        times = self._times(name)
        (times.cold if cold else times.warm).add(seconds)
        self._needs.pop(name, None)
        if peak_memory > 0:
            times.peaks.add(peak_memory)
            self._memory.pop(name, None)

    def cut_off(self, name: str, seconds: float) -> None:
        """Learn from an attempt that was ended by something else than itself."""
        self._times(name).cut_off(seconds)
        self._needs.pop(name, None)

    def need(self, name: str) -> Need:
        """How long to allow for a task of that name."""
        if name not in self._needs:
            times = self._names.get(name)
            self._needs[name] = times.need if times else UNKNOWN
        return self._needs[name]

    def memory(self, name: str) -> int | None:
        """How many bytes 95 % of the completed tasks of that name did not exceed; None: nothing is known."""
        if name not in self._memory:
            times = self._names.get(name)
            p95 = times.peaks.p95 if times else None
            self._memory[name] = None if p95 is None else int(p95)
        return self._memory[name]

    def mean_s(self, name: str) -> float | None:
        """Mean run time of completed tasks of that name, of warm ones once there are any; None: none completed."""
        times = self._names.get(name)
        return times.believed.total_s / times.believed.count if times and times.believed.count else None

    def typical_s(self, name: str) -> float | None:
        """Mean run time to plan with: of warm ones, or what those are hoped to take; None: none completed."""
        times, mean_s = self._names.get(name), self.mean_s(name)
        if times is None or mean_s is None or times.warm.count:
            return mean_s
        return min(mean_s, times.hoped_s)

    def longest_s(self, name: str) -> float | None:
        """What no completed task of that name exceeded, cold ones included; None: none completed."""
        times = self._names.get(name)
        longest = [each.longest_s for each in (times.warm, times.cold) if each.count] if times else []
        return max(longest, default=None)

    def count(self, name: str) -> int:
        """How many completed tasks of that name the mean is made of."""
        times = self._names.get(name)
        return times.believed.count if times else 0

    def _times(self, name: str) -> NameTimes:
        times = self._names.get(name)
        if times is None:
            times = self._names[name] = NameTimes()
        return times

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learned) and self._names == other._names

    def __hash__(self) -> int:
        raise TypeError("what was learned changes; it cannot be a key")
