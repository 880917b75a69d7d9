"""The fleet's hands: open, drain and close allocations beside the loop, a few at a time, and close until it is true.

Rule 1: nothing here waits on the supervisor's loop; each deed is a task of its own, and its outcome is told.
Rule 2: a close is believed when the batch system confirms it, never because a command returned; until then it is
    repeated, by job id and past dask-jobqueue, which forgets a job at the first try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scalable_hpc.errors import BatchSilent, SubmissionDeferred
from scalable_hpc.fleet.known import Known, Word
from scalable_hpc.fleet.ports import Allocator, Batch, Clock
from scalable_hpc.model.allocations import AllocationRequest

OPENS_AT_ONCE = 4
"""Submissions in flight; login nodes and controllers are shared with others."""
REPEAT_AFTER_S = 10.0
"""A cancelled job is out of RUNNING within a second; ten allow for a busy controller. Doubles with each repeat."""
REPEAT_AFTER_MOST_S = 120.0
"""A controller that has not obeyed for minutes will not obey sooner for being asked more often."""
DEED_PATIENCE_S = 30.0
"""A drain or close that takes longer than this talks to a node that is gone: go on without it."""


class Outcome(Protocol):
    """Where the hands tell what became of a deed."""

    def opened(self, name: str, job_id: str) -> None:
        """The batch system took the job."""

    def not_opened(self, name: str, error: BaseException) -> None:
        """It did not, or did not say."""

    def note(self, kind: str, because: str) -> None:
        """Something for the journal."""


@dataclass(slots=True)
class _Close:
    at: float
    times: int = 1


class Actions:
    """Carries out what was decided."""

    def __init__(self, allocator: Allocator, batch: Batch, clock: Clock, outcome: Outcome) -> None:
        self._allocator = allocator
        self._batch = batch
        self._clock = clock
        self._outcome = outcome
        self._permits = asyncio.Semaphore(OPENS_AT_ONCE)
        self._is_stopping = False
        self._opened: set[str] = set()
        self._opening: dict[str, asyncio.Task[Sequence[str]]] = {}
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._drain_began: dict[str, float] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._repeat: asyncio.Task[None] | None = None
        self._closes: dict[str, _Close] = {}

    def open(self, *requests: AllocationRequest) -> None:
        """Submit an allocation, or several as one array of jobs; the outcome hears of each."""
        task = asyncio.ensure_future(self._open(requests))
        names = [request.name for request in requests]
        self._opening.update(dict.fromkeys(names, task))
        task.add_done_callback(lambda done: self._tell_opened(names, done))

    def drain(self, name: str, because: str) -> None:
        """Let an allocation get nothing new."""
        self._drain_began[name] = self._clock.now()
        self._start(self._draining, name, self._allocator.drain(name, because), f"draining {name}")

    def is_draining(self, name: str) -> bool:
        """Whether a drain has not taken effect yet, so that something may still be placed there."""
        began = self._drain_began.get(name)
        return name in self._draining and began is not None and self._clock.now() - began < DEED_PATIENCE_S

    def close(self, known: Known, because: str) -> None:
        """Give an allocation back."""
        name = known.view.name
        self._closes[name] = _Close(self._clock.now())
        self._start(self._closing, name, self._close(known, because), f"closing {name}")

    def cancel_stray(self, name: str, job_id: str, because: str) -> None:
        """Cancel the job of an allocation that is over for us, and so for the allocator: by its id."""
        self._opened.discard(name)
        self._start(self._closing, name, self._close_by_id(name, job_id, because), f"cancelling stray {name}")

    def forget(self, name: str, because: str) -> None:
        """Let the allocator drop what it holds of an allocation that has ended; unless that is under way."""
        if self._closes.pop(name, None) is None and name not in self._closing:
            self._start(self._closing, name, self._allocator.close(name, because), f"forgetting {name}")

    def repeat_closes(self, closing: Sequence[Known], now: float) -> None:
        """Cancel again what should be gone by now and is not even being torn down."""
        if self._repeat is not None and not self._repeat.done():
            return
        late = [known for known in closing if self._is_late(known, now)]
        job_ids = [known.view.job_id for known in late if known.view.job_id is not None]
        if not job_ids:
            return
        for known in late:
            made = self._closes[known.view.name]
            made.at, made.times = now, made.times + 1
        names = ", ".join(known.view.name for known in late)
        self._outcome.note("cancel_repeated", f"cancelled again, for the batch system has not ended it: {names}")
        self._repeat = asyncio.ensure_future(self._cancel(job_ids))

    def stop_opening(self) -> None:
        """Submit nothing that has not been handed to the allocator yet."""
        self._is_stopping = True

    def is_idle(self) -> bool:
        """Whether no deed is under way."""
        return not (self._opening or self._draining or self._closing)

    async def abandon(self) -> None:
        """Stop waiting for deeds that are under way."""
        tasks: list[asyncio.Task[Any]] = [*self._opening.values(), *self._draining.values(), *self._closing.values()]
        if self._repeat is not None:
            tasks.append(self._repeat)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self, requests: Sequence[AllocationRequest]) -> Sequence[str]:
        async with self._permits:
            if self._is_stopping:
                raise SubmissionDeferred("not submitted: the session is closing")
            if len(requests) == 1:
                job_ids: Sequence[str] = [await self._allocator.open(requests[0])]
            else:
                job_ids = await self._allocator.open_array(requests)
        self._opened.update(request.name for request in requests)
        return job_ids

    def _tell_opened(self, names: Sequence[str], task: asyncio.Task[Sequence[str]]) -> None:
        for name in names:
            self._opening.pop(name, None)
        error = BatchSilent("given up before the batch system answered") if task.cancelled() else task.exception()
        if error is None:
            for name, job_id in zip(names, task.result(), strict=True):
                self._outcome.opened(name, job_id)
        else:
            for name in names:
                self._outcome.not_opened(name, error)

    async def _close(self, known: Known, because: str) -> None:
        name, job_id = known.view.name, known.view.job_id
        if name in self._opened or job_id is None:
            await self._allocator.close(name, because)
        else:
            # The allocator never learned its job id (a lost answer, a driver before us), so it cannot cancel it.
            await self._close_by_id(name, job_id, because)

    async def _close_by_id(self, name: str, job_id: str, because: str) -> None:
        await self._allocator.close(name, because)
        await self._cancel([job_id])

    async def _cancel(self, job_ids: list[str]) -> None:
        try:
            await self._batch.cancel(job_ids)
        except BatchSilent as silence:
            self._outcome.note("silent", f"cancelling brought no answer, is tried again: {silence.message}")

    def _is_late(self, known: Known, now: float) -> bool:
        made = self._closes.get(known.view.name)
        if made is None or known.word is Word.ENDING:
            return False
        patience = min(REPEAT_AFTER_MOST_S, REPEAT_AFTER_S * 2.0 ** (made.times - 1))
        return now - made.at >= (max(patience, DEED_PATIENCE_S) if known.view.name in self._closing else patience)

    def _start(
        self, tasks: dict[str, asyncio.Task[None]], name: str, deed: Coroutine[Any, Any, None], words: str
    ) -> None:
        task = asyncio.ensure_future(deed)
        tasks[name] = task

        def finished(done: asyncio.Task[None]) -> None:
            tasks.pop(name, None)
            if not done.cancelled() and (error := done.exception()) is not None:
                self._outcome.note("failed", f"{words} went wrong: {type(error).__name__}: {error}")

        task.add_done_callback(finished)
