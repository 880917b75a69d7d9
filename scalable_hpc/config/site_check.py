"""What a site config says that cannot be right, although each key of it is; and what it leaves unchecked.

Rule 1: pure; a finding names the key that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from scalable_hpc.config.check import nearest, one_of
from scalable_hpc.config.site_schema import Partition, Site
from scalable_hpc.config.yaml_lines import Section, value_at
from scalable_hpc.model.units import format_walltime

_TOLD = {
    "partitions": ("walltime", "cpus", "memory", "gpus"),
    "qoses": ("walltime",),
    "constraints": ("cpus", "memory", "gpus"),
}
"""What is worth knowing of each; the fewest and most nodes have no limit on many machines."""


def contradictions(site: Site, tree: Section) -> Iterator[tuple[str, str]]:
    """Yield the key and what is wrong there."""
    for kind in ("partitions", "qoses", "constraints"):
        rows: Mapping[str, Partition] = getattr(site, kind)
        defaults = [name for name, row in rows.items() if row.default]
        if len(defaults) > 1:
            yield kind, f"several are the default: {one_of(defaults)}"
        for name, row in rows.items():
            yield from ((f"{kind}.{name}.{key}", text) for key, text in _of_row(row))
    for key, kind in (("partition", "partitions"), ("qos", "qoses"), ("constraint", "constraints")):
        chosen, rows = getattr(site, key), getattr(site, kind)
        if chosen is not None and rows and chosen not in rows:
            yield key, f"'{chosen}' is none of the {kind}{nearest(chosen, rows)}"
    for number, source in enumerate(site.sources):
        for fact in source.facts:
            if value_at(tree, tuple(fact.split("."))) is None:
                yield f"sources.{number}", f"this file says nothing of '{fact}'"


def unknowns(site: Site) -> Iterator[str]:
    """Yield what is not known of the machine, and therefore not checked or asked."""
    if site.batch is None:
        yield "batch: any provider may use this site"
    if site.batch in ("slurm", "pbs") and not site.partitions and not site.qoses:
        yield "partitions: no request is held against limits"
    for kind in ("partitions", "qoses", "constraints"):
        rows: Mapping[str, Partition] = getattr(site, kind)
        for key in _TOLD[kind]:
            silent = [name for name, row in rows.items() if getattr(row, key) is None]
            silent = [name for name in silent if key != "walltime" or not rows[name].bins]
            if silent:
                yield f"{kind}: {key} of {', '.join(silent)}"
    signs = site.detect
    if not (signs.hostnames or signs.env or signs.files):
        yield "detect: 'scalable-hpc site detect' and 'site: auto' never find this machine"


def _of_row(row: Partition) -> Iterator[tuple[str, str]]:
    if row.nodes is not None and row.least_nodes is not None and row.least_nodes > row.nodes:
        yield "least_nodes", f"{row.least_nodes} is more than nodes, {row.nodes}"
    for one, other in pairwise(row.bins):
        if other.nodes <= one.nodes:
            yield "bins", f"they must grow: {other.nodes} nodes come after {one.nodes}"
    for one in row.bins:
        if row.nodes is not None and one.nodes > row.nodes:
            yield "bins", f"{one.nodes} nodes are more than the partition's {row.nodes}"
        if row.walltime is not None and one.walltime > row.walltime:
            yield "bins", f"{format_walltime(one.walltime)} is longer than the partition's walltime"
