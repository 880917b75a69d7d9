"""Where the stand-in PBS puts a job's chunks: which nodes have room for them, as its place statement wants it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tests.standins.pbs_job import Job, Place
from tests.standins.pbs_qsub import chunks_of, kilobytes_of
from tests.standins.pbs_settings import Node


def most_of_a_node(job: Job, nodes: Mapping[str, Node]) -> list[tuple[str, int, int]]:
    """What the largest chunk asks for, and what the largest node has; a chunk is never split."""
    chunks = [_asked(chunk) for _, chunk in chunks_of(job.asked.resources)]
    has = [(node.ncpus, node.mem_kb, node.ngpus) for node in nodes.values()]
    return [
        (name, max(chunk[at] for chunk in chunks), max(node[at] for node in has))
        for at, name in enumerate(("ncpus", "mem", "ngpus"))
    ]


def place(job: Job, jobs: Collection[Job], nodes: Mapping[str, Node]) -> list[Place] | None:
    """Where a job's chunks fit now, beside those of jobs that hold nodes; None: nowhere."""
    statement = job.asked.resources.get("place", "free" if "select" in job.asked.resources else "pack")
    scatters, packs = "scatter" in statement, "pack" in statement
    free = _free(nodes, [one for one in jobs if one.state in "RES" and one.places], alone="excl" in statement)
    found: list[Place] = []
    for count, chunk in chunks_of(job.asked.resources):
        asked = _asked(chunk)
        for _ in range(count):
            used = {spot.node for spot in found}
            fits = [
                name
                for name, left in free.items()
                if all(one >= other for one, other in zip(left, asked, strict=True))
                and not (scatters and name in used)
                and not (packs and used and name not in used)
            ]
            if not fits:
                return None
            free[fits[0]] = [one - other for one, other in zip(free[fits[0]], asked, strict=True)]
            found.append(Place(fits[0], *asked))
    return found


def _free(nodes: Mapping[str, Node], busy: list[Job], *, alone: bool) -> dict[str, list[int]]:
    """What each node has left; those that somebody has to himself, or that are not empty for one who wants so, none."""
    free = {name: [node.ncpus, node.mem_kb, node.ngpus] for name, node in nodes.items()}
    for one in busy:
        for spot in one.places:
            if spot.node in free:
                taken = (spot.ncpus, spot.mem_kb, spot.ngpus)
                free[spot.node] = [left - used for left, used in zip(free[spot.node], taken, strict=True)]
        if alone or "excl" in one.asked.resources.get("place", ""):
            for name in one.nodes:
                free.pop(name, None)
    return free


def _asked(chunk: Mapping[str, str]) -> tuple[int, int, int]:
    return int(chunk["ncpus"]), kilobytes_of(chunk.get("mem", "0")) or 0, int(chunk.get("ngpus", 0))
