"""The set of open allocations, as a dask-jobqueue cluster that only does what it is told.

SpecCluster likes to resubmit what it believes lost and to hard-kill what it believes superfluous, under names it
uses again. The fleet supervisor decides all that, so those paths are closed here.

Rule 1: an allocation is opened by ``open_job`` and closed by ``close_jobs``; never ``scale`` up, never ``adapt``.
Rule 2: a name is used once in a cluster's life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.cluster.arrays import SharedSubmissions
from scalable_hpc.cluster.dask_settings import CONFIG_NAME
from scalable_hpc.cluster.job import Render, ScalableJob
from scalable_hpc.cluster.quiet_import import Cluster, JobQueueCluster
from scalable_hpc.cluster.scheduler import PatientScheduler
from scalable_hpc.errors import BatchSilent, SubmissionDeferred
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.arrays import member_id

_PREVIEW = AllocationRequest(name="preview", worker_type="", nodes=1, walltime_s=1, because="never submitted")
"""dask-jobqueue builds one Job that it never starts, to see that its arguments are sound."""

_SHUT_DOOR_S = 0.2
"""For a connection to our own scheduler once it does not listen: it is refused at once, and Dask would try a minute."""


class ScalableCluster(JobQueueCluster):  # type: ignore[misc]
    """A scheduler in this process and the batch jobs whose workers it expects."""

    job_cls = ScalableJob
    config_name = CONFIG_NAME

    def __init__(
        self,
        *,
        backend: BatchBackend,
        render: Render,
        scripts_dir: Path,
        security: Any = None,
        scheduler_options: dict[str, Any] | None = None,
    ) -> None:
        self._backend = backend
        self._arrays = SharedSubmissions()
        self._job_parts = {"backend": backend, "render": render, "scripts_dir": scripts_dir, "arrays": self._arrays}
        self._names: set[str] = set()
        self._passes: set[asyncio.Future[None]] = set()
        super().__init__(
            asynchronous=True,
            security=security,
            scheduler_cls=PatientScheduler,
            scheduler_options=scheduler_options or {},
            request=_PREVIEW,
            **self._job_parts,
        )
        # Dask's exit hook would close us from a thread that is not ours, with the engine's loop gone.
        self.shutdown_on_close = False

    async def open_job(self, request: AllocationRequest) -> ScalableJob:
        """Submit one allocation and return its Job, whose ``submit_error`` says whether that went wrong.

        Raises:
            ValueError: the name was used before.
            SubmissionDeferred: it was closed in the meantime.
        """
        return (await self.open_together([request]))[0]

    async def open_together(self, requests: Sequence[AllocationRequest]) -> list[ScalableJob]:
        """Submit one allocation, or several as one array, and return their Jobs.

        Raises:
            ValueError: a name was used before.
            SubmissionDeferred: one was closed in the meantime; close the others.
        """
        for request in requests:
            if request.name in self._names:
                raise ValueError(f"allocation names are never used twice: {request.name!r}")
            self._names.add(request.name)
            options = {"request": request, **self._job_parts}
            self.worker_spec[request.name] = {"cls": ScalableJob, "options": options}
        await self._settle()
        self._arrays.forget(requests[0].array)
        found: dict[str, ScalableJob | None] = {request.name: self.workers.get(request.name) for request in requests}
        jobs = [job for name, job in found.items() if job is not None and name in self.worker_spec]
        if len(jobs) < len(requests):
            closed = [name for name in found if name not in self.worker_spec]
            await self._cancel_members(closed, [job.job_id for job in jobs if job.job_id is not None])
            raise SubmissionDeferred(f"allocation {closed[0]!r} was closed while it was being opened")
        return jobs

    async def _cancel_members(self, names: Collection[str], siblings: Sequence[str]) -> None:
        """Cancel what was submitted in an array with others although it had been closed, and so is no Job here."""
        if siblings:
            with suppress(BatchSilent):
                await self._backend.cancel([member_id(siblings[0], name) for name in names])

    async def close_jobs(self, names: Collection[str]) -> None:
        """Forget allocations and cancel their batch jobs; names that are not open are no error."""
        if any(name in self.worker_spec for name in names):
            for name in names:
                self.worker_spec.pop(name, None)
            await self._settle()

    async def _settle(self) -> None:
        """Submit and cancel until what is open is what is wanted.

        Callers share one pass of Dask's, so a caller that is cancelled must not take it down: a submission under way
        would be forgotten, and made again by the next pass.
        """
        passing = asyncio.ensure_future(self._one_pass())
        self._passes.add(passing)
        passing.add_done_callback(self._passes.discard)
        await asyncio.shield(passing)

    async def _one_pass(self) -> None:
        await self

    def open_jobs(self) -> dict[str, ScalableJob]:
        """Return what is open now, by allocation name."""
        return dict(self.workers)

    def scale(self, n: int = 0, memory: Any = None, cores: Any = None, jobs: int = 0) -> Any:
        """Close everything (Dask calls this with 0 when a cluster ends); anything else is refused."""
        if n or memory or cores or jobs:
            self._refuse("scale")
        return super(JobQueueCluster, self).scale(0)

    def adapt(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: the fleet supervisor is the only one who opens and closes allocations."""
        self._refuse("adapt")

    def _refuse(self, verb: str) -> NoReturn:
        raise TypeError(f"a ScalableCluster has no {verb!r}: its size is the fleet supervisor's business")

    def _update_worker_status(self, op: str, msg: Any) -> None:
        """Keep Dask's list of workers, and skip SpecCluster's own idea of what follows when one is lost."""
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001  (the grandparent's, on purpose)

    def worker_addresses(self) -> set[str]:
        """Return the workers that are in the scheduler at this moment."""
        return set(self.scheduler.workers)

    def ask_workers_to_close(self, addresses: Collection[str]) -> None:
        """Send workers home; they say what they have to say, then leave the scheduler.

        Dask's ``retire_workers`` would first move what they hold in memory, and give up when there is nowhere to move
        it to. Nothing of ours lives there.
        """
        for address in addresses:
            self.scheduler.close_worker(address)

    async def leave(self) -> None:
        """Break the connections to all workers, as a dying driver would, and forget the batch jobs, which go on.

        A closing scheduler would tell its workers to close. It listens no more before that, or they would be back at
        once. Whatever Dask has to say to it after this must not wait for a door that is shut: ``close`` finds no job to
        ask about.
        """
        for listener in self.scheduler.listeners:
            listener.stop()
        for comm in list(self.scheduler.stream_comms.values()):
            comm.abort()
        self.scheduler_comm.timeout = _SHUT_DOOR_S
        async with self._lock:  # after a submission that is under way, and before any other
            for job in self.open_jobs().values():
                job.is_left_behind = True
                await job.close()
            self.worker_spec.clear()
            self.workers.clear()
