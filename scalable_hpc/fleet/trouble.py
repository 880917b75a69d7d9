"""What the fleet does about refusals: waits with those that may pass, and tells the run of those that will not, once.

Rule 1: whatever will not pass by itself stops its worker type and is told with the batch system's own words.
Rule 2: when nobody wants a worker type any more, its troubles are forgotten: new work is a new try.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping

from scalable_hpc.errors import AllocationsFailing, ScalableError, SubmissionDeferred, SubmissionError
from scalable_hpc.fleet.pace import backoff_s
from scalable_hpc.fleet.ports import Clock, Run
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.model.events import FleetNote
from scalable_hpc.model.fleet import AllocationView, Limits

DEFERRED_FIRST_S = 5.0
"""Submit limits are lifted when some job ends; that takes more than a hiccup."""
AWAY_FIRST_S = 60.0
"""A refused type whose work another does is tried again after a minute, then ever more seldom: nobody waits for it."""
JITTER_SHARE = 0.25
"""Pauses are drawn out by up to this share, so that drivers that were refused together do not come back together."""
UNFORESEEN_MOST = 3
"""Errors in a row that no submission should end with (a disk, a bug), then the run is told."""


class Trouble:
    """Pauses, and the errors that end a worker type."""

    def __init__(
        self, run: Run, roster: Roster, clock: Clock, rng: random.Random, limits: Mapping[str, Limits]
    ) -> None:
        self._run = run
        self._roster = roster
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._deferred = 0
        self._unforeseen = 0
        self._paused_until = -math.inf
        self._telling: set[asyncio.Task[None]] = set()

    def paused_until(self) -> float | None:
        """Until when the whole fleet opens nothing; None: it may."""
        return self._paused_until if self._paused_until > self._clock.now() else None

    def submission_taken(self) -> None:
        """The batch system takes jobs again."""
        self._deferred = self._unforeseen = 0
        self._paused_until = -math.inf

    def submission_failed(self, allocation: AllocationView, error: BaseException) -> None:
        """Wait with what may pass; refuse the worker type for what will not."""
        if isinstance(error, SubmissionDeferred):
            self._deferred += 1
            self._wait("deferred", self._deferred, f"the batch system takes nothing now: {error.message}")
        elif isinstance(error, ScalableError):
            self._refuse(allocation.worker_type, "refused", error)
        else:
            self._unforeseen += 1
            words = f"submitting {allocation.name} went wrong: {type(error).__name__}: {error}"
            self._wait("failed", self._unforeseen, words)
            if self._unforeseen >= UNFORESEEN_MOST:
                failing = AllocationsFailing(words, hint="scalable-hpc render   # look at the job script")
                failing.__cause__ = error
                self._refuse(allocation.worker_type, "failing", failing)

    def will_never_run(self, allocation: AllocationView, said: str, why: str) -> None:
        """Refuse the worker type whose pending job the batch system will never start."""
        error = SubmissionError(
            f"allocation {allocation.name} (job {allocation.job_id}) will never run: {why};"
            f" the batch system says {said!r}",
            hint="scalable-hpc plan   # see what is asked for, and change the target in scalable.yaml",
        )
        self._refuse(allocation.worker_type, "never_runs", error)

    def pause(self, worker_type: str, until: float, because: str) -> None:
        """Pause a worker type whose allocations fail to start; for good (until = infinity), tell the run why."""
        now = self._clock.now()
        standing = self._roster.standing(worker_type)
        standing.paused_until = until + self._jitter(until - now)
        self._note("pause", because)
        if math.isinf(until):
            task = asyncio.ensure_future(self._tell_of_failing_starts(worker_type, because))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def forgive(self, worker_type: str) -> None:
        """Forget a worker type's troubles (Rule 2)."""
        self._roster.standing(worker_type).forgive()

    async def _tell_of_failing_starts(self, worker_type: str, because: str) -> None:
        last = self._roster.standing(worker_type).failures[-1]
        tail = await asyncio.to_thread(self._run.log_tail, last)
        ending = self._roster[last].ending
        raw = "no word" if ending is None else ending.raw
        says = f"the log of {last} ends with:\n{tail.rstrip()}" if tail.strip() else f"{last} left no log"
        error = AllocationsFailing(
            f"{because}; the batch system's last word: {raw}\n{says}",
            hint="scalable-hpc render   # the job script; run it by hand on a node",
        )
        if not self._leave_to_others(worker_type, "failing", error):
            self._run.on_failure(error)

    def _refuse(self, worker_type: str, kind: str, error: ScalableError) -> None:
        standing = self._roster.standing(worker_type)
        if standing.paused_until is not None and math.isinf(standing.paused_until):
            return
        if self._leave_to_others(worker_type, kind, error):
            return
        standing.paused_until = math.inf
        self._note(kind, error.message)
        self._run.on_failure(error)

    def _leave_to_others(self, worker_type: str, kind: str, error: ScalableError) -> bool:
        """Where the type has fallbacks: keep the error for the case that they cannot help, and try again later."""
        limits = self._limits.get(worker_type)
        if limits is None or not limits.may_be_away:
            return False
        standing = self._roster.standing(worker_type)
        standing.trouble, standing.troubles = error, standing.troubles + 1
        # One failed start less than what ends it for good, so that one allocation may be tried.
        standing.failures = standing.failures[: max(0, limits.start_failures - 1)]
        wait = backoff_s(standing.troubles, AWAY_FIRST_S)
        standing.paused_until = self._clock.now() + wait + self._jitter(wait)
        self._note(kind, f"{error.message}; {worker_type!r} is tried again in {wait:.0f} s")
        return True

    def _wait(self, kind: str, times: int, words: str) -> None:
        now = self._clock.now()
        wait = backoff_s(times, DEFERRED_FIRST_S)
        until = now + wait + self._jitter(wait)
        if until > self._paused_until:
            self._paused_until = until
            self._note(kind, f"{words}; tries again in {until - now:.0f} s")

    def _jitter(self, seconds: float) -> float:
        return 0.0 if math.isinf(seconds) else seconds * JITTER_SHARE * self._rng.random()

    def _note(self, kind: str, because: str) -> None:
        self._run.record(FleetNote(self._clock.now(), kind, because))
