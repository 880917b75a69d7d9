"""A target played by this machine: its limits and its job script, its time compressed; pure.

Rule 1: what is compressed is what batch systems and sites decide: walltimes, waits, leads, and how long tasks are said
to run. What the user's code does takes as long as it takes, and its ``timeout`` is its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget, TaskDefaults
from scalable_hpc.model.resources import WorkerType

VARIABLE = "SCALABLE_HPC_REHEARSAL"
"""Environment of a driver that is being rehearsed."""
LEAST_WALLTIME_S = 15
"""Less than this is spent on starting a worker and on draining it."""
_LEAST_IDLE_S = 3.0
_POLL_S = 0.5
_MARGIN_SHARE = 1 / 10
_LEAD_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How a target is played."""

    factor: float
    """Seconds of the real machine to one of this."""
    queue_wait_s: float = 0.0
    """Of the real machine."""
    software: bool = True
    """Whether modules, environments, set-up and containers are used as they are."""
    cpus: int = 1
    """Of this machine: no worker has more slots."""


def from_text(text: str) -> Rehearsal:
    """Return what ``to_text`` wrote."""
    return Rehearsal(**json.loads(text))


def to_text(rehearsal: Rehearsal) -> str:
    """Return a rehearsal as the environment carries it."""
    return json.dumps(asdict(rehearsal))


def factor_for(walltime_s: float, wanted_s: float) -> float:
    """Return the factor that makes a walltime so long; 1 where it is no longer already."""
    return max(1.0, walltime_s / max(wanted_s, LEAST_WALLTIME_S))


def dressed(manifest: ResolvedManifest, rehearsal: Rehearsal) -> ResolvedManifest:
    """Return the manifest with its target played by this machine."""
    kinds = {name: _kind(kind, rehearsal) for name, kind in manifest.worker_types.items()}
    return replace(
        manifest,
        target=_target(manifest.target, kinds, rehearsal),
        own_targets={name: _target(own, kinds, rehearsal) for name, own in manifest.own_targets.items()},
        worker_types=kinds,
        tasks={name: _task(task, rehearsal.factor) for name, task in manifest.tasks.items()},
        factor=rehearsal.factor,
    )


def _kind(kind: WorkerType, rehearsal: Rehearsal) -> WorkerType:
    """Leave a worker its shape, for what fits where, and no more slots than this machine can run."""
    bare = kind if rehearsal.software else replace(kind, image=None, preload_script=None)
    return replace(bare, slots=min(kind.slots, max(1, rehearsal.cpus)))


def _task(task: TaskDefaults, factor: float) -> TaskDefaults:
    said_s = task.expected_runtime_s
    return task if said_s is None else replace(task, expected_runtime_s=said_s / factor)


def _target(target: ResolvedTarget, kinds: Mapping[str, WorkerType], rehearsal: Rehearsal) -> ResolvedTarget:
    factor = rehearsal.factor
    walltime_s = max(LEAST_WALLTIME_S, round(target.walltime_s / factor))
    lead_s = None if target.signal_lead_s is None else int(target.signal_lead_s / factor)
    played = replace(
        target,
        provider="local",
        plays=None if target.provider == "local" else target.provider,
        walltime_s=walltime_s,
        nodes=1,
        array=1,
        clusters=None,
        inside=False,
        budget_node_s=None if target.budget_node_s is None else target.budget_node_s / factor / target.nodes,
        fallback_after_s=max(_LEAST_IDLE_S, target.fallback_after_s / factor),
        queue_wait_s=(rehearsal.queue_wait_s or target.queue_wait_s) / factor,
        margin_s=min(target.margin_s, walltime_s * _MARGIN_SHARE),
        lead_s=min(target.lead_s, walltime_s * _LEAD_SHARE),
        idle_s=min(target.idle_s, max(_LEAST_IDLE_S, target.idle_s / factor)),
        signal_lead_s=lead_s or None,
        poll_s=min(target.poll_s, _POLL_S),
        kill_wait_s=min(target.kill_wait_s, _LEAST_IDLE_S),
        interface="lo",
        scheduler_ports=None,
        scheduler_port=0,
        node_local=None,
        commands={},
        capacity_cpus=math.ceil(
            sum(2 * most * kinds[name].cpus_in_all for name, most in target.allocations_max.items())
        ),
        capacity_memory=None,
    )
    if rehearsal.software:
        return played
    bare = replace(played, modules=(), module_paths=(), setup=(), conda=None, conda_init=None, venv=None, python=())
    return replace(bare, launch_prefix=(), use_containers=False)
