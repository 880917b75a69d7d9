"""What the doctor looked at, as plain data; None: it could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from scalable_hpc.batch.machine import MachineSeen
from scalable_hpc.batch.quota import Quotas
from scalable_hpc.config.fit import Ask


@dataclass(frozen=True, slots=True)
class CommandSeen:
    """A command of the batch system."""

    name: str
    path: str | None
    said: str = ""
    """Its version, or why it did not tell."""
    works: bool = True


@dataclass(frozen=True, slots=True)
class PackageSeen:
    """A package or module as one interpreter has it."""

    name: str
    version: str | None
    """None: it cannot be imported."""
    digest: str | None = None
    """Of the module's file, for modules of the user's."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class PlaceSeen:
    """A directory that driver and nodes share, as a node sees it."""

    label: str
    path: str
    is_visible: bool
    """What the driver had left there was seen."""
    error: str = ""
    """Why nothing can be written there; empty: it can."""
    mb_per_s: float | None = None
    """Megabytes a second, written and made durable."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """One node, as the probe on it tells."""

    host: str
    python: str
    executable: str
    packages: tuple[PackageSeen, ...] = ()
    places: tuple[PlaceSeen, ...] = ()
    cpus: int | None = None
    """That the probe may run on."""
    interfaces: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    """Container runtimes whose signs are there; a node may be a container of another kind itself."""
    to_driver: str | None = None
    """Why the driver could not be reached from there; empty: it could."""
    from_driver: str | None = None
    """Why the node could not be reached from the driver; empty: it could."""
    address: str = ""
    skew_s: float | None = None
    """How far its clock is ahead of the driver's, seconds."""
    cipher: str = ""
    """Of the connection to the driver."""


@dataclass(frozen=True, slots=True)
class ProbeSeen:
    """What became of the probe's job."""

    job_id: str = ""
    refusal: str = ""
    """The batch system's words when it would not take the job."""
    waited_s: float = 0.0
    """From submission until it was over, or until nobody waited any more."""
    state: str = ""
    because: str = ""
    """The batch system's reason while it waits, its own words when it has ended."""
    output: str = ""
    """The end of what the job printed."""
    had_no_output: bool = False
    """It ran only when its output was thrown away: the place for it cannot be written from there."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything."""

    target: str
    provider: str
    host: str
    python: str
    packages: tuple[PackageSeen, ...] = ()
    commands: tuple[CommandSeen, ...] = ()
    machine: MachineSeen | None = None
    machine_error: str = ""
    ask: Ask | None = None
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    most_allocations: int = 1
    """That the target may have at once, of all worker types."""
    quotas: Quotas | None = None
    """Beyond the limits of partitions."""
    interface: str | None = None
    interfaces: tuple[str, ...] = ()
    """Of the driver's host."""
    listening: str = ""
    """Where the driver listened for the probe."""
    listening_error: str = ""
    run_dir: str = ""
    run_dir_mode: int | None = None
    free_bytes: int | None = None
    image: str | None = None
    runtime: str | None = None
    warnings: tuple[str, ...] = ()
    probe: ProbeSeen | None = None
    """None: it was not asked for."""
    nodes: tuple[NodeSeen, ...] = ()
    wanted_nodes: int = 1
    modules: tuple[str, ...] = field(default=())
    """That the user named."""
