"""When the batch system is asked, and what its silence means: one batched query at a time, never below the floor.

Rule 1: silence is tolerated for any length; it is noted once when it begins and once when it ends.
Rule 2: nothing is decided here about allocations; answers are handed on as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scalable_hpc.errors import BatchSilent
from scalable_hpc.fleet.pace import poll_interval_s
from scalable_hpc.fleet.ports import Batch, Clock
from scalable_hpc.model.allocations import JobObservation


@dataclass(frozen=True, slots=True)
class Answer:
    """What one round of questions brought."""

    at: float
    silence: BatchSilent | None = None
    by_id: Mapping[str, JobObservation] = field(default_factory=dict)
    found: Sequence[JobObservation] | None = None
    """Every job of the run that is not over; None: was not asked for."""


class Watch:
    """Decides when to ask the batch system, and asks."""

    def __init__(self, batch: Batch, clock: Clock, run_id: str, floor_s: float) -> None:
        self._batch = batch
        self._clock = clock
        self._run_id = run_id
        self._floor_s = floor_s
        self._asked_at = -float("inf")
        self._took_s = 0.0
        self._surprised_at = clock.now()
        self._is_hurried = False
        self.silent_since: float | None = None

    def surprise(self, now: float) -> None:
        """Something changed: more is likely to, so ask quickly for a while."""
        self._surprised_at = now

    def hurry(self, now: float) -> None:
        """Ask as soon as the floor allows."""
        self._is_hurried = True
        self._surprised_at = now

    def due_in(self, now: float, *, expecting: bool) -> float:
        """Seconds until the next question.

        Args:
            now: seconds since the epoch.
            expecting: whether an answer matters now (something waits, starts or is being closed).
        """
        since = self._surprised_at if self.silent_since is None else self.silent_since
        expecting_for = now - since if expecting or self.silent_since is not None else None
        interval = poll_interval_s(expecting_for, self._floor_s, self._took_s)
        if self._is_hurried and self.silent_since is None:
            interval = self._floor_s
        return max(0.0, self._asked_at + interval - now)

    async def ask(self, job_ids: Sequence[str], *, find: bool) -> Answer:
        """Ask after all these jobs with one query, and where ``find`` is set for all jobs of the run with another."""
        self._asked_at = began = self._clock.now()
        self._is_hurried = False
        try:
            by_id = await self._batch.status(job_ids) if job_ids else {}
            found = await self._batch.find(self._run_id) if find else None
        except BatchSilent as silence:
            answer = Answer(began, silence)
        else:
            answer = Answer(began, None, by_id, found)
        self._took_s = self._clock.now() - began
        return answer

    def hear(self, answer: Answer) -> str | None:
        """Take note of silence or of its end; returns the words for the journal where that is news."""
        since, self.silent_since = self.silent_since, self._silent_since(answer)
        if answer.silence is not None:
            return None if since is not None else f"the batch system does not answer: {answer.silence.message}"
        return None if since is None else f"the batch system answers again, after {answer.at - since:.0f} s"

    def _silent_since(self, answer: Answer) -> float | None:
        if answer.silence is None:
            return None
        return answer.at if self.silent_since is None else self.silent_since
