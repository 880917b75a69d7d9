"""What a session would ask the batch system for: scripts, node-hours, and where every setting comes from.

Rule 1: no side effects; the plan shows the very scripts that are submitted, but for the run's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.config.resolved import Growth, ResolvedManifest, Setting, shortened
from scalable_hpc.environment import import_paths
from scalable_hpc.fleet.walltime import shorter
from scalable_hpc.job_scripts import render_script
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.fleet import Limits
from scalable_hpc.model.units import format_memory, format_walltime
from scalable_hpc.runs import RunDirectory

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
            "pythonpath": list(import_paths().user),
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
