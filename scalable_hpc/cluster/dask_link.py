"""The face of Dask for the rest of the driver: allocations out, bundles out, messages in.

What becomes of an attempt that was sent, whatever happens:

- its worker reports it (``AttemptDone``, ``AttemptEnded``): handed on as it came;
- its worker leaves: one ``WorkerGone``, and the keys it carried are released at once, so that Dask runs nothing
  elsewhere. The keeper placed these attempts and ends them; there is no ``AttemptEnded`` for each;
- it was sent to a worker that had left already: ``AttemptEnded(NEVER_STARTED)``;
- its carrier failed in Dask (not importable, not readable over there): ``AttemptEnded(REFUSED)`` with the exception;
- its carrier ended without a word about it: ``AttemptEnded(REFUSED)``, after a moment for late words;
- driver and scheduler lost each other: ``AttemptEnded(WORKER_LOST)``; then the topics are subscribed again.

A message may still come after any of these; the keeper takes the first receipt and ignores the rest.

Rule 1: everything here runs on the engine's loop; ``on_message`` is called there, one message at a time, in order.
Rule 2: Dask runs a key once, on the worker it was sent to, or never.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.cluster import announcement, unaccounted
from scalable_hpc.cluster.carriers import Carrier, CarrierBook
from scalable_hpc.cluster.cluster import ScalableCluster
from scalable_hpc.cluster.dask_settings import in_force
from scalable_hpc.cluster.departures import added_worker, removed_worker
from scalable_hpc.cluster.job import Render, ScalableJob
from scalable_hpc.cluster.mailbox import Mailbox
from scalable_hpc.cluster.patience import Patience
from scalable_hpc.cluster.quiet_import import Client
from scalable_hpc.cluster.security import TlsFiles, create_tls_files
from scalable_hpc.cluster.verbs import CourierVerbs, courier_verbs
from scalable_hpc.cluster.worker_book import WorkerBook
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Bundle, Upward, WorkerDraining, WorkerHello
from scalable_hpc.model.tasks import AttemptId, Evidence

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
        """Put running parts together; use ``start``."""
        self._cluster = cluster
        self._client = client
        self._on_message = on_message
        self._run_dir = run_dir
        self._backend = backend
        self._tls = tls
        self._verbs = verbs
        self._patience = patience
        self._mailbox = Mailbox(client, self._take, self._take_scheduler_event, patience)
        self._carriers = CarrierBook()
        self._workers = WorkerBook()
        self._job_ids: dict[str, str] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()

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
            OSError: the run directory cannot be written, or the address cannot be listened on.
        """
        if interface is None and host is None and backend.name == "local":
            host = _LOOPBACK
        async with AsyncExitStack() as resources:
            resources.enter_context(in_force())
            files = await asyncio.to_thread(create_tls_files, run_dir, run_id) if tls else None
            if files:
                resources.callback(files.remove)
            security = files.security() if files else None
            where = {"interface": interface, "host": host, "port": port}
            cluster = ScalableCluster(
                backend=backend,
                render=render,
                scripts_dir=run_dir / "scripts",
                security=security,
                scheduler_options=where,
            )
            resources.push_async_callback(_close_cluster, cluster)
            await cluster
            client = await Client(cluster.scheduler_address, security=security, asynchronous=True, set_as_default=False)
            resources.push_async_callback(client.close)
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
            await link._mailbox.open()
            resources.callback(link._mailbox.close)
            await asyncio.to_thread(announcement.announce, run_dir, run_id, link.address, files)
            link._send_on_errand(link._mailbox.keep_open(link._catch_up))
            link._resources = resources.pop_all()
        return link

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

    # Allocations

    async def open(self, request: AllocationRequest) -> str:
        """Submit an allocation and return its job id; when that fails, nothing of it stays here.

        Raises:
            SubmissionError: refused for good.
            SubmissionDeferred: not now.
            BatchSilent: no answer; the job may exist all the same, look for it by the run's id.
            ValueError: the name was used before.
        """
        try:
            job = await self._cluster.open_job(request)
        except asyncio.CancelledError:
            self._send_on_errand(self._cluster.close_jobs([request.name]))
            raise
        if job.submit_error is not None:
            await self._cluster.close_jobs([request.name])
            raise job.submit_error
        job_id = str(job.job_id)
        self._job_ids[request.name] = job_id
        return job_id

    async def close(self, name: str, because: str) -> None:
        """Make an allocation's workers leave, then cancel its batch job.

        Never raises for a batch system that doesn't answer: whoever observes that the job still runs calls this
        again, and it is cancelled again.
        """
        await self._retire(self._workers.of_allocation(name), because)
        if name in self._cluster.open_jobs():
            await self._cluster.close_jobs([name])
        elif name in self._job_ids:
            await self._cancel_jobs([self._job_ids[name]])

    async def drain(self, name: str, because: str) -> None:
        """Ask an allocation's workers to begin nothing new; they answer with ``WorkerDraining``."""
        await self._call(self._verbs.drain, because, self._workers.of_allocation(name))

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

    async def _cancel_jobs(self, job_ids: Sequence[str]) -> bool:
        try:
            await self._backend.cancel(job_ids)
        except Exception as error:  # noqa: BLE001  (a backend's failure must not stop what else is being closed)
            logger.warning("Could not cancel batch jobs %s: %s", ", ".join(job_ids), error)
            return False
        return True

    # Attempts

    def send(self, worker_address: str, bundles: Sequence[Bundle]) -> None:
        """Give bundles to one worker; returns at once. Each bundle's key must be new."""
        if not bundles:
            return
        if worker_address not in self._workers:
            asyncio.get_running_loop().call_soon(self._report_unsent, worker_address, bundles)
            return
        try:
            futures = self._client.map(
                self._verbs.run_bundle,
                bundles,
                key=[bundle.key for bundle in bundles],
                workers=[worker_address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
        except OSError:  # the client is closed: it lost the scheduler for good
            asyncio.get_running_loop().call_soon(self._report_unsent, worker_address, bundles)
            return
        for bundle, future in zip(bundles, futures):
            self._send_on_errand(self._see_through(self._carriers.add(bundle, worker_address, future), future))

    def cancel_attempts(self, worker_address: str, attempts: Iterable[AttemptId]) -> None:
        """Have a worker stop attempts; returns at once. It answers each with ``AttemptEnded(CANCELLED)``."""
        self._send_on_errand(self._call(self._verbs.cancel_attempts, tuple(attempts), [worker_address]))

    def release(self, keys: Iterable[str]) -> None:
        """Let go of bundles by key; what their unreported attempts do no longer matters to the caller."""
        self._carriers.drop_all(keys)

    async def _see_through(self, carrier: Carrier, future: Any) -> None:
        """Wait for the end of a carrier in Dask and account for what nobody reported."""
        error = await future.exception()
        if carrier.key not in self._carriers:
            return
        if future.status == "finished" and carrier.unreported:
            await asyncio.sleep(self._patience.late_words_s)
        left = self._carriers.drop(carrier.key)
        if left is None:
            return
        for attempt in sorted(left.unreported, key=str):
            self._deliver(AttemptEnded(_evidence(attempt, carrier.address, future.status, error)))

    def _report_unsent(self, address: str, bundles: Sequence[Bundle]) -> None:
        for bundle in bundles:
            for envelope in bundle.envelopes:
                self._deliver(AttemptEnded(unaccounted.never_sent(envelope.attempt, address, time.time())))

    # Messages

    def _take(self, message: Upward) -> None:
        match message:
            case WorkerHello():
                self._workers.said_hello(message)
            case WorkerDraining():
                self._workers.is_draining(message)
            case AttemptDone(receipt=receipt):
                self._carriers.reported(receipt.attempt)
            case AttemptEnded(evidence=evidence):
                self._carriers.reported(evidence.attempt)
            case _:
                pass
        self._deliver(message)

    def _take_scheduler_event(self, event: Mapping[str, Any], at: float) -> None:
        address = added_worker(event)
        if address is not None:
            self._workers.registered(address)
        elif removed_worker(event) is not None:
            self._lose(event, at)

    def _lose(self, event: Mapping[str, Any], at: float) -> None:
        """Strike a worker out: release what it carried before anybody else can run it, then tell."""
        self._carriers.drop_all(self._carriers.keys_at(event["worker"]))
        self._deliver(self._workers.gone(event, at))

    def _catch_up(self) -> None:
        """After a gap in what we heard: workers that left meanwhile are gone now."""
        for address in self._workers.missing_from(self._cluster.scheduler_info["workers"]):
            self._lose({"worker": address, "stimulus_id": "unheard"}, time.time())

    def _deliver(self, message: Upward) -> None:
        try:
            self._on_message(message)
        except Exception:
            logger.exception("A message could not be handled: %s", type(message).__name__)

    # Errands and the end

    async def _call(self, verb: Callable[..., Any], argument: Any, addresses: list[str]) -> None:
        """Run a courier's verb on workers; those that don't answer are noticed by other means."""
        if not addresses:
            return
        try:
            answer = self._client.run(verb, argument, workers=addresses)
            await asyncio.wait_for(answer, self._patience.call_s)
        except Exception as error:  # noqa: BLE001  (whatever the other side raised)
            logger.warning("%s did not do %r: %s", ", ".join(addresses), verb.__name__, error)

    def _send_on_errand(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errand_done)

    def _errand_done(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("An errand of the Dask link failed", exc_info=task.exception())

    async def shutdown(self, *, because: str = "the session ended", leave_allocations: bool = False) -> None:
        """End it all: workers, batch jobs, scheduler, keys, announcement. A second call does nothing.

        With ``leave_allocations`` the batch jobs go on and their workers wait for the run's next driver: they are
        not told to close, and the announcement stays, although nobody answers there for the time being.
        """
        resources, self._resources = self._resources, AsyncExitStack()
        if leave_allocations:
            self._cluster.hang_up_on_workers()
        else:
            await asyncio.to_thread(announcement.withdraw, self._run_dir)
            await self._retire(list(self._workers.hellos()), because)
        await self._let_go_of_jobs(cancel=not leave_allocations)
        for errand in list(self._errands):
            errand.cancel()
        await resources.aclose()

    async def _let_go_of_jobs(self, *, cancel: bool) -> None:
        """Cancel all batch jobs with one command, or none; the cluster then has nothing left to cancel."""
        jobs: list[ScalableJob] = [job for job in self._cluster.open_jobs().values() if job.job_id is not None]
        if cancel and jobs:
            await self._cancel_jobs([str(job.job_id) for job in jobs])
        for job in jobs:
            job.is_left_behind = True


async def _close_cluster(cluster: ScalableCluster) -> None:
    await cluster.close()


def _evidence(attempt: AttemptId, address: str, status: str, error: BaseException | None) -> Evidence:
    now = time.time()
    if status == "error" and error is not None:
        return unaccounted.carrier_failed(attempt, address, now, error)
    if status == "finished":
        return unaccounted.carrier_silent(attempt, address, now)
    return unaccounted.link_lost(attempt, address, now)
