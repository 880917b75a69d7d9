"""What a batch system says of the machine that it runs, whichever system it is; plain data.

Rule 1: what was not said is None: nobody knows it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A partition, queue or QOS."""

    name: str
    is_default: bool = False
    walltime_s: int | None = None
    nodes: int | None = None
    least_nodes: int | None = None
    cpus: int | None = None
    """Of its largest node."""
    memory: int | None = None
    """Of its largest node, bytes."""
    gpus: int | None = None
    """Of its largest node."""
    jobs: int | None = None
    """That one user may have in it."""
    features: tuple[str, ...] = ()
    closed: str | None = None
    """Why nobody can use it, or only some; None: it is open."""


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """A whole machine."""

    batch: str
    name: str
    version: str
    partitions: tuple[QueueSeen, ...] = ()
    qoses: tuple[QueueSeen, ...] = ()
    accounts: tuple[str, ...] = ()
    """Those that the asking user may charge."""
    jobs: int | None = None
    """That one user may have at all."""
    silent: tuple[str, ...] = ()
    """Commands that gave no answer, with what they said."""
