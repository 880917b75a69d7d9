"""How much time and memory a task must be given, and whether any allocation can give it.

Rule 1: pure. A task is refused on proof only (its user's word, or an attempt of its own that ran longer than any
allocation leaves); an estimate that is too large for every allocation becomes "a fresh one". So does any need of a
task that saves its state and goes on in the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from scalable_hpc.lineage.learned import CUT_OFF_FACTOR, Learned, Need
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.lineage.sizes import candidates, given
from scalable_hpc.model.resources import Needs, WorkerType
from scalable_hpc.model.units import format_memory, format_walltime

MARGIN_S = 5.0
"""Kept free at the end of an allocation unless its target says otherwise."""
_START_S = 1.0
_START_SHARE = 0.01
"""Of a walltime, besides a second: what passes before a new worker can begin its first attempt."""


_LEG_SHARE = 0.5
"""Of the longest run time that there is room for: what must be left for a task that will go on elsewhere. Less would
have it load and save its state more often than it works; more would leave too much of every allocation unused."""


NOBODY: Mapping[str, tuple[str, ...]] = MappingProxyType({})
"""Every worker type can be had."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How much time (seconds) recent workers of a type had when they came; None: too few came to tell."""

    longest_s: float | None = None
    usual_s: float | None = None
    """Three of four had more."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One worker type on the target, and how long its allocations last."""

    worker_type: WorkerType
    walltime_s: float | None = None
    """None: without end."""
    margin_s: float = MARGIN_S
    """Kept free at the end of an allocation."""

    def usable_s(self, observed_s: float | None) -> float:
        """Return the longest run time that a new allocation has room for.

        Args:
            observed_s: what workers of this type really had when they came.
        """
        if self.walltime_s is None:
            return math.inf
        left_s = self.walltime_s if observed_s is None else min(observed_s, self.walltime_s)
        return left_s - self.margin_s - _START_S - _START_SHARE * self.walltime_s


@dataclass(frozen=True, slots=True)
class Refusal:
    """A task that no allocation can ever run."""

    record: TaskRecord
    error_type: str
    error: str


class Allowance:
    """What each task must be given, for one round of placement."""

    def __init__(
        self,
        offers: Sequence[Offer],
        learned: Learned,
        arrivals: Mapping[str, Arrivals],
        stand_ins: Mapping[str, tuple[str, ...]] = NOBODY,
    ) -> None:
        """Take what is known.

        Args:
            offers: the worker types on the target.
            learned: what tasks of a name were seen to take.
            arrivals: how much time workers of each type had when they came.
            stand_ins: worker types that cannot be had now, and those that may do their work.
        """
        self._offers = {
            offer.worker_type.name: offer
            for offer in offers
            if offer.worker_type.grown_from is None or offer.worker_type.name not in stand_ins
        }
        self._learned = learned
        came = {name: arrivals.get(name, Arrivals()) for name in self._offers}
        self._usable_s = {name: offer.usable_s(came[name].longest_s) for name, offer in self._offers.items()}
        self._usual_s = {name: offer.usable_s(came[name].usual_s) for name, offer in self._offers.items()}
        self._fitting: dict[Needs, tuple[Offer, ...]] = {}
        self._candidates: dict[Needs, tuple[WorkerType, ...]] = {}
        self._stand_ins = stand_ins
        self._standing_in: dict[Needs, Needs] = {}
        self._given: dict[tuple[Needs, int, int | None], Needs] = {}

    def worker_types(self) -> tuple[str, ...]:
        """Return the names of the worker types on offer."""
        return tuple(self._offers)

    def margin_s(self, worker_type: str) -> float:
        """Return what is kept free at the end of an allocation of that type."""
        offer = self._offers.get(worker_type)
        return MARGIN_S if offer is None else offer.margin_s

    def fitting(self, needs: Needs) -> tuple[Offer, ...]:
        """Return the offers whose idle worker could run such a task."""
        found = self._fitting.get(needs)
        if found is None:
            found = tuple(offer for offer in self._offers.values() if offer.worker_type.fits(needs))
            self._fitting[needs] = found
        return found

    def candidates(self, needs: Needs) -> tuple[WorkerType, ...]:
        """Return the worker types that could run such a task if it needed no memory, smallest memory first."""
        found = self._candidates.get(needs)
        if found is None:
            found = self._candidates[needs] = candidates((offer.worker_type for offer in self._offers.values()), needs)
        return found

    def needs(self, record: TaskRecord) -> Needs:
        """What to give a task of a worker."""
        return self.needs_of(record.name, record.needs, record.floor_memory)

    def needs_of(self, name: str, needs: Needs, floor: int) -> Needs:
        """What to give a task of a name that says what it needs, and must have so much memory at least (bytes)."""
        needs = self._stood_in_for(needs)
        likely = self._learned.memory(name)
        if not floor and likely is None:
            return needs
        key = (needs, floor, likely)
        found = self._given.get(key)
        if found is None:
            found = self._given[key] = given(needs, floor, likely, self.candidates(needs))
        return found

    def is_away(self, worker_type: str | None) -> bool:
        """Whether a worker type cannot be had now, so that others do its work."""
        return worker_type in self._stand_ins

    def _stood_in_for(self, needs: Needs) -> Needs:
        """Return the needs on the worker type that does the work of a type that is away; else as they are."""
        if needs.worker_type is None or needs.worker_type not in self._stand_ins:
            return needs
        found = self._standing_in.get(needs)
        if found is None:
            others = (replace(needs, worker_type=name) for name in self._stand_ins[needs.worker_type])
            found = self._standing_in[needs] = next((each for each in others if self.fitting(each)), needs)
        return found

    def need(self, record: TaskRecord) -> Need:
        """What to allow for a task."""
        need, needs = self._time(record), self.needs(record)
        return need if needs is record.needs else replace(need, needs=needs)

    def _time(self, record: TaskRecord) -> Need:
        if record.checkpoints:
            return self._need_of_one_leg(record)
        said_s = record.expected_runtime_s
        likely = self._learned.need(record.name) if said_s is None else Need(said_s, said_s)
        if likely.cold_s is None and not record.bound_s:
            return likely
        # An estimate may ask for what most fresh workers have, or it would wait for one as lucky as the best.
        most_s = max(self._proven_s(record), self._most_of(self._usual_s, self.needs(record)))
        return Need(self._allowed_s(record, likely.warm_s, most_s), self._allowed_s(record, likely.cold_s, most_s))

    def _need_of_one_leg(self, record: TaskRecord) -> Need:
        """How long to allow for one attempt of a task that goes on in another when its time is up.

        It need not end there, so that a good part of an allocation is enough; insisting on a whole one, it would wait
        for ever where allocations come late by turns. One that has handed itself back and whose run time nobody knows
        is given as much: what its kind was seen to need tells nothing then, since last legs may be short.
        """
        usable_s = _LEG_SHARE * self._most_usable_s(self.needs(record))
        most_s = usable_s if record.timeout_s is None else min(usable_s, record.timeout_s)
        said_s = record.expected_runtime_s
        if said_s is None and record.handed_back:
            said_s = None if math.isinf(most_s) else most_s
        elif said_s is None:
            likely = self._learned.need(record.name)
            return Need(_at_most(likely.warm_s, most_s), _at_most(likely.cold_s, most_s))
        leg_s = _at_most(said_s, most_s)
        return Need(leg_s, leg_s)

    def _allowed_s(self, record: TaskRecord, likely_s: float | None, most_s: float) -> float:
        need_s = max(likely_s or 0.0, record.bound_s * CUT_OFF_FACTOR)
        if record.timeout_s is not None:
            need_s = min(need_s, record.timeout_s)
        return min(need_s, most_s)

    def refusal(self, record: TaskRecord) -> Refusal | None:
        """Say why no allocation can ever run a task; None: one can, or nothing is known of allocations."""
        if not self._offers:
            return None
        if not self.fitting(self.needs(record)):
            return self._too_large(record)
        if not record.checkpoints and self._proven_s(record) > self._most_usable_s(self.needs(record)):
            return self._too_long(record)
        return None

    def _proven_s(self, record: TaskRecord) -> float:
        proven_s = max(record.expected_runtime_s or 0.0, record.bound_s)
        return proven_s if record.timeout_s is None else min(proven_s, record.timeout_s)

    def _most_usable_s(self, needs: Needs) -> float:
        return self._most_of(self._usable_s, needs)

    def _most_of(self, seconds: Mapping[str, float], needs: Needs) -> float:
        return max((seconds[offer.worker_type.name] for offer in self.fitting(needs)), default=math.inf)

    def _too_long(self, record: TaskRecord) -> Refusal:
        proven_s = self._proven_s(record)
        best = max(self.fitting(self.needs(record)), key=lambda offer: self._usable_s[offer.worker_type.name])
        usable_s = self._usable_s[best.worker_type.name]
        walltime_s = best.walltime_s or 0.0
        ran = record.bound_s >= proven_s
        told = f"ran {record.bound_s:.1f} s and was not done" if ran else f"is expected to run {proven_s:.1f} s"
        wanted = format_walltime(proven_s * (CUT_OFF_FACTOR if ran else 1.0) + walltime_s - usable_s)
        return Refusal(
            record,
            "TaskTooLong",
            f"{record.task_id!r} {told}, but an allocation of {best.worker_type.name!r} with walltime"
            f" {format_walltime(walltime_s)!r} has room for {usable_s:.1f} s; it needs a walltime of {wanted!r}"
            f"{' or more' if ran else ''}",
        )

    def _too_large(self, record: TaskRecord) -> Refusal:
        needs = self.needs(record)
        asked = f"{needs.cpus} cpus" + (f", {needs.gpus} gpus" if needs.gpus else "")
        asked += f", {format_memory(needs.memory)} of memory" if needs.memory is not None else ""
        asked += f" on worker type {needs.worker_type!r}" if needs.worker_type else ""
        largest = {offer.worker_type.grown_from: offer for offer in self._offers.values()}  # they come in order of size
        told = [
            each for each in self._offers.values() if each.worker_type.grown_from is None or each in largest.values()
        ]
        offered = "; ".join(_shape(offer.worker_type) for offer in told)
        smaller = Needs(needs.cpus, None, needs.gpus, needs.worker_type)
        return Refusal(
            record,
            "TaskOutOfMemory" if self.fitting(smaller) else "TaskError",
            f"{record.task_id!r} needs {asked}; no worker type offers that: {offered}",
        )


def _at_most(seconds: float | None, most_s: float) -> float | None:
    return None if seconds is None else min(seconds, most_s)


def _shape(worker_type: WorkerType) -> str:
    memory = "" if worker_type.memory is None else f", {format_memory(worker_type.memory)}"
    gpus = f", {worker_type.gpus} gpus" if worker_type.gpus else ""
    return f"{worker_type.name!r} has {worker_type.cpus} cpus{gpus}{memory}"
