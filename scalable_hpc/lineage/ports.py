"""What the keeper asks of the rest of the driver; each port is given to it by the wiring."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.messages import Bundle
from scalable_hpc.model.tasks import AttemptId, Hit, Locator

Clock = Callable[[], float]
"""Seconds since the epoch."""

AllocationWord = Callable[[str], Awaitable[tuple[ExitReason | None, str]]]
"""Asks how an allocation ended, by name: the reason (None: not known yet) and the batch system's own words."""


class Transport(Protocol):
    """The way to the workers; every verb returns at once and never raises for a worker that is gone."""

    def send(self, worker_address: str, bundles: Sequence[Bundle]) -> None:
        """Give bundles to a worker. Each attempt in them is answered: done, ended, or its worker gone."""

    def cancel_attempts(self, worker_address: str, attempts: Iterable[AttemptId]) -> None:
        """Have a worker stop attempts; it answers each as ended."""

    def persist_held(self, worker_address: str, keys: Sequence[str]) -> None:
        """Have a worker store results that it holds; it answers each with its receipt, or that they are gone."""

    def free_held(self, worker_address: str, keys: Sequence[str]) -> None:
        """Let a worker drop results that it holds."""

    def dismiss(self, worker_address: str, because: str) -> None:
        """Send a worker home at once, with what it has in hand."""

    def release(self, keys: Iterable[str]) -> None:
        """Let go of bundles; those that are unknown or over are no error."""


class ResultStore(Protocol):
    """Where durable results lie; called off the loop."""

    def lookup(self, store: str, key: str, *, fresh: bool) -> Locator | None:
        """Return a result that was published under a key; None: there is none, or none that is sound.

        Without ``fresh``, only among what was seen of the store before.
        """

    def confirm(self, store: str, key: str) -> Locator | None:
        """Read a result that seems to be damaged, and return where a sound one lies; None: there is none.

        One that was put there by this driver is put there again if its value is still at hand.

        Raises:
            ScalableError: the store cannot be read or written.
        """


class FlightRecord(Protocol):
    """What a worker's flight recorder tells."""

    @property
    def node(self) -> str:
        """The worker's node."""

    @property
    def running(self) -> Mapping[AttemptId, float]:
        """Attempts that were executing, and since when."""

    @property
    def ended(self) -> Mapping[AttemptId, str]:
        """Attempts that had ended, and how."""

    @property
    def memory(self) -> Mapping[AttemptId, int]:
        """Highest memory sample (bytes)."""

    @property
    def worker_end(self) -> str:
        """How the worker itself died, if somebody on its node lived to tell."""


Flight = Callable[[str], FlightRecord]
"""Reads a flight recorder by path, off the loop; raises a ScalableError or OSError when it cannot be read."""


LogTail = Callable[[str], str]
"""Reads the end of what an allocation's job printed, by name, off the loop; empty where there is nothing to read."""


def no_log(_: str) -> str:
    """Tell nothing of a job's output."""
    return ""


HitOf = Callable[[str, str], Hit | None]
"""Returns the call that was answered from a store whose result a task needs, by the ids of both; off the loop; None:
nobody knows it any more."""


def no_hit(_: str, __: str) -> Hit | None:
    """Know of no calls that were answered from a store."""
    return None


@dataclass(frozen=True, slots=True)
class Ports:
    """All that the keeper is connected to."""

    transport: Transport
    results: ResultStore
    flight: Flight
    allocation_word: AllocationWord
    clock: Clock = time.time
    rng: random.Random = field(default_factory=random.Random)
    """For jitter."""
    log_tail: LogTail = no_log
    hit_of: HitOf = no_hit
