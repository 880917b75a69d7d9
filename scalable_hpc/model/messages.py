"""What driver and workers say to each other, as data.

Downward: a Bundle of Envelopes is the one argument of the one Dask task that carries it.
Upward: workers report on the Dask event topic ``TOPIC``; each letter is ``{"kind": ..., "body": bytes}`` where
body is a pickle of one of the classes below, or of a tuple of them (in order), made and opened only by our own code
over the run's TLS link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scalable_hpc.model.tasks import AttemptId, Evidence, Locator, Receipt

TOPIC = "scalable-hpc"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One attempt on its way to a slot; the courier hands ``function`` and ``arguments`` on unopened."""

    attempt: AttemptId
    name: str
    key: str
    """Where the result is published in ``store`` (64 hex digits)."""
    store: str
    function_digest: str
    function: bytes
    arguments: bytes
    inputs: Mapping[str, Locator] = field(default_factory=dict)
    """Results that the arguments refer to, by lineage key."""
    timeout_s: float | None = None
    cpus: int = 1
    memory: int | None = None
    gpus: int = 0
    result_type: bytes | None = None
    """Cacheable calls: pickled declared return type to check before publishing; None: unchecked."""
    refresh: bool = False
    """Compute even where the key has a result, and put the new one in its place."""
    hold: bool = False
    """A large result is not to be stored, but held where it was computed."""
    rule: bytes = b""
    """Pickled: what to ask whether an exception that it raises is worth another try; empty: nothing."""
    run_store: str | None = None
    """Of a call whose key was made from its code and arguments: the run's own store, for a result that turns out not
    to be what the key says. None: the key is only a name."""
    stray: str = ""
    """Why it is known already that the result will not be what the key says."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one Dask task carries: one envelope, or several short ones that share a round trip."""

    key: str
    """The Dask key: unique, never reused."""
    envelopes: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """A bundle that a worker has in hand, and those of its attempts that it will still speak about."""

    key: str
    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """A worker is ready for attempts."""

    address: str
    name: str
    allocation: str
    job_id: str
    node: str
    pid: int
    worker_type: str
    slots: int
    cpus: int
    memory: int | None
    gpus: int
    deadline: float | None
    """When the allocation will be ended by walltime; None: not known."""
    started_at: float
    recorder: str
    """Path of this worker's flight recorder."""
    version: str
    former: tuple[str, ...] = ()
    """Addresses that this very worker had before; it has lost its driver and comes back with what it has in hand."""
    holding: tuple[Holding, ...] = ()
    """What it has in hand when it comes back; reports that nobody heard follow at once."""
    walltime_s: float | None = None
    """What its allocation was asked for; None: without end, or not known."""
    hosts: tuple[str, ...] = ()
    """The nodes that its tasks have, where there are several: without each of them it is of no use."""


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A worker asks to be given nothing new (warning signal, its own deadline, an operator)."""

    address: str
    because: str
    deadline: float | None
    alone: bool = False
    """It leaves for a reason of its own: the other workers of its allocation go on."""


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker left the Dask scheduler; said by the scheduler's side, not by the worker."""

    address: str
    at: float
    expected: bool
    because: str


@dataclass(frozen=True, slots=True)
class AttemptDone:
    """An attempt ended with a receipt."""

    receipt: Receipt
    repeated: bool = False
    """It was sent before, over a link that broke soon after: it may have been heard or not."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended without a receipt while its worker lived to tell."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class HeldGone:
    """A worker does not have results (any more) that it was asked for, or cannot store them."""

    address: str
    keys: tuple[str, ...]
    because: str


Upward = WorkerHello | WorkerDraining | WorkerGone | AttemptDone | AttemptEnded | HeldGone
