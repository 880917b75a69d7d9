"""What a batch system allows beyond its partitions: by QOS, account, queue; plain data, whichever system it is.

Rule 1: what was not said is None: nobody knows it, and it refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

QOS, ACCOUNT, QUEUE, SERVER = "QOS", "account", "queue", "server"
"""What a quota can be of."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one QOS, account, queue or server."""

    kind: str
    name: str
    partition: str | None = None
    """An account's limits may hold in one partition only."""
    walltime_s: int | None = None
    """The longest of a job."""
    running: int | None = None
    """Jobs of one user, or of all together, that may run at once."""
    queued: int | None = None
    """Jobs that there may be at all, running and waiting."""
    each: Mapping[str, int] = field(default_factory=dict)
    """What one job may have: ``cpu``, ``node``, ``gpu``, ``memory`` (bytes)."""
    together: Mapping[str, int] = field(default_factory=dict)
    """What all that run at once may have."""

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'" + (f" in partition '{self.partition}'" if self.partition else "")


@dataclass(frozen=True, slots=True)
class Quotas:
    """All that were told."""

    rows: tuple[Quota, ...] = ()
    enforced: bool = True
    """Whether the batch system heeds those of QOSes and accounts."""
    default_account: str | None = None
    default_qos: Mapping[str, str] = field(default_factory=dict)
    """Of each account."""
    allowed_qos: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each account of the user's."""
    qos_of: Mapping[str, str] = field(default_factory=dict)
    """Partition to the QOS whose limits hold in it."""
    silent: tuple[str, ...] = ()
    """Commands that gave no answer, with what they said."""
