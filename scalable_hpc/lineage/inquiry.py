"""What happened to the attempts of a worker that is gone: its flight recorder, and the batch system's word.

Rule 1: bounded. Whoever has nothing to say in time is left out; the word may still come later (``AttemptExplained``).
Rule 2: an attempt is said to have never started only when a readable recorder does not know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.ports import AllocationWord, Clock, Flight, FlightRecord
from scalable_hpc.lineage.roster import Worker
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long to ask for the batch system's word: an attempt is to run again within 2 s of its worker's death."""
ASK_EVERY_S = 0.2
RECORDER_PATIENCE_S = 5.0
"""A recorder lies on the shared file system, which may hang with the node that died."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A worker that is gone, and what is known about why."""

    worker: Worker
    at: float
    expected: bool
    because: str
    ending: JobEnding | None = None
    """How its allocation ended, when that is known already."""


async def inquire(departure: Departure, flight: Flight, word: AllocationWord, clock: Clock) -> list[Evidence]:
    """Return evidence for every attempt that the worker had in hand."""
    worker = departure.worker
    attempts = [attempt for load in worker.loads.values() for attempt in load.attempts]
    if not attempts:
        return []
    record, (reason, raw) = await asyncio.gather(_read(worker.recorder, flight), _ask(departure, word, clock))
    return list(_evidence(departure, attempts, record, reason, raw))


def _evidence(
    departure: Departure,
    attempts: Iterable[AttemptId],
    record: FlightRecord | None,
    reason: ExitReason | None,
    raw: str,
) -> Iterable[Evidence]:
    worker = departure.worker
    for attempt in attempts:
        started_at = None if record is None else record.running.get(attempt)
        is_known = record is None or started_at is not None or attempt in record.ended
        ran_s = None
        if record is not None and started_at is not None:
            ran_s = max(0.0, min(record.last_at, departure.at) - started_at)
        yield Evidence(
            attempt,
            Ending.WORKER_LOST if is_known else Ending.NEVER_STARTED,
            departure.at,
            worker=worker.address,
            allocation=worker.allocation,
            node=worker.node,
            ran_s=ran_s,
            peak_memory=None if record is None else record.memory.get(attempt),
            time_left_s=None if worker.deadline is None else worker.deadline - departure.at,
            allocation_reason=None if reason is None else reason.value,
            allocation_raw=raw or None,
            expected=departure.expected,
            log_tail=departure.because,
        )


async def _read(path: str, flight: Flight) -> FlightRecord | None:
    if not path:
        return None
    try:
        return await asyncio.wait_for(asyncio.to_thread(flight, path), RECORDER_PATIENCE_S)
    except (ScalableError, OSError, asyncio.TimeoutError) as error:
        logger.warning("The flight recorder %r tells nothing: %s", path, str(error) or "no answer in time")
        return None


async def _ask(departure: Departure, word: AllocationWord, clock: Clock) -> tuple[ExitReason | None, str]:
    if departure.ending is not None:
        return departure.ending.reason, departure.ending.raw
    if departure.expected:
        return None, departure.because
    until = clock() + PATIENCE_S
    while True:
        try:
            reason, raw = await asyncio.wait_for(word(departure.worker.allocation), max(ASK_EVERY_S, until - clock()))
        except (ScalableError, OSError, asyncio.TimeoutError) as error:
            reason, raw = None, str(error)
        if reason is not None or clock() + ASK_EVERY_S > until:
            return reason, raw
        await asyncio.sleep(ASK_EVERY_S)
