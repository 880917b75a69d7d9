"""A run's engine: the thread with the loop that keeper, fleet and Dask live on.

Dask is imported, and a scheduler started, when the first call must be run; a run whose every call is known never does.

Rule 1: what belongs to the run is touched on the loop only; other threads leave messages.
Rule 2: nothing is decided here; rooms are connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalable_hpc.backends import backend_for_orphans, make_backend, never_runs_on, stuck_on
from scalable_hpc.confidential import remove_secrets, write_secrets
from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.environment import environment_of
from scalable_hpc.errors import RunDirectoryError, ScalableError
from scalable_hpc.fleet.inheritance import Estate
from scalable_hpc.fleet.ports import Run
from scalable_hpc.fleet.supervisor import Supervisor
from scalable_hpc.job_scripts import render_script
from scalable_hpc.lineage.census import Progress
from scalable_hpc.lineage.claims import Claims
from scalable_hpc.lineage.files import RunFiles
from scalable_hpc.lineage.hosts import HostRules
from scalable_hpc.lineage.journal import Journal
from scalable_hpc.lineage.keeper import Keeper
from scalable_hpc.lineage.lanes import LaneKey
from scalable_hpc.lineage.lease import Lease
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Offer
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.ports import HitOf, Ports, no_hit
from scalable_hpc.lineage.quick import QuickFold
from scalable_hpc.lineage.waiting import keep_telling
from scalable_hpc.links import Allocations, LateTransport
from scalable_hpc.model.allocations import AllocationRequest, ExitReason, JobEnding
from scalable_hpc.model.events import AllocationChanged, Event, FleetNote, RunOpened
from scalable_hpc.model.fleet import AllocationView
from scalable_hpc.model.messages import Upward, WorkerDraining, WorkerGone, WorkerHello
from scalable_hpc.naming import number_of
from scalable_hpc.parting import let_finish
from scalable_hpc.results import Stores
from scalable_hpc.runs import RunDirectory
from scalable_hpc.sweep import keep_sweeping
from scalable_hpc.version import __version__
from scalable_hpc.worker.recorder import read_recorder

if TYPE_CHECKING:
    from scalable_hpc.cluster.dask_link import DaskLink

logger = logging.getLogger(__name__)

_WORD_TIMEOUT_S = 1.0
"""For one question to the batch system about an ended allocation; the keeper asks again if it cares."""
_MOMENT_S = 0.5
_SWEEP_AT_CLOSE_S = 5.0
"""For a sweep under way when the run ends: the next driver does what is left."""
_START_TIMEOUT_S = 60.0
"""For the thread to say that it is up; it only opens files."""


class Engine:
    """The loop's side of a run. ``start`` and ``close`` are for the thread that owns the session."""

    def __init__(
        self,
        manifest: ResolvedManifest,
        run: RunDirectory,
        stores: Stores,
        hit_of: HitOf = no_hit,
        *,
        retry_quarantined: bool = False,
    ) -> None:
        self._manifest = manifest
        self._hit_of = hit_of
        self._retry_quarantined = retry_quarantined
        self._run = run
        self._stores = stores
        self._transport = LateTransport()
        self._supervisor: Supervisor | None = None
        self._allocations: Allocations | None = None
        self._backend = make_backend(manifest.target, run)
        self._limits = allocation_limits(manifest)
        self._thread = threading.Thread(target=self._live, name=f"scalable-hpc {run.run_id}", daemon=True)
        self._up = threading.Event()
        self._trouble: BaseException | None = None
        self._estate = Estate()
        """What earlier drivers of this run left; names of allocations are never used twice in a run."""
        self.last_number = 0
        """Of the tasks that earlier drivers of this run had submitted."""
        self._on_broken: Callable[[BaseException], None] = lambda _: None
        self.keeper: Keeper
        self.claims: Claims
        """Tasks of earlier drivers that calls of this one may stand for."""
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event
        self._wanted: asyncio.Event

    # The owner's side.

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Start the thread; returns when submissions are taken.

        Args:
            on_broken: called, on the loop, when the run cannot go on (its disk is gone).

        Raises:
            RunDirectoryError: the run directory cannot be written.
        """
        self._on_broken = on_broken
        self._thread.start()
        if not self._up.wait(_START_TIMEOUT_S):
            raise RunDirectoryError(f"the run did not start within {_START_TIMEOUT_S:.0f} s: {str(self._run.path)!r}")
        if self._trouble is not None:
            raise self._trouble

    def close(self, because: str, *, patient: bool = True, leave: bool = False) -> str:
        """Stop everything, give every allocation back, wait until that is done, and say in a line what there was.

        Args:
            because: for the journal.
            patient: wait, for half a minute at most, to hear why allocations were lost.
            leave: give nothing back: allocations go on, and wait for the run's next driver.
        """
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            self._loop.call_soon_threadsafe(self._close_because, because, patient, leave)
        self._thread.join()
        progress = self.keeper.progress()
        opened = self._allocations.opened if self._allocations is not None else 0
        fleet = f"{opened or 'no'} allocation{'s were' if opened > 1 else ' was'} opened"
        return (
            f"{progress.hits:,} calls answered from the cache, {progress.done:,} computed; {fleet} ({self._run.path})"
        )

    def wake(self) -> None:
        """Say that there is something to run."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def wait_a_moment(self) -> None:
        """Return after half a second, or when the engine has ended.

        Raises:
            Exception: what ended it.
        """
        self._thread.join(_MOMENT_S)
        if not self._thread.is_alive() and self._trouble is not None:
            raise self._trouble

    def look(self) -> tuple[Progress, tuple[AllocationView, ...], list[WorkerHello]]:
        """How far the run is, every allocation that has not ended, and the workers that are connected."""
        return asyncio.run_coroutine_threadsafe(self._look(), self._loop).result()

    def dask_client(self) -> Any:
        """A new synchronous ``distributed.Client``; starts the scheduler when there is none yet."""
        return asyncio.run_coroutine_threadsafe(self._linked(), self._loop).result().plain_client()

    # The loop's side.

    def _live(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as trouble:  # whatever it was, the owner must hear of it
            self._trouble = trouble
            if self._up.is_set():
                logger.error("The run cannot go on", exc_info=trouble)
                self._on_broken(trouble)
        finally:
            self._up.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing, self._wanted, self._begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._because, self._is_patient, self._leaves = "the session ended", False, False
        self._link_lock = asyncio.Lock()
        self.keeper = self._make_keeper()
        self._record(
            RunOpened(
                time.time(),
                self._run.run_id,
                self._manifest.target.name,
                os.getpid(),
                socket.gethostname(),
                __version__,
                tuple(sys.argv),
                self._manifest.target.budget_node_s,
            )
        )
        self._serving = asyncio.ensure_future(self._serve())
        duties = {asyncio.ensure_future(self.keeper.run()), self._serving}
        backend_of = partial(backend_for_orphans, self._manifest.target)
        others = keep_sweeping(self._manifest.runs_root, backend_of, but=self._run.run_id, tell=self._say_swept)
        sweeping = asyncio.ensure_future(others)
        telling = asyncio.ensure_future(keep_telling(self._run.path, self._why_tasks_wait))
        adopted = asyncio.ensure_future(self.keeper.has_adopted.wait())
        await asyncio.wait({adopted, *duties}, return_when=asyncio.FIRST_COMPLETED)  # or nothing would seem to be left
        adopted.cancel()
        self._up.set()
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            done, _ = await asyncio.wait({*duties, closing}, return_when=asyncio.FIRST_COMPLETED)
            for duty in done - {closing}:
                duty.result()
        finally:
            telling.cancel()
            await self._wind_up({*duties, telling}, sweeping)

    def _make_keeper(self) -> Keeper:
        run, target = self._run, self._manifest.target
        lease = Lease.take(run.path)
        ledger = Ledger()
        journal = Journal(run.journal, run.run_id, into=QuickFold(ledger, self._remember))
        self.last_number = max(map(number_of, ledger.tasks), default=0)
        self.claims = Claims(ledger)
        files = RunFiles(journal, PayloadPack(run.payloads), lease)
        return Keeper(
            files,
            Ports(
                self._transport,
                self._stores,
                lambda path: read_recorder(Path(path)),
                self._word,
                log_tail=run.log_tail,
                hit_of=self._hit_of,
            ),
            offers=[
                Offer(kind, limits.walltime_s, limits.margin_s)
                for kind, limits in ((kind, self._limits[name]) for name, kind in self._manifest.worker_types.items())
            ],
            stores=(str(run.results), str(self._manifest.cache_root)),
            ledger=ledger,
            retry_quarantined=self._retry_quarantined,
            host_rules=HostRules(exclude_for_s=target.exclude_hosts_for_s),
            awaited=self._estate.worker_types(),
        )

    def _remember(self, event: Event) -> None:
        """Take in what an earlier driver of this run had journalled of its allocations."""
        if isinstance(event, AllocationChanged):
            self._estate.note(event)

    async def _serve(self) -> None:
        """Wait for the first call that must be run, then keep a fleet for as long as the run lasts.

        Where an earlier driver left allocations, their workers wait for an address: the fleet begins at once.
        """
        if not self._estate.left():
            await self._wanted.wait()
        try:
            link = await self._linked()
        except (OSError, ScalableError) as err:
            self._begun.set()
            self._give_up(err if isinstance(err, ScalableError) else RunDirectoryError(f"Dask did not start: {err}"))
            return
        self._allocations = Allocations(link, self.keeper, self._run.scripts)
        self._supervisor = Supervisor(
            Run(
                run_id=self._run.run_id,
                demand=self.keeper.demand,
                busy=self.keeper.busy,
                record=self._record,
                on_allocation_ended=self._allocation_ended,
                on_failure=self._give_up,
                on_requeued=self.keeper.allocation_requeued,
                on_nodes_lost=self.keeper.nodes_lost,
                log_tail=self._run.log_tail,
                never_runs=never_runs_on(self._manifest.target),
                stuck=stuck_on(self._manifest.target),
                on_stand_ins=self.keeper.divert,
                unexplained=self.keeper.unexplained,
                excluded_nodes=self.keeper.excluded_hosts,
                most_jobs=self._manifest.target.most_jobs,
                budget_node_s=self._manifest.target.budget_node_s,
                spent_node_s=self._estate.spent_node_s,
                first_number=self._estate.last_number + 1,
                inherited=self._estate.left(),
            ),
            self._allocations,
            self._backend,
            self._limits,
            poll_s=self._manifest.target.poll_s,
        )
        self._begun.set()
        await self._supervisor.run()

    async def _linked(self) -> DaskLink:
        """The link to Dask, started when first asked for."""
        async with self._link_lock:
            if self._transport.link is None:
                from scalable_hpc.cluster.dask_link import DaskLink
                from scalable_hpc.cluster.opening import free_port

                target = self._manifest.target
                self._transport.link = await DaskLink.start(
                    run_dir=self._run.path,
                    run_id=self._run.run_id,
                    backend=self._backend,
                    render=self._render,
                    on_message=self._take,
                    interface=target.interface,
                    port=free_port(*target.scheduler_ports) if target.scheduler_ports else target.scheduler_port,
                )
            return self._transport.link

    def _say_swept(self, words: str) -> None:
        logger.warning("%s", words)
        self._record(FleetNote(time.time(), "swept", words))

    def _why_tasks_wait(self) -> tuple[Mapping[LaneKey, str], Mapping[str, str]]:
        return self.keeper.unplaced(), {} if self._supervisor is None else self._supervisor.held_back()

    async def _wind_up(self, duties: Collection[asyncio.Future[None]], sweeping: asyncio.Future[None]) -> None:
        """End in the order that loses nothing: the fleet, Dask, then the journal."""
        await asyncio.wait({sweeping}, timeout=_SWEEP_AT_CLOSE_S)
        sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, ScalableError, OSError):
            await sweeping
        if self._estate.left():
            serving, begun = self._serving, asyncio.ensure_future(self._begun.wait())
            await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)  # what was taken over ends too
            begun.cancel()
        if self._leaves:
            await let_finish(self._manifest.target, self.keeper, self._supervisor, self._because)
            self._serving.cancel()
            await asyncio.wait({self._serving})
        elif self._supervisor is not None:
            await self._supervisor.close(self._because, patient=self._is_patient)
        if self._transport.link is not None:
            await self._transport.link.shutdown(because=self._because, leave_allocations=self._leaves)
        if not self._leaves:
            await asyncio.to_thread(remove_secrets, self._run)
        try:
            await self.keeper.close(self._because)
        finally:
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)

    def _take(self, message: Upward) -> None:
        self.keeper.receive(message)
        if self._supervisor is not None and isinstance(message, (WorkerHello, WorkerDraining, WorkerGone)):
            self._supervisor.receive(message)

    def _record(self, event: Event) -> None:
        self.keeper.record(event)

    def _render(self, request: AllocationRequest) -> str:
        kind = request.worker_type
        write_secrets(self._run, kind, environment_of(self._manifest, self._run, kind))
        return render_script(self._manifest, self._run, request)

    async def _word(self, allocation: str) -> tuple[ExitReason | None, str]:
        if self._supervisor is None:
            return None, "the fleet has not begun"
        return await self._supervisor.word(allocation, _WORD_TIMEOUT_S)

    async def _look(self) -> tuple[Progress, tuple[AllocationView, ...], list[WorkerHello]]:
        link, fleet = self._transport.link, self._supervisor
        workers = [] if link is None else list(link.workers().values())
        progress, balance = self.keeper.progress(), None if fleet is None else fleet.balance()
        if balance is not None:
            progress = replace(progress, budget=str(balance))
        return progress, () if fleet is None else fleet.snapshot(), workers

    def _allocation_ended(self, name: str, ending: JobEnding) -> None:
        self.keeper.allocation_ended(name, ending)
        if ending.reason is ExitReason.COMPLETED and not self._manifest.target.keep_logs:
            self._run.log_of(name).unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        """Fail what is left: the fleet cannot be had."""
        if not isinstance(error, ScalableError):
            error = ScalableError(f"the fleet cannot go on: {error}")
        self._record(FleetNote(time.time(), "failed", error.message))
        self.keeper.fail_all(error)

    def _wake(self) -> None:
        self._wanted.set()
        if self._supervisor is not None:
            self._supervisor.poke()

    def _close_because(self, because: str, patient: bool, leave: bool) -> None:  # noqa: FBT001 - the loop passes no keywords
        self._because, self._is_patient, self._leaves = because, patient, leave
        self._closing.set()
