"""What happened to the attempts of a worker that is gone: its flight recorder, and the batch system's word.

Rule 1: bounded. Whoever has nothing to say in time is left out; the word may still come later (``AttemptExplained``).
Rule 2: an attempt is said to have never started only when a readable recorder does not know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.ports import AllocationWord, Flight, FlightRecord, Ports
from scalable_hpc.lineage.roster import Worker
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.messages import AttemptEnded
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long to ask for the batch system's word: an attempt is to run again within 2 s of its worker's death."""
ASK_EVERY_S = 0.2
SUSPECT_PATIENCE_S = 15.0
"""The same for a suspect that ran alone: it is in no hurry, and what the word is decides about it."""
READ_AGAIN_S = 0.25
"""The launcher adds to the recorder how its courier died, a moment after the connection broke."""
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


class Inquiries:
    """Inquiries under way, beside the keeper's turns; evidence is delivered as if a worker had sent it."""

    def __init__(self, ports: Ports, deliver: Callable[[AttemptEnded], None]) -> None:
        self._ports = ports
        self._deliver = deliver
        self._under_way: dict[asyncio.Task[None], Departure] = {}
        self._endings: dict[str, JobEnding] = {}

    def allocation_ended(self, name: str, ending: JobEnding) -> None:
        """Hear how an allocation ended: nobody needs to be asked about it any more."""
        self._endings[name] = ending

    def begin(self, departure: Departure) -> None:
        """Find out what became of the attempts of a worker that is gone; on the loop."""
        inquiry = asyncio.ensure_future(self._inquire(departure))
        self._under_way[inquiry] = departure
        inquiry.add_done_callback(lambda done: self._under_way.pop(done, None))

    def recall(self, address: str) -> Worker | None:
        """End the inquiry about a worker that is back, and return it with what it had in hand; None: there is none."""
        for inquiry, departure in list(self._under_way.items()):
            if departure.worker.address == address:
                del self._under_way[inquiry]
                inquiry.cancel()
                return departure.worker
        return None

    async def call_off(self) -> None:
        """End all inquiries; what they were about stays open."""
        inquiries = list(self._under_way)
        for inquiry in inquiries:
            inquiry.cancel()
        await asyncio.gather(*inquiries, return_exceptions=True)

    async def _inquire(self, departure: Departure) -> None:
        try:
            found = await inquire(departure, self._ports.flight, self._word)
        except Exception:  # whatever a port raised: attempts that nobody speaks of again would be lost
            logger.exception("Nothing could be found out about worker %s", departure.worker.address)
            found = evidence_of(departure, None, None, "")
        if departure.worker.is_reserved and not departure.expected:
            found = await self._with_log(departure.worker.allocation, found)
        for evidence in found:
            self._deliver(AttemptEnded(evidence))

    async def _with_log(self, allocation: str, found: list[Evidence]) -> list[Evidence]:
        """Add what the job of a suspect printed last: it is what its conviction can show."""
        try:
            tail = await asyncio.wait_for(asyncio.to_thread(self._ports.log_tail, allocation), RECORDER_PATIENCE_S)
        except (ScalableError, OSError, asyncio.TimeoutError) as error:
            logger.warning("The log of %s tells nothing: %s", allocation, str(error) or "no answer in time")
            return found
        return [replace(one, job_log=tail.strip()) for one in found]

    async def _word(self, allocation: str) -> tuple[ExitReason | None, str]:
        ending = self._endings.get(allocation)
        if ending is not None:
            return ending.reason, ending.raw
        return await self._ports.allocation_word(allocation)


async def inquire(departure: Departure, flight: Flight, word: AllocationWord) -> list[Evidence]:
    """Return evidence for every attempt that the worker had in hand."""
    if not departure.worker.loads:
        return []
    asking = asyncio.ensure_future(_ask(departure, word))
    record = await _read(departure.worker.recorder, flight)
    while record is not None and not record.worker_end and not asking.done():
        await asyncio.wait({asking}, timeout=READ_AGAIN_S)
        record = await _read(departure.worker.recorder, flight) or record
    if record is not None and record.worker_end:
        # For one that may be convicted of it the batch system has another moment to tell a different story.
        await asyncio.wait({asking}, timeout=PATIENCE_S if departure.worker.is_reserved else 0)
    if record is not None and record.worker_end and not asking.done():
        asking.cancel()  # it is known what happened; a word that tells another story still comes to be heard
        await asyncio.wait({asking})
        return evidence_of(departure, record, None, "")
    return evidence_of(departure, record, *await asking)


def evidence_of(
    departure: Departure, record: FlightRecord | None, reason: ExitReason | None, raw: str
) -> list[Evidence]:
    """Return evidence for every attempt that the worker had in hand, from what was found out."""
    attempts = sorted(worker_attempts(departure.worker), key=str)
    return [_evidence(departure, attempt, record, reason, raw) for attempt in attempts]


def _evidence(
    departure: Departure, attempt: AttemptId, record: FlightRecord | None, reason: ExitReason | None, raw: str
) -> Evidence:
    worker = departure.worker
    started_at = None if record is None else record.running.get(attempt)
    is_executing = record is None or started_at is not None
    together = len(worker_attempts(worker)) if record is None else len(record.running)
    is_known = record is None or started_at is not None or attempt in record.ended
    lost_at = departure.at if worker.deadline is None else min(departure.at, worker.deadline)
    ran_s = None if started_at is None else max(0.0, lost_at - started_at)
    return Evidence(
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
        together=together if is_executing else None,
        worker_end="" if record is None or departure.expected else record.worker_end,
    )


def worker_attempts(worker: Worker) -> list[AttemptId]:
    """Return every attempt that a worker had in hand."""
    return [attempt for load in worker.loads.values() for attempt in load.attempts]


async def _read(path: str, flight: Flight) -> FlightRecord | None:
    if not path:
        return None
    try:
        return await asyncio.wait_for(asyncio.to_thread(flight, path), RECORDER_PATIENCE_S)
    except (ScalableError, OSError, asyncio.TimeoutError) as error:
        logger.warning("The flight recorder %r tells nothing: %s", path, str(error) or "no answer in time")
        return None


async def _ask(departure: Departure, word: AllocationWord) -> tuple[ExitReason | None, str]:
    if departure.ending is not None:
        return departure.ending.reason, departure.ending.raw
    if departure.expected:
        return None, departure.because
    clock = asyncio.get_running_loop().time
    until = clock() + (SUSPECT_PATIENCE_S if departure.worker.is_reserved else PATIENCE_S)
    while True:
        try:
            reason, raw = await asyncio.wait_for(word(departure.worker.allocation), max(ASK_EVERY_S, until - clock()))
        except (ScalableError, OSError, asyncio.TimeoutError) as error:
            reason, raw = None, str(error)
        if reason is not None or clock() + ASK_EVERY_S > until:
            return reason, raw
        await asyncio.sleep(ASK_EVERY_S)
