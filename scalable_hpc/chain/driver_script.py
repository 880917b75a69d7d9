"""The job script of a link: a driver that is a batch job, with the shape that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.confidential import parted, secrets_file
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.environment import driver_environment
from scalable_hpc.model.resources import WorkerType
from scalable_hpc.runs import RunDirectory
from scalable_hpc.scripts.context import ScriptContext
from scalable_hpc.scripts.render import render_worker


@dataclass(frozen=True, slots=True)
class DriverJob:
    """One link of a driver that is a chain of batch jobs."""

    number: int
    walltime_s: int
    cpus: int
    memory: int | None
    """Bytes; None: what the batch system gives."""
    partition: str | None
    """None: the target's."""
    python: str
    directory: str
    signal_lead_s: int
    after: str | None
    """Id of the job that it follows."""


def render_driver(manifest: ResolvedManifest, run: RunDirectory, job: DriverJob) -> str:
    """Return the job script of one link.

    Raises:
        TemplateError: a template is wrong, or a value is unsafe in it.
    """
    target = manifest.target
    context = driver_context(manifest, run, job)
    return render_worker(
        context, system=target.provider, template_dirs=target.template_dirs, trust=target.trust, role="driver"
    )


def driver_context(manifest: ResolvedManifest, run: RunDirectory, job: DriverJob) -> ScriptContext:
    """Return everything that a driver's template may use: of the target, what is not about its workers' shape."""
    target, name = manifest.target, f"driver-{job.number:03d}"
    env, secret = parted(driver_environment(manifest))
    room = _room_for_workers(manifest) if target.inside else WorkerType("driver")
    memory = None if job.memory is None and room.memory is None else max(job.memory or 0, room.memory or 0)
    return ScriptContext(
        run_id=run.run_id,
        allocation=name,
        job_name=f"scalable-{name}-{run.run_id}",
        comment=f"scalable_hpc driver of {run.run_id}",
        worker_type="driver",
        nodes=_nodes_for_workers(manifest) if target.inside else 1,
        slots=1,
        cpus=max(job.cpus, room.cpus),
        memory=memory if target.ask_memory else None,
        gpus=room.gpus,
        ask_gpus=target.ask_gpus,
        constraint=target.constraint if target.inside else None,
        gres=target.gres if target.inside else None,
        exclusive=target.exclusive and target.inside,
        place=target.place if target.inside else None,
        select_extras=target.select_extras if target.inside else (),
        walltime_s=job.walltime_s,
        output=run.log_of(name),
        run_dir=run.path,
        work_dir=Path(job.directory),
        python=(job.python,),
        launcher=(),
        command=("-m", "scalable_hpc.chain", str(run.path), str(job.number)),
        after=job.after,
        env=env,
        secrets=secrets_file(run, None) if secret else None,
        module_paths=target.module_paths,
        modules=target.modules,
        conda=target.conda,
        conda_init=target.conda_init,
        venv=target.venv,
        setup=target.setup,
        partition=job.partition or target.partition,
        account=target.account,
        qos=target.qos,
        reservation=target.reservation,
        licenses=target.licenses if target.inside else None,
        clusters=target.clusters,
        project=target.project,
        resources=target.resources,
        extra_directives=target.extra_directives,
        signal_lead_s=job.signal_lead_s,
    )


def _nodes_for_workers(manifest: ResolvedManifest) -> int:
    """Return how many nodes the worker type that may have most of them may have."""
    targets = ((manifest.target_of(name), name) for name in manifest.worker_types)
    return max((target.nodes * target.allocations_max.get(name, 1) for target, name in targets), default=1)


def _room_for_workers(manifest: ResolvedManifest) -> WorkerType:
    """Return the least node that each of the worker types fits on."""
    kinds = manifest.worker_types.values()
    memories = [kind.memory for kind in kinds if kind.memory is not None]
    most = max((kind.cpus for kind in kinds), default=1), max(memories, default=None)
    return WorkerType("driver", *most, max((kind.gpus for kind in kinds), default=0))
