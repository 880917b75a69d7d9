"""From a resolved manifest to what the fleet planner is allowed; pure."""

from __future__ import annotations

from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget
from scalable_hpc.model.fleet import Limits
from scalable_hpc.model.resources import WorkerType


def allocation_limits(resolved: ResolvedManifest) -> dict[str, Limits]:
    """Return the planner's limits for each worker type."""
    return {name: _limits(resolved.target_of(name), kind) for name, kind in resolved.worker_types.items()}


def _limits(target: ResolvedTarget, kind: WorkerType) -> Limits:
    return Limits(
        worker_type=kind.name,
        minimum=target.allocations_min,
        maximum=target.allocations_max.get(kind.name, 1),
        nodes=target.nodes,
        slots_per_node=kind.slots,
        walltime_s=target.walltime_s,
        margin_s=target.margin_s,
        lead_s=target.lead_s,
        idle_s=target.idle_s,
        fallbacks=kind.fallbacks,
        fallback_after_s=target.fallback_after_s,
        shortens=target.shorten and not target.inside,
        array=1 if target.inside else target.array,
        is_grown=kind.grown_from is not None,
        nodes_per_worker=kind.nodes,
    )
