"""Between the memory guard, which knows processes and bytes, and the courier, which knows attempts.

Rule 1: nothing is decided here; ``memory.choose`` decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from scalable_hpc.model.tasks import Ending
from scalable_hpc.worker import recorder as lines
from scalable_hpc.worker.handles import Doom
from scalable_hpc.worker.memory import Excess, MemoryGuard, Watched
from scalable_hpc.worker.recorder import Recorder
from scalable_hpc.worker.slots import SlotPool
from scalable_hpc.worker.trip import Running


def guard_memory(
    running: Callable[[], Sequence[Running]], pool: SlotPool, recorder: Recorder, *, node_memory: int | None
) -> MemoryGuard:
    """Return a guard, not yet started, over what ``running`` says is running."""

    def watched() -> list[Watched]:
        return [
            Watched(one.attempt, one.lease.slot.minder, one.envelope.memory)
            for one in running()
            if one.lease.slot.minder is not None
        ]

    def stop(excess: Excess) -> None:
        doom = Doom(excess.attempt, Ending.EXCEPTION, f"stopped: {excess.because}", excess.held)
        for one in running():
            if one.attempt == excess.attempt:
                pool.kill(one.lease.slot, doom)

    def note(attempt: str, held: int) -> None:
        at = time.time()
        found = [one.envelope.attempt for one in running() if one.attempt == attempt]
        recorder.append(*[lines.held(one, at=at, memory=held) for one in found])

    return MemoryGuard(node_memory=node_memory, running=watched, stop=stop, note=note)
