"""The loop that keeps the fleet as the plan wants it, and what the rest of the run may ask of it.

Decisions are in ``plan``, knowledge is in ``roster`` and ``view``, orders are given in ``helm`` and carried out in
``actions``; this file only decides when to look. It runs on the engine's loop and never waits for a batch command.

Rule 1: one supervisor per run; it alone opens and closes allocations.
Rule 2: every method is called on the engine's loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from typing import Any

from scalable_hpc.fleet.budget import Balance
from scalable_hpc.fleet.helm import Helm
from scalable_hpc.fleet.pace import QUICK_S
from scalable_hpc.fleet.ports import Allocator, Batch, Clock, Run, WallClock
from scalable_hpc.fleet.watch import Watch
from scalable_hpc.model.allocations import AllocationState, ExitReason
from scalable_hpc.model.fleet import AllocationView, Limits
from scalable_hpc.model.messages import WorkerDraining, WorkerGone, WorkerHello

TICK_S = 1.0
"""The plan is looked at again at least this often: deadlines and idle times pass without any news."""
GATHER_S = 0.05
"""News that comes together is planned for together."""
PLAN_SHARE = 10.0
"""Of the engine's loop the plan takes a tenth at most: after a long one it rests ten times as long."""
CLOSE_TIMEOUT_S = 60.0
"""How long a closing session waits for the batch system to confirm; twice the usual 30 s between TERM and KILL."""
_EXPECTING = (
    AllocationState.SUBMITTING,
    AllocationState.PENDING,
    AllocationState.STARTING,
    AllocationState.CLOSING,
)


class Supervisor:
    """Keeps the wanted number of slots alive."""

    def __init__(
        self,
        run: Run,
        allocator: Allocator,
        backend: Batch,
        limits: Mapping[str, Limits],
        *,
        poll_s: float = QUICK_S,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Connect; nothing happens before ``run``.

        Args:
            run: what the fleet serves.
            allocator: opens and closes allocations.
            backend: the batch system.
            limits: what is allowed, by worker type.
            poll_s: the site's floor: never ask the batch system more often.
            clock: the time; the real one by default.
            rng: for jitter.
        """
        self._busy = run.busy
        self._clock = clock or WallClock()
        self._watch = Watch(backend, self._clock, run.run_id, poll_s)
        jitter = rng or random.Random()  # noqa: S311  (nothing secret about a pause)
        self._helm = Helm(run, limits, allocator, backend, self._clock, jitter, self._on_news)
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._listeners: set[asyncio.Future[None]] = set()
        self._is_running = False
        self._closing_until: float | None = None

    async def run(self) -> None:
        """Keep the fleet until ``close``.

        Raises:
            RuntimeError: it runs already.
        """
        if self._is_running:
            raise RuntimeError("the fleet has one supervisor loop, and it runs already")
        self._is_running = True
        try:
            while not self._is_over():
                self._ask_when_due()
                began = self._clock.now()
                self._helm.decide(is_silent=self._watch.silent_since is not None)
                await self._rest(self._clock.now() - began)
        finally:
            if self._asking is not None:
                self._asking.cancel()
            self._is_running = False
            self._stopped.set()

    def poke(self) -> None:
        """Say that demand changed."""
        self._wake.set()

    def receive(self, message: WorkerHello | WorkerDraining | WorkerGone) -> None:
        """Hear a worker come, ask to be drained, or leave; after it left the batch system is asked at once."""
        if isinstance(message, WorkerGone):
            self._watch.hurry(self._clock.now())
        self._helm.hear_worker(message)
        self._wake.set()

    def wind_down(self) -> None:
        """Open nothing from now on; what runs may finish, and what has nothing left is given back at once."""
        self._helm.wind_down()
        self._wake.set()

    def snapshot(self) -> tuple[AllocationView, ...]:
        """Every allocation that has not ended, oldest first, with the attempts assigned to it now."""
        return self._helm.roster.snapshot(self._busy())

    def balance(self) -> Balance | None:
        """How much of the run's budget is used and bound; None: it has none."""
        return self._helm.balance()

    def held_back(self) -> dict[str, str]:
        """Why nothing more is asked for, by worker type that tasks wait for."""
        return self._helm.held_back.say()

    async def word(self, name: str, timeout_s: float) -> tuple[ExitReason | None, str]:
        """Ask the batch system why an allocation's workers went.

        Polls until it says that the allocation is over (or was requeued), or the time is up; then the reason is None
        and the words are the last that were heard.
        """
        roster = self._helm.roster
        if name not in roster:
            return None, f"no allocation of this run is named {name!r}"
        until = self._clock.now() + timeout_s
        self._watch.hurry(self._clock.now())
        self._wake.set()
        while True:
            known, left = roster[name], until - self._clock.now()
            ending = known.ending or known.interrupted
            if ending is not None:
                return ending.reason, ending.raw
            if left <= 0:
                return None, known.raw or known.word.value
            await self._heard(left)

    async def close(self, because: str, timeout_s: float = CLOSE_TIMEOUT_S, *, patient: bool = True) -> tuple[str, ...]:
        """Give every allocation back and wait until the batch system confirms, for so long at most.

        A patient close gives an allocation that was lost with attempts on it half a minute to be explained by the
        batch system before it is cancelled.

        Returns the names of those that it has not confirmed; they are noted in the journal.
        """
        self._closing_until = self._clock.now() + timeout_s
        self._helm.close(because, patient=patient)
        self._watch.hurry(self._clock.now())
        self._wake.set()
        if self._is_running:
            await self._stopped.wait()
        else:
            await self.run()
        await self._helm.actions.abandon()
        left = tuple(known.view.name for known in self._helm.roster.open())
        if left:
            words = f"the batch system has not confirmed the end of {', '.join(left)} within {timeout_s:.0f} s"
            self._helm.note("unconfirmed", words)
        return left

    def _is_over(self) -> bool:
        if self._closing_until is None:
            return False
        all_done = not self._helm.roster.open() and self._helm.actions.is_idle()
        return all_done or self._clock.now() >= self._closing_until

    def _is_expecting(self) -> bool:
        """Whether an answer of the batch system matters now."""
        known = self._helm.roster.open()
        return bool(self._listeners) or any(not each.ran or each.view.state in _EXPECTING for each in known)

    def _ask_when_due(self) -> None:
        """Start a round of questions in a task of its own, unless one is under way."""
        if self._asking is not None:
            if not self._asking.done():
                return
            asking, self._asking = self._asking, None
            asking.result()  # anything but BatchSilent is a bug of the backend: it ends the loop, loudly
        jobs, find = self._helm.roster.job_ids(), self._helm.roster.has_lost_answers()
        if (jobs or find) and self._due_in() <= 0:
            self._asking = asyncio.ensure_future(self._ask(jobs, find=find))

    async def _ask(self, job_ids: list[str], *, find: bool) -> None:
        answer = await self._watch.ask(job_ids, find=find)
        news = self._watch.hear(answer)
        if news is not None:
            self._helm.note("silent" if answer.silence is not None else "answers", news)
        self._helm.hear_batch(answer)
        self._wake.set()

    def _due_in(self) -> float:
        return self._watch.due_in(self._clock.now(), expecting=self._is_expecting())

    async def _rest(self, planned_for_s: float) -> None:
        """Sleep until there is news, or something is due."""
        await self._clock.sleep(min(TICK_S, max(GATHER_S, PLAN_SHARE * planned_for_s)))
        roster = self._helm.roster
        may_ask = self._asking is None and (roster.has_lost_answers() or roster.job_ids())
        await self._first(self._wake.wait(), min(TICK_S, self._due_in()) if may_ask else TICK_S)
        self._wake.clear()

    def _on_news(self) -> None:
        self._watch.surprise(self._clock.now())
        self._wake.set()
        for listener in self._listeners:
            if not listener.done():
                listener.set_result(None)

    async def _heard(self, timeout_s: float) -> None:
        """Wait for any news of any allocation."""
        heard = asyncio.get_running_loop().create_future()
        self._listeners.add(heard)
        try:
            await self._first(asyncio.wait({heard}), timeout_s)
        finally:
            self._listeners.discard(heard)

    async def _first(self, event: Coroutine[Any, Any, object], timeout_s: float) -> None:
        """Wait for an event, but no longer than so many seconds of the clock."""
        tasks = {asyncio.ensure_future(event), asyncio.ensure_future(self._clock.sleep(timeout_s))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
