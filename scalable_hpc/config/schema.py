"""The shape of ``scalable.yaml`` version 1, as pydantic models; that of a site config is in ``site_schema``.

Imported only when a file is read.

Rule 1: a model checks one value at a time; what depends on several values is checked in ``resolve`` and ``work``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from scalable_hpc.config.values import (
    Chunk,
    Count,
    Duration,
    Environment,
    Exceptions,
    Factor,
    Hours,
    Line,
    Lines,
    Memory,
    Module,
    Mounts,
    Option,
    OptionalCluster,
    OptionalDirective,
    OptionalLine,
    OptionalName,
    OptionalPlace,
    Port,
    Ports,
    Positive,
    Resource,
    RuleName,
    Share,
    Span,
    VerdictName,
    Walltime,
    Words,
    nothing_is_empty,
    plain,
)


class Part(BaseModel):
    """A mapping of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Capacity(Part):
    """What Local may use of this machine."""

    cpus: Positive | None = None
    memory: Memory | None = None


class Allocations(Part):
    """How many batch jobs there may be, and their shape."""

    min: Count | None = None
    max: Positive | None = None
    nodes: Positive | None = None
    walltime: Walltime | None = None
    shorten: bool | None = None
    array: Positive | None = None


class Budget(Part):
    """What a run may use of the machine."""

    node_hours: Hours | None = None


class Commands(Part):
    """What is called instead of a batch system's command, with more arguments if need be."""

    sbatch: Words | None = None
    squeue: Words | None = None
    sacct: Words | None = None
    scancel: Words | None = None
    scontrol: Words | None = None
    qsub: Words | None = None
    qstat: Words | None = None
    qselect: Words | None = None
    qdel: Words | None = None


class Settings(Part):
    """What a site and a target may both say; the layer above wins."""

    walltime: Walltime | None = None
    allocations: Annotated[Allocations, BeforeValidator(nothing_is_empty)] = Allocations()

    partition: OptionalDirective = None
    account: OptionalDirective = None
    qos: OptionalDirective = None
    constraint: OptionalDirective = None
    gres: OptionalDirective = None
    reservation: OptionalDirective = None
    licenses: OptionalDirective = None
    clusters: OptionalCluster = None
    exclusive: bool | None = None
    requeue: bool | None = None
    project: OptionalDirective = None
    place: OptionalPlace = None
    select_extras: tuple[Chunk, ...] | None = None
    resources: tuple[Resource, ...] | None = None
    extra_directives: tuple[Option, ...] | None = None

    interface: OptionalDirective = None
    scheduler_port: Port | None = None
    scheduler_ports: Ports | None = None

    scratch: OptionalLine = None
    node_local: OptionalLine = None
    ask_memory: bool | None = None
    ask_gpus: bool | None = None

    env: Annotated[Environment, BeforeValidator(nothing_is_empty)] = {}
    module_paths: Lines | None = None
    modules: tuple[Module, ...] | None = None
    conda: OptionalName = None
    conda_init: OptionalLine = None
    venv: OptionalLine = None
    setup: Lines | None = None
    python: Words | None = None
    launch_prefix: Words | None = None
    mpi: OptionalDirective = None
    containers: Annotated[Literal["auto", "none"] | None, BeforeValidator(plain)] = None
    container_runtime: OptionalLine = None
    templates: Lines | None = None

    margin: Duration | None = None
    lead: Duration | None = None
    idle: Duration | None = None
    signal_lead: Duration | None = None
    orphan_grace: Duration | None = None
    exclude_hosts_for: Duration | None = None
    fallback_after: Duration | None = None
    poll: Span | None = None
    submit_timeout: Span | None = None
    commands: Annotated[Commands, BeforeValidator(nothing_is_empty)] = Commands()
    keep_logs: bool | None = None

    capacity: Annotated[Capacity, BeforeValidator(nothing_is_empty)] = Capacity()
    queue_wait: Duration | None = None
    kill_wait: Duration | None = None


class Target(Settings):
    """One entry of ``targets``."""

    provider: Annotated[Literal["local", "pbs", "slurm"], BeforeValidator(plain)]
    overlay: OptionalLine = None
    site: OptionalLine = None
    work_dir: OptionalLine = None
    inside: bool | None = None
    max_workers: Positive | None = None
    budget: Annotated[Budget, BeforeValidator(nothing_is_empty)] = Budget()


class Component(Part):
    """One entry of ``components``: a worker type."""

    image: OptionalName = None
    runtime: OptionalLine = None
    cpus: Positive = 1
    memory: Memory | None = None
    max_memory: Memory | None = None
    gpus: Count = 0
    slots: Positive | None = None
    nodes: Positive = 1
    mounts: Annotated[Mounts, BeforeValidator(nothing_is_empty)] = {}
    env: Annotated[Environment, BeforeValidator(nothing_is_empty)] = {}
    tags: tuple[Line, ...] = ()
    preload_script: OptionalLine = None
    fallback: OptionalLine = None

    allocations: Annotated[Allocations, BeforeValidator(nothing_is_empty)] = Allocations()
    walltime: Walltime | None = None
    partition: OptionalDirective = None
    account: OptionalDirective = None
    qos: OptionalDirective = None
    constraint: OptionalDirective = None
    gres: OptionalDirective = None
    reservation: OptionalDirective = None
    licenses: OptionalDirective = None


class Retry(Part):
    """``RetryPolicy``; what it has in seconds is a duration here, and may be written without the ``_s``."""

    retries: Count | None = None
    attempts: Positive | None = None
    base: Duration | None = None
    base_s: Duration | None = None
    factor: Factor | None = None
    cap: Duration | None = None
    cap_s: Duration | None = None
    jitter: bool | None = None
    max_elapsed: Duration | None = None
    max_elapsed_s: Duration | None = None
    infrastructure_limit: Positive | None = None
    transient: Exceptions | None = None
    permanent: Exceptions | None = None
    limits: dict[VerdictName, Count] | None = None
    worth_retrying: RuleName | None = None


class Task(Part):
    """One entry of ``tasks``."""

    component: OptionalLine = None
    cache: bool | None = None
    pure: bool | None = None
    persist: bool | None = None
    verify_pure: Share | None = None
    outputs: Any = None
    retries: Count | None = None
    retry: Retry | None = None
    timeout: Span | None = None
    expected_runtime: Span | None = None
    checkpoints: bool | None = None
    cpus: Positive | None = None
    memory: Memory | None = None
    gpus: Count | None = None


class Project(Part):
    """Whose results these are."""

    name: OptionalLine = None
    default_storage: OptionalLine = None
    local_cache: OptionalLine = None
    cache_durability: Annotated[Literal["fsync", "close"] | None, BeforeValidator(plain)] = None
    cache_verify: Annotated[Literal["always", "once", "never"] | None, BeforeValidator(plain)] = None
    cache_group: OptionalLine = None


class Manifest(Part):
    """``scalable.yaml``; overlays are laid over it before it comes here."""

    version: Annotated[Literal["1"], BeforeValidator(plain)]
    project: Annotated[Project, BeforeValidator(nothing_is_empty)] = Project()
    targets: Annotated[dict[str, Target], BeforeValidator(nothing_is_empty)] = {}
    components: Annotated[dict[str, Component], BeforeValidator(nothing_is_empty)] = {}
    tasks: Annotated[dict[str, Task], BeforeValidator(nothing_is_empty)] = {}
    overlays: Annotated[dict[str, Any], BeforeValidator(nothing_is_empty)] = {}
