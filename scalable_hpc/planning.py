"""What a session would ask the batch system for: scripts, node-hours, and where every setting comes from.

Rule 1: no side effects; the plan shows the very scripts that are submitted, but for the run's name.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scalable_hpc.cache.layout import GROUP
from scalable_hpc.confidential import parted, secrets_file
from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.config.resolved import Growth, ResolvedManifest, ResolvedTarget, Setting, shortened
from scalable_hpc.fleet.walltime import shorter
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.arrays import array_name
from scalable_hpc.model.fleet import Limits
from scalable_hpc.model.resources import WorkerType
from scalable_hpc.model.units import format_memory, format_walltime
from scalable_hpc.runs import RunDirectory
from scalable_hpc.scripts.context import ScriptContext
from scalable_hpc.scripts.dressed import as_local
from scalable_hpc.scripts.render import render_worker

_PREVIEW_RUN = "RUN"
"""Stands for the run's name in a plan, which has none yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What starting a session may lead to; ``print`` it."""

    target: str
    provider: str
    limits: Mapping[str, Limits]
    """By worker type."""
    scripts: Mapping[str, str]
    """The job script of an allocation, by worker type."""
    sources: Mapping[str, str]
    """Dotted setting to the layer that set it."""
    cache_root: Path
    runs_root: Path
    manifest: Path
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Dotted setting to its value in force, its source and its layer."""
    growth: Mapping[str, Growth] = field(default_factory=dict)
    """How far worker types may grow when tasks run out of memory; those that may not are left out."""

    @property
    def node_hours(self) -> dict[str, float]:
        """The most node-hours that all allocations of a worker type can use at a time, to the end of their walltime."""
        return {name: limit.maximum * limit.nodes * limit.walltime_s / 3600 for name, limit in self.limits.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for JSON."""
        return {
            "version": 1,
            "target": self.target,
            "provider": self.provider,
            "worker_types": {
                name: {
                    "allocations": {"min": limit.minimum, "max": limit.maximum},
                    "nodes": limit.nodes,
                    "slots_per_node": limit.slots_per_node,
                    "nodes_per_worker": limit.nodes_per_worker,
                    "walltime": format_walltime(limit.walltime_s),
                    "walltime_at_least": format_walltime(min(shorter(limit), default=limit.walltime_s)),
                    "node_hours_at_most": self.node_hours[name],
                    "script": self.scripts[name],
                    "memory_grows_to": asdict(self.growth[name]) if name in self.growth else None,
                }
                for name, limit in self.limits.items()
            },
            "manifest": str(self.manifest),
            "pythonpath": user_paths(),
            "cache": str(self.cache_root),
            "runs": str(self.runs_root),
            "sources": dict(self.sources),
            "settings": {name: asdict(setting) for name, setting in self.settings.items()},
        }

    @property
    def layers(self) -> list[str]:
        """Each setting in a line: its value, and in brackets the layer and the place that set it."""
        width = max((len(name) for name in self.settings), default=0)
        return [
            f"  {name:<{width}}  {shortened(setting.value)}  [{setting.told_source}]"
            for name, setting in sorted(self.settings.items())
        ]

    def __str__(self) -> str:
        lines = [f"target {self.target!r} ({self.provider}); results in {self.cache_root}, runs in {self.runs_root}"]
        for name, limit in self.limits.items():
            lines.append(
                f"worker type {name!r}: {limit.minimum} to {limit.maximum} allocations of {limit.nodes} node(s) x"
                f" {_slots_of(limit)} for {_at_most(limit)},"
                f" at most {self.node_hours[name]:.2f} node-hours at a time"
            )
            if growth := self.growth.get(name):
                lines.append(
                    f"  a task of it that runs out of memory is given more, up to {format_memory(growth.most)} a node"
                    f" ({growth.because}); allocations that are larger come on top"
                )
        lines.append("settings, and who set them:")
        lines += self.layers
        for name, text in self.scripts.items():
            lines += [f"script of {name!r}:", *(f"  {line}" for line in text.splitlines())]
        return "\n".join(lines)


def _at_most(limit: Limits) -> str:
    """The walltime, and whether less of it may be asked for."""
    walltime, least = format_walltime(limit.walltime_s), min(shorter(limit), default=None)
    return walltime if least is None else f"{walltime} (down to {format_walltime(least)} when less is left to do)"


def _slots_of(limit: Limits) -> str:
    """Return the slots of an allocation's nodes in words."""
    each, several = limit.slots_per_node, limit.nodes_per_worker
    return f"{each} slots" if several == 1 else f"1/{several} slot"


def make_plan(manifest: ResolvedManifest) -> Plan:
    """Return the plan of a session on this manifest's target."""
    limits = allocation_limits(manifest)
    run = RunDirectory(manifest.runs_root / _PREVIEW_RUN)
    scripts = {}
    for name, limit in limits.items():
        request = _first_request(name, limit)
        scripts[name] = render_script(manifest, run, request)
    target = manifest.target
    return Plan(
        target=target.name,
        provider=target.provider,
        limits=limits,
        scripts=scripts,
        sources=manifest.sources,
        cache_root=manifest.cache_root,
        runs_root=manifest.runs_root,
        manifest=manifest.path,
        settings=manifest.settings,
        growth=manifest.growth,
    )


def _first_request(name: str, limit: Limits) -> AllocationRequest:
    """Return what is asked for first if there is work enough."""
    together = min(limit.array, limit.maximum)
    names = tuple(f"a{number:04d}" for number in range(1, together + 1)) if together > 1 else ()
    return AllocationRequest("a0001", name, limit.nodes, limit.walltime_s, "plan", array=names)


def render_script(manifest: ResolvedManifest, run: RunDirectory, request: AllocationRequest) -> str:
    """Return the job script of one allocation.

    Raises:
        TemplateError: a template is wrong, or a value is unsafe in it.
    """
    context = script_context(manifest, run, request)
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


def script_context(manifest: ResolvedManifest, run: RunDirectory, request: AllocationRequest) -> ScriptContext:
    """Return everything that a template may use."""
    target, kind = manifest.target_of(request.worker_type), manifest.worker_types[request.worker_type]
    image = kind.image if target.use_containers else None
    env, secret = parted(environment_of(manifest, run, request.worker_type))
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
        shared_dirs=(manifest.cache_root, *(Path(entry) for entry in user_paths())),
        nodes_per_worker=kind.nodes,
    )


def _signal_lead_s(target: ResolvedTarget, request: AllocationRequest) -> int | None:
    """Return when to warn; an allocation asked for so short a time would be warned as it starts."""
    lead_s = target.signal_lead_s
    return None if lead_s is None or lead_s >= request.walltime_s else lead_s


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


def environment_of(manifest: ResolvedManifest, run: RunDirectory, worker_type: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that every process of an allocation gets; the user's own come last and win."""
    ours = {
        "SCALABLE_HPC_CACHE_DIR": str(manifest.cache_root),
        "SCALABLE_HPC_CACHE_DURABILITY": manifest.cache_durability,
        "SCALABLE_HPC_CACHE_VERIFY": manifest.cache_verify,
        # nodes may not see the home directory, where the user's own lies
        "SCALABLE_HPC_STORE_KEY": str(run.store_key),
        "SCALABLE_HPC_PYTHONPATH": os.pathsep.join(user_paths()),
    }
    if manifest.cache_group is not None:
        ours[GROUP] = manifest.cache_group
    kind = manifest.worker_types[worker_type]
    return tuple({**ours, **_package_path(), **dict(manifest.target.env), **dict(kind.env)}.items())


def driver_environment(manifest: ResolvedManifest) -> tuple[tuple[str, str], ...]:
    """Return the variables that a driver gets that is a batch job."""
    return tuple({**_package_path(), **dict(manifest.target.env)}.items())


def _package_path() -> dict[str, str]:
    """Return where this very package is found, for a checkout that runs without being installed."""
    package_parent = Path(__file__).resolve().parent.parent
    if _is_installed(package_parent):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(package_parent), os.environ.get("PYTHONPATH", "")]))}


def user_paths() -> list[str]:
    """Return the directories of ``sys.path`` that are the user's own: slots must find the driver's modules too."""
    return [
        str(path)
        for path in dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path)
        if _is_visible(path) and not _is_installed(path)
    ]


def _is_visible(path: Path) -> bool:
    """Whether the path is a directory that this user may look at."""
    try:
        return path.is_dir()
    except PermissionError:
        return False


def _is_installed(path: Path) -> bool:
    """Whether a directory belongs to the interpreter or its environment, so that workers have it anyway."""
    homes = {Path(place).resolve() for place in (*sysconfig.get_paths().values(), sys.base_prefix) if place}
    return any(path == home or home in path.parents for home in homes if home != Path("/"))
