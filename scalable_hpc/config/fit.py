"""Whether a request fits a machine's limits, before anybody is asked; pure.

Rule 1: what a site does not say is not checked: only a published limit refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalable_hpc.model.units import format_memory, format_walltime

if TYPE_CHECKING:
    from scalable_hpc.config.site_schema import Partition

FITS = "fits"


@dataclass(frozen=True, slots=True)
class Ask:
    """One allocation, as it will be asked for; per node where nothing else is said."""

    worker_type: str
    nodes: int
    cpus: int
    memory: int | None
    gpus: int
    walltime_s: int

    def __str__(self) -> str:
        parts = [f"{self.nodes} node(s)", f"{self.cpus} cpus"]
        parts += [format_memory(self.memory)] if self.memory is not None else []
        parts += [f"{self.gpus} gpus"] if self.gpus else []
        return f"{', '.join(parts)} for {format_walltime(self.walltime_s)}"


def misfits(ask: Ask, limit: Partition) -> list[str]:
    """Return every reason why the limit refuses the request; none: it fits."""
    return list(_misfits(ask, limit))


def _misfits(ask: Ask, limit: Partition) -> Iterator[str]:
    if limit.nodes is not None and ask.nodes > limit.nodes:
        yield f"{ask.nodes} nodes are more than {limit.nodes}"
    if limit.least_nodes is not None and ask.nodes < limit.least_nodes:
        yield f"{ask.nodes} nodes are fewer than {limit.least_nodes}"
    longest = longest_walltime(limit, ask.nodes)
    if longest is not None and ask.walltime_s > longest:
        size = f" for {ask.nodes} node(s)" if limit.bins else ""
        yield f"walltime {format_walltime(ask.walltime_s)} is longer than {format_walltime(longest)}{size}"
    if limit.cpus is not None and ask.cpus > limit.cpus:
        yield f"{ask.cpus} cpus are more than a node has, {limit.cpus}"
    if limit.memory is not None and ask.memory is not None and ask.memory > limit.memory:
        yield f"{format_memory(ask.memory)} are more than a node has, {format_memory(limit.memory)}"
    if limit.gpus is not None and ask.gpus > limit.gpus:
        yield f"{ask.gpus} gpus are more than a node has, {limit.gpus}"


def longest_walltime(limit: Partition, nodes: int) -> int | None:
    """Return the longest walltime of a job of so many nodes, in seconds; None: no limit is known."""
    for step in sorted(limit.bins, key=lambda one: one.nodes):
        if nodes <= step.nodes:
            return step.walltime
    return limit.walltime


def per_limit(ask: Ask, limits: Mapping[str, Partition]) -> dict[str, list[str]]:
    """Return the reasons of each limit, by its name."""
    return {name: misfits(ask, limit) for name, limit in limits.items()}


def listed(reasons: Mapping[str, list[str]]) -> str:
    """Return the reasons of each limit as one line each."""
    return "\n".join(f"  {name}: {', '.join(why) or FITS}" for name, why in reasons.items())
