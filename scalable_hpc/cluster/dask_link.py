"""The face of Dask for the rest of the driver: allocations out, bundles out, messages in.

What becomes of an attempt that was sent is said at the top of ``dispatch``.

Rule 1: everything here runs on the engine's loop; ``on_message`` is called there, one message at a time, in order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.cluster import announcement
from scalable_hpc.cluster.cluster import ScalableCluster
from scalable_hpc.cluster.dask_settings import in_force
from scalable_hpc.cluster.departures import added_worker, removed_worker
from scalable_hpc.cluster.dispatch import Dispatch
from scalable_hpc.cluster.errands import Errands
from scalable_hpc.cluster.job import Render
from scalable_hpc.cluster.mailbox import Mailbox
from scalable_hpc.cluster.opening import close_part, connect, start_listening, writing_in
from scalable_hpc.cluster.patience import Patience
from scalable_hpc.cluster.quiet_import import Client
from scalable_hpc.cluster.security import TlsFiles, create_tls_files
from scalable_hpc.cluster.verbs import CourierVerbs, courier_verbs
from scalable_hpc.cluster.worker_book import WorkerBook
from scalable_hpc.errors import SubmissionDeferred
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Bundle, Upward, WorkerDraining, WorkerHello
from scalable_hpc.model.tasks import AttemptId

logger = logging.getLogger(__name__)

OnMessage = Callable[[Upward], None]

_LOOPBACK = "127.0.0.1"


class DaskLink:
    """One scheduler, the allocations that feed it, and the messages between driver and workers."""

    def __init__(
        self,
        cluster: ScalableCluster,
        client: Client,
        on_message: OnMessage,
        *,
        run_dir: Path,
        backend: BatchBackend,
        tls: TlsFiles | None,
        verbs: CourierVerbs,
        patience: Patience,
    ) -> None:
        """Put running parts together; ``start`` makes them."""
        self._cluster = cluster
        self._on_message = on_message
        self._run_dir = run_dir
        self._backend = backend
        self._tls = tls
        self._patience = patience
        self._mailbox = Mailbox(client, self._take, self._take_scheduler_event, patience)
        self._errands = Errands()
        self._dispatch = Dispatch(client, verbs, patience, self._errands, self._deliver)
        self._workers = WorkerBook()
        self._job_ids: dict[str, str] = {}
        self._resources = AsyncExitStack()
        self._keys = ExitStack()
        """What removes them."""
        self._is_over = False

    @classmethod
    async def start(
        cls,
        *,
        run_dir: Path,
        run_id: str,
        backend: BatchBackend,
        render: Render,
        on_message: OnMessage,
        interface: str | None = None,
        host: str | None = None,
        port: int = 0,
        tls: bool = True,
        verbs: CourierVerbs | None = None,
        patience: Patience | None = None,
    ) -> DaskLink:
        """Start a scheduler in this process, listen to it, and announce it in the run directory.

        With neither ``interface`` nor ``host`` it listens on all interfaces, or on loopback alone for a local target.

        Raises:
            RunDirectoryError: the run directory cannot be written.
            SiteError: interface, host or port cannot be listened on.
        """
        if interface is None and host is None and backend.name == "local":
            host = _LOOPBACK
        async with AsyncExitStack() as resources:
            resources.enter_context(in_force())
            with writing_in(run_dir):
                files = await asyncio.to_thread(create_tls_files, run_dir, run_id) if tls else None
            keys = resources.enter_context(ExitStack())
            if files:
                keys.callback(files.remove)
            cluster = ScalableCluster(
                backend=backend,
                render=render,
                scripts_dir=run_dir / "scripts",
                security=files.security() if files else None,
                scheduler_options={"interface": interface, "host": host, "port": port},
            )
            resources.push_async_callback(close_part, cluster)
            await start_listening(cluster, interface or host, port)
            client = await connect(cluster, files)
            resources.push_async_callback(close_part, client)
            link = cls(
                cluster,
                client,
                on_message,
                run_dir=run_dir,
                backend=backend,
                tls=files,
                verbs=verbs or courier_verbs(),
                patience=patience or Patience(),
            )
            await link._begin(run_id, resources)
            link._keys = keys
            link._resources = resources.pop_all()
        return link

    async def _begin(self, run_id: str, resources: AsyncExitStack) -> None:
        """Listen first, then let workers know where to come."""
        await self._mailbox.open()
        resources.callback(self._mailbox.close)
        resources.push_async_callback(self._errands.call_off)
        self._errands.send(self._mailbox.keep_open(self._compare))
        with writing_in(self._run_dir):
            await asyncio.to_thread(announcement.announce, self._run_dir, run_id, self.address, self._tls)

    @property
    def address(self) -> str:
        """Where the scheduler listens: ``tls://host:port``."""
        return str(self._cluster.scheduler_address)

    def workers(self) -> dict[str, WorkerHello]:
        """Return the workers that are registered and said hello, by address."""
        return self._workers.hellos()

    def plain_client(self, **options: Any) -> Client:
        """Return a ``distributed.Client`` of its own to this scheduler, for whoever wants plain Dask.

        It is synchronous and not the process's default; call this outside the engine's loop, and close it yourself.
        """
        security = self._tls.security() if self._tls else None
        return Client(self.address, security=security, **{"set_as_default": False, **options})

    async def open(self, request: AllocationRequest) -> str:
        """Submit an allocation and return its job id; when that fails, nothing of it stays here.

        Raises:
            SubmissionError: refused for good.
            SubmissionDeferred: not now.
            BatchSilent: no answer; the job may exist all the same, look for it by the run's id.
            RunDirectoryError: the script cannot be written.
            ValueError: the name was used before.
        """
        return (await self.open_array([request]))[0]

    async def open_array(self, requests: Sequence[AllocationRequest]) -> tuple[str, ...]:
        """Submit several allocations as one array of jobs, and return their job ids; as ``open``, for all of them."""
        names = [request.name for request in requests]
        try:
            jobs = await self._cluster.open_together(requests)
        except (asyncio.CancelledError, SubmissionDeferred):
            self._errands.send(self._cluster.close_jobs(names))
            raise
        if jobs[0].submit_error is not None:
            await self._cluster.close_jobs(names)
            raise jobs[0].submit_error
        ids = {job.request.name: str(job.job_id) for job in jobs}
        self._job_ids.update(ids)
        return tuple(ids.values())

    async def close(self, name: str, because: str) -> None:
        """Make an allocation's workers leave, then cancel its batch job.

        Never raises for a batch system that does not answer: whoever observes that the job still runs calls this
        again, and it is cancelled again.
        """
        await self._retire(self._workers.of_allocation(name), because)
        if name in self._cluster.open_jobs():
            await self._cluster.close_jobs([name])
        elif name in self._job_ids:
            await self._cancel_jobs([self._job_ids[name]])

    async def drain(self, name: str, because: str) -> None:
        """Ask an allocation's workers to begin nothing new; they answer with ``WorkerDraining``."""
        await self._dispatch.drain(self._workers.of_allocation(name), because)

    async def _retire(self, addresses: Collection[str], because: str) -> None:
        """Send workers home and wait (bounded) until they are gone."""
        if not addresses:
            return
        self._workers.close_asked(addresses, because)
        self._cluster.ask_workers_to_close(addresses)
        try:
            await asyncio.wait_for(self._workers.all_left(addresses), self._patience.retire_s)
        except asyncio.TimeoutError:
            logger.info("Workers %s did not leave in time; their batch jobs are cancelled", ", ".join(addresses))
        else:
            await asyncio.sleep(self._patience.goodbye_s)

    async def _cancel_jobs(self, job_ids: Sequence[str]) -> None:
        try:
            await self._backend.cancel(job_ids)
        except Exception as error:  # noqa: BLE001  (a backend's failure must not stop what else is being closed)
            logger.warning("Could not cancel batch jobs %s: %s", ", ".join(job_ids), error)

    def send(self, worker_address: str, bundles: Sequence[Bundle]) -> None:
        """Give bundles to one worker; returns at once. Each bundle's key must be new."""
        if worker_address not in self._workers:
            self._dispatch.report_unsent(worker_address, bundles)
        elif bundles:
            self._dispatch.send(worker_address, bundles)

    def persist_held(self, worker_address: str, keys: Sequence[str]) -> None:
        """Have a worker store results that it holds; it answers with receipts, or ``HeldGone``."""
        self._dispatch.persist_held(worker_address, keys)

    def free_held(self, worker_address: str, keys: Sequence[str]) -> None:
        """Let a worker drop results that it holds."""
        self._dispatch.free_held(worker_address, keys)

    def cancel_attempts(self, worker_address: str, attempts: Iterable[AttemptId]) -> None:
        """Have a worker stop attempts; returns at once. It answers each with ``AttemptEnded(CANCELLED)``."""
        self._dispatch.cancel_attempts(worker_address, attempts)

    def dismiss(self, worker_address: str, because: str) -> None:
        """Make one worker leave, with what it has in hand; returns at once."""
        if worker_address in self._workers:
            self._errands.send(self._retire([worker_address], because))

    def release(self, keys: Iterable[str]) -> None:
        """Let go of bundles by key; what their unreported attempts do no longer matters to the caller."""
        self._dispatch.release(keys)

    def _take(self, message: Upward) -> None:
        if isinstance(message, WorkerHello):
            self._workers.said_hello(message)
        elif isinstance(message, WorkerDraining):
            self._workers.is_draining(message)
        elif isinstance(message, (AttemptDone, AttemptEnded)):
            self._dispatch.reported(message)
        self._deliver(message)

    def _take_scheduler_event(self, event: Mapping[str, Any], at: float) -> None:
        address = added_worker(event)
        if address is not None:
            self._workers.registered(address)
        elif removed_worker(event) is not None:
            self._lose(event, at)

    def _lose(self, event: Mapping[str, Any], at: float) -> None:
        if event["worker"] in self._workers:
            self._dispatch.lose_worker(event["worker"])
            self._deliver(self._workers.gone(event, at))

    def _compare(self) -> None:
        """Notice workers whose departure was lost in a gap of the link."""
        for address in self._workers.missing_from(self._cluster.worker_addresses()):
            self._lose({"worker": address, "stimulus_id": "unheard"}, time.time())

    def _deliver(self, message: Upward) -> None:
        try:
            self._on_message(message)
        except Exception:
            logger.exception("A message could not be handled: %s", type(message).__name__)

    async def shutdown(self, *, because: str = "the session ended", leave_allocations: bool = False) -> None:
        """End it all: workers, batch jobs, scheduler, keys, announcement. A second call does nothing.

        With ``leave_allocations`` the batch jobs go on and their workers wait for the run's next driver: they are
        not told to close, and announcement and keys stay, although nobody answers there for the time being.
        """
        if self._is_over:
            return
        self._is_over = True
        if leave_allocations:
            self._keys.pop_all()
            await self._cluster.leave()
        else:
            await asyncio.to_thread(announcement.withdraw, self._run_dir)
            await self._retire(list(self._workers.hellos()), because)
            await self._give_jobs_back()
        await self._resources.aclose()

    async def _give_jobs_back(self) -> None:
        """Cancel all batch jobs with one command; the cluster then has nothing left to cancel."""
        jobs = [job for job in self._cluster.open_jobs().values() if job.job_id is not None]
        if jobs:
            await self._cancel_jobs([str(job.job_id) for job in jobs])
        for job in jobs:
            job.is_left_behind = True
