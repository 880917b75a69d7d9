"""From a target to the batch system that serves it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from scalable_hpc.batch import pbs_text, slurm_text
from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.batch.in_allocation import InAllocationBackend, OwnJob, own_job
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.batch.pbs import PbsBackend, PbsCommands
from scalable_hpc.batch.slurm import SlurmBackend, SlurmCommands
from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget
from scalable_hpc.config.settings import NOT_SET
from scalable_hpc.errors import BatchSilent, MissingCommandError, RunDirectoryError, SiteError
from scalable_hpc.model.allocations import JobObservation
from scalable_hpc.runs import RunDirectory


def make_backend(target: ResolvedTarget, run: RunDirectory) -> BatchBackend:
    """Return what gives a run on this target its allocations: a batch system, or the job that the driver is in."""
    host = batch_system(target, run)
    return InAllocationBackend(host, own_job(target.provider, os.environ), run.spool) if target.inside else host


def fit_to_own_job(manifest: ResolvedManifest, run: RunDirectory) -> ResolvedManifest:
    """Return the manifest with the bounds of the job that the driver is in, where the target uses its nodes.

    Raises:
        SiteError: the driver is in no job, or in one of too few nodes.
    """
    target = manifest.target
    if not target.inside:
        return manifest
    make_backend(target, run).check()
    job = own_job(target.provider, os.environ)
    assert job is not None, "which check() has seen to"
    began_at, ends_at = _life_of(job.job_id, batch_system(target, run))
    length_s = None if began_at is None or ends_at is None else round(ends_at - began_at)
    is_said = manifest.sources.get("target.allocations.max", "default") != "default"

    def fitted(one: ResolvedTarget) -> ResolvedTarget:
        most = _most_in(job, one.nodes)
        each = {name: min(number, most) if is_said else most for name, number in one.allocations_max.items()}
        return replace(one, walltime_s=length_s or one.walltime_s, allocations_max=each, ends_at=ends_at)

    own = {name: fitted(one) for name, one in manifest.own_targets.items()}
    return replace(manifest, target=fitted(target), own_targets=own)


def _most_in(job: OwnJob, nodes: int) -> int:
    """Return how many allocations of so many nodes a job has room for."""
    if len(job.nodes) < nodes:
        raise SiteError(
            f"allocations.nodes is {nodes}, but job {job.job_id!r}, which this driver is in, has"
            f" {len(job.nodes)} node(s)",
            hint="ask for more nodes in the script of the job, or set allocations.nodes lower",
        )
    return len(job.nodes) // nodes


def _life_of(job_id: str, host: BatchBackend) -> tuple[float | None, float | None]:
    """Return when a running job began and will end; None: the batch system does not say."""
    try:
        with ThreadPoolExecutor(1) as thread:  # its own loop: the script may have one that runs
            seen = thread.submit(asyncio.run, _status_of(job_id, host)).result()
    except BatchSilent:
        return None, None
    return seen.started_at, seen.ends_at


async def _status_of(job_id: str, host: BatchBackend) -> JobObservation:
    return (await host.status([job_id]))[job_id]


def batch_system(target: ResolvedTarget, run: RunDirectory) -> BatchBackend:
    """Return the target's batch system, for one run."""
    if target.provider == "local":
        return LocalBackend(
            run.spool,
            cpus=target.capacity_cpus,
            memory=target.capacity_memory,
            kill_wait_s=target.kill_wait_s,
            queue_wait_s=target.queue_wait_s,
        )
    if target.provider == "pbs":
        return PbsBackend(_pbs_commands(target), endings=run.endings)
    return SlurmBackend(_slurm_commands(target))


def never_runs_on(target: ResolvedTarget) -> Callable[[str], str | None]:
    """Return what says why a job that waits for a reason will never run; for the target's batch system."""
    return {"pbs": pbs_text.never_runs, "slurm": slurm_text.never_runs}.get(target.provider, lambda _: None)


def stuck_on(target: ResolvedTarget) -> Callable[[str], str | None]:
    """Return what says why a job waits for something else than its turn; for the target's batch system."""
    return {"pbs": pbs_text.stuck, "slurm": slurm_text.stuck}.get(target.provider, lambda _: None)


def backend_for_orphans(target: ResolvedTarget, provider: str, run: RunDirectory) -> BatchBackend | None:
    """Return the batch system that an earlier run used, where this machine has it.

    A Local run's spool says by itself what is in it; of Slurm or PBS there is one on a machine, so this target's will
    do, or the commands' usual names; which of a site's clusters it was, the run's plan says.
    """
    if provider == "local":
        return LocalBackend(run.spool)
    cluster = _cluster_of(run)
    usual: dict[str, Callable[[], BatchBackend]] = {
        "slurm": lambda: SlurmBackend(_of_cluster(SlurmCommands(), cluster)),
        "pbs": lambda: PbsBackend(endings=run.endings),
    }
    if provider not in usual:
        return None
    own = replace(target, clusters=cluster)
    backend = make_backend(own, run) if target.provider == provider else usual[provider]()
    return backend if _is_here(backend) else None


def _slurm_commands(target: ResolvedTarget) -> SlurmCommands:
    known = replace(SlurmCommands(), submit_timeout_s=target.submit_timeout_s)
    return _of_cluster(replace(known, **_renamed(target)), target.clusters)


def _of_cluster(commands: SlurmCommands, name: str | None) -> SlurmCommands:
    return commands if name is None else commands.of_cluster(name)


def _cluster_of(run: RunDirectory) -> str | None:
    """Return which cluster of its site the jobs of a run are of; None: its plan names none."""
    try:
        told = run.read_plan().get("settings", {}).get("target.clusters", {}).get("value", NOT_SET)
    except (RunDirectoryError, AttributeError):
        return None
    return None if told == NOT_SET else str(told)


def _pbs_commands(target: ResolvedTarget) -> PbsCommands:
    known = replace(PbsCommands(), submit_timeout_s=target.submit_timeout_s)
    return replace(known, **_renamed(target))


def _renamed(target: ResolvedTarget) -> dict[str, Any]:
    """Return what is called in place of the batch commands; the manifest has no names but the provider's."""
    names = {name: words[0] for name, words in target.commands.items()}
    return {**names, **{f"{name}_args": words[1:] for name, words in target.commands.items()}}


def _is_here(backend: BatchBackend) -> bool:
    try:
        backend.check()
    except (MissingCommandError, SiteError):
        return False
    return True
