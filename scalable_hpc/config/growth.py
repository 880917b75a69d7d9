"""How far a component's memory may grow when its tasks run out of it, and the larger requests that follow from that.

A grown worker type differs from its component in memory alone, and is asked for only when a task needs it.

Rule 1: pure, but for ``memory_here``. Where nobody knows how large nodes are, nothing grows: a request that cannot be
served would wait, or be refused, in the name of a task that did not ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.config.fit import Ask, misfits
from scalable_hpc.config.resolved import Growth, ResolvedManifest, ResolvedTarget
from scalable_hpc.config.sheet import Sheet
from scalable_hpc.model.resources import WorkerType
from scalable_hpc.model.units import format_memory

if TYPE_CHECKING:
    from scalable_hpc.config.schema import Manifest
    from scalable_hpc.config.site_schema import Partition, SiteFacts

FACTOR = 2
"""From one size to the next: a task that ran out of memory is given 1.5 to 2 times as much."""
NEARLY = 0.9
"""Of the largest node: the last size but one, since batch systems keep some of a node for themselves, and say less
than is published. Of this machine, the most: others use it too."""
_APART = 1.25
"""Sizes that are closer together are not worth an allocation each."""
_MIB, _GIB = 1 << 20, 1 << 30
_KINDS = {"partition": "partitions", "qos": "qoses", "constraint": "constraints"}
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def settle_growth(
    manifest: Manifest,
    kinds: Mapping[str, WorkerType],
    target: ResolvedTarget,
    own_targets: Mapping[str, ResolvedTarget],
    facts: SiteFacts,
    sheet: Sheet,
) -> dict[str, Growth]:
    """Return how far each worker type may grow; those that may not are left out.

    Args:
        manifest: the checked manifest.
        kinds: the worker types.
        target: what they run on.
        own_targets: the same, for those that say something of their own.
        facts: what the site says of its nodes.
        sheet: takes what is found.
    """
    found = {}
    for name, kind in kinds.items():
        said = manifest.components[name].max_memory if name in manifest.components else None
        where = f"components.{name}.max_memory"
        if said is not None and (kind.memory is None or target.inside):
            why = "the driver's own job has what it has" if target.inside else "the component says no memory"
            sheet.warn(where, f"'max_memory' has no effect here: {why}", "W_NO_EFFECT")
        elif said is not None and said < (kind.memory or 0):
            text = f"max_memory is {format_memory(said)}, less than the memory, {format_memory(kind.memory or 0)}"
            sheet.error(where, text, "E_BAD_VALUE")
        if kind.memory is None or target.inside:
            continue
        bounds = list(_bounds(said, kind, own_targets.get(name, target), facts))
        least = min(bounds, key=lambda bound: bound.most, default=None)
        if least is not None and least.most > kind.memory:
            found[name] = least
    return found


def _bounds(said: int | None, kind: WorkerType, target: ResolvedTarget, facts: SiteFacts) -> Iterator[Growth]:
    if said is not None:
        yield Growth(said, "its max_memory")
    if target.provider == "local":
        here = memory_here()
        if here is not None:
            yield Growth(_whole(int(NEARLY * here)), f"{NEARLY:.0%} of this machine's memory")
        if target.capacity_memory is not None:
            kept = target.allocations_min * (kind.memory or 0)
            yield Growth(target.capacity_memory - kept, "the target's capacity.memory")
        return
    ask = Ask(kind.name, target.nodes, kind.cpus, None, kind.gpus, target.walltime_s)
    for setting, mapping in _KINDS.items():
        limits: Mapping[str, Partition] = getattr(facts, mapping)
        chosen: str | None = getattr(target, setting)
        chosen = chosen or next((name for name, limit in limits.items() if limit.default), None)
        allowed = {name: limit for name, limit in limits.items() if chosen in (None, name)}
        known = {name: limit.memory for name, limit in allowed.items() if not misfits(ask, limit)}
        if known and None not in known.values():
            name, most = max(known.items(), key=lambda item: item[1] or 0)
            yield Growth(most or 0, f"the largest node of {setting} '{name}' of site '{target.site}'")


def memory_here() -> int | None:
    """Return what this machine, or the container that this is, has of memory (bytes); None: nobody can tell."""
    total = _number_in("/proc/meminfo", after="MemTotal:")
    if total is None:
        return None
    limits = (_number_in(name) for name in _CGROUP_LIMITS)
    return min([1024 * total, *(limit for limit in limits if limit is not None)])


def _number_in(path: str, after: str = "") -> int | None:
    """Return the first number of a file, behind a word if one is given; None: there is no such number (but ``max``)."""
    try:
        return int(Path(path).read_text().partition(after)[2].split()[0] if after else Path(path).read_text())
    except (OSError, ValueError, IndexError):
        return None


def rungs(memory: int, most: int) -> list[int]:
    """Return the sizes that a request may grow to, smallest first, the last as large as it may be (bytes); pure."""
    if most <= memory:
        return []
    nearly, sizes = _whole(int(NEARLY * most)), []
    size = FACTOR * memory
    while size * _APART < nearly:
        sizes.append(size)
        size *= FACTOR
    if nearly >= memory * _APART:
        sizes.append(nearly)
    return [*sizes, most]


def grown(manifest: ResolvedManifest) -> ResolvedManifest:
    """Return the manifest with the larger worker types that a run may need; pure.

    They come after the components, so that whoever may choose takes those first.
    """
    kinds, own_targets = dict(manifest.worker_types), dict(manifest.own_targets)
    for name, growth in manifest.growth.items():
        kind, target = manifest.worker_types[name], manifest.target_of(name)
        for memory in rungs(kind.memory or growth.most, growth.most):
            larger = f"{name}-{_short(memory)}"
            if larger in kinds:
                continue
            kinds[larger] = replace(kind, name=larger, memory=memory, grown_from=name, fallbacks=())
            most = {**target.allocations_max, larger: target.allocations_max.get(name, 1)}
            own_targets[larger] = replace(target, allocations_min=0, allocations_max=most)
    return replace(manifest, worker_types=kinds, own_targets=own_targets)


def _whole(memory: int) -> int:
    return memory - memory % _MIB


def _short(memory: int) -> str:
    """Return a size as a part of a name."""
    return f"{memory // _GIB}G" if memory % _GIB == 0 else f"{memory // _MIB}M"
