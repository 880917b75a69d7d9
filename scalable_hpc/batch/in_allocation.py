"""The nodes of the batch job that the driver itself runs in, as a batch system: allocations are steps of that job.

Each allocation is a small script that this machine's local batch system runs; the script starts launchers on the nodes
that it was given (``srun``, ``pbsdsh``). So there is a queue for nodes, an order to end, and a trace on disk by which
the next driver of the same job finds what this one left.

A job id is ``local-3@4711.0``: the local job, and the batch job and its incarnation that it is a part of.

Rule 1: nothing is asked of the batch system but how its own job stands; no job is ever submitted or cancelled.
Rule 2: what was started in another job, or in this one before it was requeued, ended with that.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.batch.slurm_values import expand_nodes
from scalable_hpc.errors import MissingCommandError, SiteError
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState

STARTERS = {"slurm": "srun", "pbs": "pbsdsh"}
"""What starts a process on another node of one's own job."""
KILL_WAIT_S = 20.0
"""From SIGTERM, which workers end by, to SIGKILL, after which only the end of the job would end a step."""


@dataclass(frozen=True, slots=True)
class OwnJob:
    """The batch job that this process is in."""

    job_id: str
    incarnation: str
    """Another one when the job was requeued and runs again under its id."""
    nodes: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """What the ids of allocations in it end in."""
        return f"@{self.job_id}.{self.incarnation}"


def own_job(system: str, environ: Mapping[str, str]) -> OwnJob | None:
    """Return the batch job that a process with this environment is in; None: it is in none.

    Args:
        system: ``slurm`` or ``pbs``.
        environ: the process's environment.
    """
    return _slurm_job(environ) if system == "slurm" else _pbs_job(environ)


def _slurm_job(environ: Mapping[str, str]) -> OwnJob | None:
    job_id = environ.get("SLURM_JOB_ID", "")
    if job_id and (array := environ.get("SLURM_ARRAY_JOB_ID")):
        job_id = f"{array}_{environ.get('SLURM_ARRAY_TASK_ID', '')}"
    nodes = expand_nodes(environ.get("SLURM_JOB_NODELIST", ""))
    return OwnJob(job_id, environ.get("SLURM_RESTART_COUNT", "0"), nodes) if job_id and nodes else None


def _pbs_job(environ: Mapping[str, str]) -> OwnJob | None:
    job_id, path = environ.get("PBS_JOBID", ""), environ.get("PBS_NODEFILE", "")
    try:
        nodes = Path(path).read_text(encoding="utf-8").split() if job_id and path else []
        written = Path(path).stat().st_mtime_ns if nodes else 0
    except OSError:
        return None
    # PBS has no count of restarts in the environment; it writes this file each time that the job begins.
    return OwnJob(job_id, f"{written:x}", tuple(dict.fromkeys(nodes))) if nodes else None


class InAllocationBackend:
    """The batch system of a target that uses the nodes of the driver's own job.

    Args:
        host: the batch system that the driver's job belongs to.
        job: that job; None: there is none, and ``check`` says so.
        spool_directory: where allocations leave their trace, a directory for each job.
        find_command: ``shutil.which`` or a stand-in.
    """

    def __init__(
        self,
        host: BatchBackend,
        job: OwnJob | None,
        spool_directory: Path,
        *,
        find_command: Callable[[str], str | None] = shutil.which,
    ) -> None:
        self.name = host.name
        self._host = host
        self._job = job
        self._find_command = find_command
        nodes = () if job is None else job.nodes
        folder = "none" if job is None else job.suffix.removeprefix("@")
        self._local = LocalBackend(
            spool_directory / folder, cpus=max(1, len(nodes)), kill_wait_s=KILL_WAIT_S, places=nodes
        )

    def check(self) -> None:
        """Raise where this process is in no batch job, or cannot start anything on its nodes.

        Raises:
            SiteError: it is in no job.
            MissingCommandError: ``srun`` or ``pbsdsh`` is not on PATH.
        """
        if self._job is None:
            variable = "SLURM_JOB_ID" if self.name == "slurm" else "PBS_JOBID"
            raise SiteError(
                f"the target says 'inside: true', but this driver is in no job of {self.name}: ${variable} is not set",
                hint="start it in a job ('scalable-hpc submit DRIVER.py' makes one), or leave 'inside' out",
            )
        starter = STARTERS[self.name]
        if self._find_command(starter) is None:
            raise MissingCommandError(
                f"'{starter}' is not on PATH: nothing can be started on the other nodes of job '{self._job.job_id}'",
                hint=f"make '{starter}' available in the job's script",
            )
        self._local.check()

    async def submit(self, script: Path) -> str:
        """Queue a script for nodes of the job; raises what ``LocalBackend.submit`` does."""
        return self._full(await self._local.submit(script))

    async def status(self, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
        """Observe allocations of this job; those of another one are what that job is.

        Raises:
            BatchSilent: the batch system does not say how the job stands.
        """
        ours = {self._bare(job_id): job_id for job_id in job_ids if self._is_ours(job_id)}
        jobs = {job_id: _job_of(job_id) for job_id in job_ids}
        own = () if self._job is None else (self._job.job_id,)
        hosts = await self._host.status(sorted({*filter(None, jobs.values()), *own}))
        seen = await self._local.status(list(ours))
        found = {full: self._with_end(seen[bare], hosts) for bare, full in ours.items()}
        for job_id, host_id in jobs.items():
            if job_id not in found:
                found[job_id] = self._of_another(job_id, hosts.get(host_id))
        return found

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End allocations of this job; those of others, and unknown ones, are no error."""
        await self._local.cancel([self._bare(job_id) for job_id in job_ids if self._is_ours(job_id)])

    async def find(self, run_id: str) -> Sequence[JobObservation]:
        """Return every allocation of a run in this job that is not over."""
        return [replace(seen, job_id=self._full(seen.job_id)) for seen in await self._local.find(run_id)]

    def _with_end(self, seen: JobObservation, hosts: Mapping[str, JobObservation]) -> JobObservation:
        """Tell of an allocation what only the batch system knows: when the job ends."""
        host = None if self._job is None else hosts.get(self._job.job_id)
        runs = seen.state is JobState.RUNNING and host is not None
        return replace(seen, job_id=self._full(seen.job_id), ends_at=host.ends_at if runs and host else None)

    def _of_another(self, job_id: str, host: JobObservation | None) -> JobObservation:
        """Tell of an allocation what became of the job that it is a part of."""
        if host is None:
            return JobObservation(job_id, JobState.UNKNOWN, "", because="this is no job id of ours")
        _, _, incarnation = job_id.rpartition(".")
        own = self._job is not None and host.job_id == self._job.job_id
        waits = host.state in (JobState.PENDING, JobState.HELD)
        is_over = own or waits or (incarnation.isdigit() and int(incarnation) < host.restarts)
        ending = host.ending
        if is_over and ending is None:
            ending = JobEnding(ExitReason.REQUEUED, f"job {host.job_id}, which it was a part of, was requeued")
        state = host.state if ending is None else JobState.ENDED
        return replace(host, job_id=job_id, name="", state=state, nodes=(), ending=ending)

    def _is_ours(self, job_id: str) -> bool:
        return self._job is not None and (job_id.endswith(self._job.suffix) or "@" not in job_id)

    def _full(self, job_id: str) -> str:
        return job_id if self._job is None else f"{job_id}{self._job.suffix}"

    def _bare(self, job_id: str) -> str:
        return job_id.partition("@")[0]


def _job_of(job_id: str) -> str:
    """Return the id of the batch job that an allocation is a part of; empty for what is no such id."""
    return job_id.partition("@")[2].rpartition(".")[0]
