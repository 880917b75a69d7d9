"""Stops a slot that holds more memory than it may, before the node's own limit kills all of them.

Resident memory is sampled, which is cheap and counts shared pages once per process; only a slot that looks too
large is measured exactly before anything is done to it.

Rule 1: ``choose`` decides and is pure; ``MemoryGuard`` measures and acts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalable_hpc.model.units import format_memory
from scalable_hpc.worker import kin

SAMPLE_EVERY_S = 0.5
"""A process that allocates 10 GiB/s is caught 5 GiB late; sampling ten times as often would cost a core on a node
of a hundred slots."""

NODE_SHARE = 0.95
"""All slots together are kept this far below what the job was given: the rest is the courier's and the page cache's."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one running attempt holds."""

    attempt: str
    held: int
    """Bytes, of its slot and all descendants."""
    allowed: int | None
    """Bytes; None: as much as there is."""


@dataclass(frozen=True, slots=True)
class Excess:
    """An attempt to be stopped."""

    attempt: str
    held: int
    because: str


def choose(samples: Sequence[Sample], *, node_memory: int | None) -> list[Excess]:
    """Return every attempt over its own limit; if none is and all together are over the node's, the largest one."""
    over = [
        Excess(
            sample.attempt,
            sample.held,
            f"it held {format_memory(sample.held)} of the {format_memory(sample.allowed)} it may have",
        )
        for sample in samples
        if sample.allowed is not None and sample.held > sample.allowed
    ]
    together = sum(sample.held for sample in samples)
    if over or node_memory is None or together <= NODE_SHARE * node_memory:
        return over
    largest = max(samples, key=lambda sample: sample.held)
    because = (
        f"it held {format_memory(largest.held)}, the most of {len(samples)} attempts that held"
        f" {format_memory(together)} of the worker's {format_memory(node_memory)}"
    )
    return [Excess(largest.attempt, largest.held, because)]


@dataclass(frozen=True, slots=True)
class Watched:
    """A running attempt as the guard needs it."""

    attempt: str
    minder: int
    """Pid of the parent of its slot; orphans of the slot's family are its children too."""
    allowed: int | None


class MemoryGuard:
    """The thread that samples."""

    def __init__(
        self,
        *,
        node_memory: int | None,
        running: Callable[[], Sequence[Watched]],
        stop: Callable[[Excess], None],
        note: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        self._node_memory = node_memory
        self._running = running
        self._stop = stop
        self._note = note
        self._noted: dict[str, int] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="scalable-hpc-memory", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = SAMPLE_EVERY_S
        while not self._ends.wait(pause):
            begun = time.thread_time()
            self._look()
            # On a node where looking is slow (many threads per process), look less often: at most 5 % of a core.
            pause = max(SAMPLE_EVERY_S, 20 * (time.thread_time() - begun))

    def _look(self) -> None:
        watched = self._running()
        if self._node_memory is None and all(one.allowed is None for one in watched):
            return
        samples = [_sample(one, kin.resident_bytes) for one in watched]
        suspects = {excess.attempt for excess in choose(samples, node_memory=self._node_memory)}
        self._record(samples)
        if not suspects:
            return
        exact = [_sample(one, kin.proportional_bytes) for one in watched]
        for excess in choose(exact, node_memory=self._node_memory):
            self._stop(excess)

    def _record(self, samples: Sequence[Sample]) -> None:
        """Note an attempt's memory when it has grown by half: a few lines tell the story of any attempt."""
        before, self._noted = self._noted, {}
        for sample in samples:
            known = before.get(sample.attempt, 0)
            if sample.held > 1.5 * known:
                self._note(sample.attempt, sample.held)
            self._noted[sample.attempt] = max(known, sample.held)


def _sample(one: Watched, measure: Callable[[int], int]) -> Sample:
    held = sum(measure(pid) for pid in kin.family(one.minder) - {one.minder})
    return Sample(one.attempt, held, one.allowed)
