"""From a resolved manifest to what the fleet planner is allowed; pure."""

from __future__ import annotations

from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.model.fleet import Limits


def allocation_limits(resolved: ResolvedManifest) -> dict[str, Limits]:
    """Return the planner's limits for each worker type."""
    target = resolved.target
    return {
        name: Limits(
            worker_type=name,
            minimum=target.allocations_min,
            maximum=target.allocations_max.get(name, 1),
            nodes=target.nodes,
            slots_per_node=kind.slots,
            walltime_s=target.walltime_s,
            margin_s=target.margin_s,
            lead_s=target.lead_s,
            idle_s=target.idle_s,
        )
        for name, kind in resolved.worker_types.items()
    }
