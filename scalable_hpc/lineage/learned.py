"""What was learned about run times: per task name, from receipts and from attempts that were cut off.

Rule 1: pure and deterministic: the same events teach the same.
Rule 2: an attempt that was cut off after r seconds says "longer than r", never "r".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_STEP = math.log(1.05)
"""Run times are counted in classes 5 % wide: a p95 is right within that, whatever the number of tasks."""
_SHORTEST_S = 1e-4
FEW = 10
"""Up to this many observations a p95 is hardly more than the longest one."""
SAFETY_FEW = 1.5
SAFETY = 1.2
"""Factor on the p95: a node may be slower than its neighbours."""
CUT_OFF_FACTOR = 1.25
"""On a run time of which only a lower bound is known."""


def time_class(seconds: float) -> int:
    """Return the number of the 5 % class that a run time falls into."""
    return round(math.log(max(seconds, _SHORTEST_S)) / _STEP)


def class_end_s(number: int) -> float:
    """Return a run time (seconds) that nothing in a class exceeds."""
    return math.exp((number + 0.5) * _STEP)


@dataclass(slots=True)
class NameTimes:
    """Run times of the tasks of one name."""

    count: int = 0
    total_s: float = 0.0
    classes: dict[int, int] = field(default_factory=dict)
    longest_cut_s: float = 0.0

    @property
    def mean_s(self) -> float | None:
        """Mean of the completed run times."""
        return self.total_s / self.count if self.count else None

    @property
    def p95_s(self) -> float | None:
        """A run time that 95 of 100 completed tasks did not exceed."""
        wanted = math.ceil(0.95 * self.count)
        for number in sorted(self.classes):
            wanted -= self.classes[number]
            if wanted <= 0:
                return class_end_s(number)
        return None

    @property
    def need_s(self) -> float | None:
        """How long to allow for such a task; None: nothing is known."""
        p95_s = self.p95_s
        if p95_s is not None:
            return p95_s * (SAFETY_FEW if self.count <= FEW else SAFETY)
        return self.longest_cut_s * CUT_OFF_FACTOR or None


class Learned:
    """Run times by task name."""

    def __init__(self) -> None:
        self._names: dict[str, NameTimes] = {}
        self._needs: dict[str, float | None] = {}

    def completed(self, name: str, seconds: float) -> None:
        """Learn from a receipt."""
        times = self._names.setdefault(name, NameTimes())
        seconds = max(seconds, 0.0)  # clocks of nodes step back now and then
        times.count += 1
        times.total_s += seconds
        number = time_class(seconds)
        times.classes[number] = times.classes.get(number, 0) + 1
        self._needs.pop(name, None)

    def cut_off(self, name: str, seconds: float) -> None:
        """Learn from an attempt that was ended by something else than itself."""
        times = self._names.setdefault(name, NameTimes())
        times.longest_cut_s = max(times.longest_cut_s, seconds)
        self._needs.pop(name, None)

    def need_s(self, name: str) -> float | None:
        """How long to allow for a task of that name; None: nothing is known."""
        if name not in self._needs:
            times = self._names.get(name)
            self._needs[name] = times.need_s if times else None
        return self._needs[name]

    def mean_s(self, name: str) -> float | None:
        """Mean run time of completed tasks of that name; None: none completed yet."""
        times = self._names.get(name)
        return times.mean_s if times else None

    def count(self, name: str) -> int:
        """How many tasks of that name completed."""
        times = self._names.get(name)
        return times.count if times else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learned) and self._names == other._names

    def __hash__(self) -> int:
        raise TypeError("what was learned changes; it cannot be a key")
