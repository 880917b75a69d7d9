"""The job script of an allocation: what the manifest, a request and this Python put into its template."""

from __future__ import annotations

import sys
from pathlib import Path

from scalable_hpc.confidential import parted, secrets_file
from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget
from scalable_hpc.environment import ImportPaths, environment_of, import_paths
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.arrays import array_name
from scalable_hpc.runs import RunDirectory
from scalable_hpc.scripts.context import ScriptContext
from scalable_hpc.scripts.dressed import as_local
from scalable_hpc.scripts.render import render_worker


def render_script(
    manifest: ResolvedManifest, run: RunDirectory, request: AllocationRequest, paths: ImportPaths | None = None
) -> str:
    """Return the job script of one allocation.

    Args:
        manifest: with its target and worker types.
        run: that it belongs to.
        request: what is asked for.
        paths: where modules are found (default: where this process finds them).

    Raises:
        TemplateError: a template is wrong, or a value is unsafe in it.
    """
    context = script_context(manifest, run, request, paths)
    target = manifest.target_of(request.worker_type)
    system = target.plays or target.provider
    text = render_worker(
        context,
        system=system,
        template_dirs=target.template_dirs,
        trust=target.trust,
        role="inside" if target.inside else "worker",
    )
    return text if target.plays is None else as_local(text, context, system)


def script_context(
    manifest: ResolvedManifest, run: RunDirectory, request: AllocationRequest, paths: ImportPaths | None = None
) -> ScriptContext:
    """Return everything that a template may use; arguments as for ``render_script``."""
    paths = paths or import_paths()
    target, kind = manifest.target_of(request.worker_type), manifest.worker_types[request.worker_type]
    image = kind.image if target.use_containers else None
    env, secret = parted(environment_of(manifest, run, request.worker_type, paths))
    name = request.array[0] if request.array else request.name
    job_name = f"scalable-{run.run_id}-{name}"
    return ScriptContext(
        run_id=run.run_id,
        allocation=name,
        array=request.array,
        job_name=array_name(job_name) if request.array else job_name,
        comment=f"scalable_hpc {run.run_id}",
        worker_type=kind.name,
        nodes=request.nodes,
        slots=kind.slots,
        cpus=kind.cpus,
        memory=kind.memory if target.ask_memory else None,
        gpus=kind.gpus,
        walltime_s=request.walltime_s,
        output=run.log_of(name),
        run_dir=run.path,
        work_dir=target.work_dir,
        python=target.python or (("python3",) if image or activates(target) else (sys.executable,)),
        launcher=launcher_arguments(manifest, run, request),
        launch_prefix=target.launch_prefix,
        env=env,
        secrets=secrets_file(run, kind.name) if secret else None,
        secret_names=tuple(name for name, _ in secret),
        node_local=target.node_local,
        ask_gpus=target.ask_gpus,
        module_paths=target.module_paths,
        modules=target.modules,
        conda=target.conda,
        conda_init=target.conda_init,
        venv=target.venv,
        mpi=target.mpi,
        setup=target.setup,
        preload_script=kind.preload_script,
        partition=target.partition,
        account=target.account,
        qos=target.qos,
        constraint=target.constraint,
        gres=target.gres,
        reservation=target.reservation,
        licenses=target.licenses,
        clusters=target.clusters,
        exclusive=target.exclusive,
        requeue=target.requeue,
        project=target.project,
        place=target.place,
        select_extras=target.select_extras,
        resources=target.resources,
        extra_directives=target.extra_directives,
        excluded_nodes=request.excluded_nodes,
        signal_lead_s=_signal_lead_s(target, request),
        ends_at=None if target.ends_at is None else int(target.ends_at),
        image=image,
        runtime=kind.runtime,
        mounts=kind.mounts,
        shared_dirs=(manifest.cache_root, *(Path(entry) for entry in paths.user)),
        nodes_per_worker=kind.nodes,
    )


def _signal_lead_s(target: ResolvedTarget, request: AllocationRequest) -> int | None:
    """Return when to warn; an allocation asked for so short a time would be warned as it starts."""
    lead_s = target.signal_lead_s
    return None if lead_s is None or lead_s >= request.walltime_s else lead_s


def activates(target: ResolvedTarget) -> bool:
    """Whether the job script activates an environment, whose interpreter then is the workers'."""
    return target.venv is not None or target.conda is not None


def launcher_arguments(manifest: ResolvedManifest, run: RunDirectory, request: AllocationRequest) -> tuple[str, ...]:
    """Return what the worker launcher is told on its command line; no secret is among it."""
    target, kind = manifest.target_of(request.worker_type), manifest.worker_types[request.worker_type]
    told = {
        "--run-dir": str(run.path),
        "--allocation": None if request.array else request.name,
        "--worker-type": kind.name,
        "--slots": kind.slots,
        "--nodes": kind.nodes if kind.nodes > 1 else None,
        "--cpus": kind.cpus,
        "--memory": kind.memory,
        "--gpus": kind.gpus or None,
        "--walltime": request.walltime_s,
        "--interface": target.interface,
        "--orphan-grace": target.orphan_grace_s,
    }
    return tuple(word for name, value in told.items() if value is not None for word in (name, str(value)))
