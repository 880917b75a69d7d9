"""What a manifest, its site and its target come to: frozen, complete, nothing left to look up.

Rule 1: no YAML, no pydantic, no environment: other rooms import this freely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.config.issues import ValidationIssue
from scalable_hpc.config.trust import Trust
from scalable_hpc.model.resources import Needs, WorkerType
from scalable_hpc.model.tasks import RetryPolicy

EVERY_TASK = "*"
"""The entry of ``tasks`` for every name."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force, and who said so."""

    value: str
    """In one line."""
    source: str
    """``scalable.yaml:12``, ``override``, ``default``."""
    layer: str
    """``builtin``, ``admin``, ``user``, ``project``, ``command line``, ``environment`` or ``default``."""

    @property
    def told_source(self) -> str:
        """The layer, and the place in it where there is one."""
        return (
            self.layer
            if self.source in (self.layer, "override")
            else f"{self.layer}: {self.source.removeprefix('built-in ')}"
        )


def shortened(text: str, most: int = 80) -> str:
    """Return the text, cut where it is longer than a reader of a table wants."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """One way to run, every setting decided; seconds and bytes throughout."""

    name: str
    provider: str
    """``local``, ``pbs`` or ``slurm``: the batch backend and the template folder."""
    site: str
    work_dir: Path
    """Where tasks start; absolute."""
    walltime_s: int = 3600
    """Of one allocation."""
    nodes: int = 1
    """Of one allocation."""
    allocations_min: int = 0
    allocations_max: Mapping[str, int] = field(default_factory=dict)
    """Per worker type."""
    shorten: bool = True
    """Whether an allocation is asked for less than the walltime where less is left to do."""
    array: int = 1
    """Allocations that one submission may ask for, as an array of jobs."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    reservation: str | None = None
    licenses: str | None = None
    clusters: str | None = None
    """Slurm: the one cluster of the site that jobs go to and are asked of; None: that of the commands."""
    exclusive: bool = False
    requeue: bool = False
    """Whether the batch system may run a job again under its id, when it has lost or preempted it."""
    extra_directives: tuple[str, ...] = ()
    """Whole options, such as ``--mail-type=END``."""

    interface: str | None = None
    """Network interface of scheduler and workers; None: found by the host's name."""
    scheduler_port: int = 0
    """Of the driver's scheduler; 0: any free one."""

    env: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    """Shell code, run on the node before the worker starts."""
    python: tuple[str, ...] = ()
    """Command of the workers' interpreter; empty: the driver's own (in a container, ``python3``)."""
    launch_prefix: tuple[str, ...] = ()
    """Words put before the worker's command (``numactl --interleave=all``)."""
    use_containers: bool = True
    """Whether a component's image is used."""
    template_dirs: tuple[Path, ...] = ()
    """Searched, in this order, before the built-in templates."""

    margin_s: float = 5.0
    lead_s: float = 120.0
    idle_s: float = 15.0
    signal_lead_s: int | None = None
    """How long before its end an allocation is sent a warning signal; None: no signal, workers know their deadline."""
    orphan_grace_s: float = 60.0
    exclude_hosts_for_s: float = 3600.0
    """How long new allocations keep away from a host that does harm; 0: they never do."""
    poll_s: float = 15.0
    submit_timeout_s: float = 60.0
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a batch command to the words that are called instead: another name or path, then more arguments."""
    keep_logs: bool = False

    project: str | None = None
    """PBS: ``-P``."""
    place: str | None = None
    """PBS: how nodes are chosen and shared; None: as PBS does, and ``scatter`` of several nodes."""
    select_extras: tuple[str, ...] = ()
    """PBS: more resources of each node, ``name=value``."""
    resources: tuple[str, ...] = ()
    """PBS: resources of the whole job, ``name=value``."""

    capacity_cpus: int = 1
    """Local only: what allocations may use of this machine together."""
    capacity_memory: int | None = None
    """Local only; None: not counted."""
    queue_wait_s: float = 0.0
    """Local only: how long an allocation is kept waiting before it starts."""
    kill_wait_s: float = 5.0
    """Local only: how long after SIGTERM comes SIGKILL, at the end of the walltime."""

    scheduler_ports: tuple[int, int] | None = None
    """First and last port that the driver's scheduler may take; None: ``scheduler_port``."""
    node_local: str | None = None
    """Directory on each node for what need not outlive a job."""
    ask_memory: bool = True
    """Whether the job asks for memory; False where the batch system refuses that."""
    ask_gpus: bool = True
    """Whether the job asks for gpus; False where each node comes with its own."""
    module_paths: tuple[str, ...] = ()
    conda: str | None = None
    """Name or path of a conda environment."""
    conda_init: str | None = None
    """Shell script that defines ``conda``; None: it is there already."""
    venv: Path | None = None
    """Virtual environment (venv, uv) that is activated."""
    mpi: str | None = None
    """Which MPI plugin ``srun`` gives to what tasks launch."""
    trust: Trust = field(default_factory=Trust)
    """Whose templates are read."""
    fallback_after_s: float = 300.0
    """How long a worker type may be kept waiting, by a reason that only others can remove, before its fallback."""
    most_jobs: int | None = None
    """What the site takes of one user, waiting and running, in all queues together; None: no limit is known."""
    budget_node_s: float | None = None
    """Node-seconds that a run may use; None: as many as it needs."""
    inside: bool = False
    """Allocations are steps of the batch job that the driver itself is in; none is asked for."""
    plays: str | None = None
    """In a rehearsal: the batch system that Local stands for, whose job scripts it runs."""
    ends_at: float | None = None
    """When that job ends (seconds since the epoch), as far as it was known when the driver began."""


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What the manifest says of a task name; None: not said."""

    name: str
    needs: Needs = field(default_factory=Needs)
    """With the task's component as ``worker_type``."""
    policy: RetryPolicy | None = None
    timeout_s: float | None = None
    expected_runtime_s: float | None = None
    cache: bool | None = None
    """True: results go to the shared cache even of functions that are not ``@cacheable``; False: never."""
    pure: bool = True
    """False: the first result counts, and is never taken from or put into the shared cache."""
    verify_pure: float = 0.0
    """Share of the calls that are computed once more, to be compared."""
    persist: bool = True
    """False: a large result stays in the memory of the node that computed it."""
    checkpoints: bool | None = None
    """Its functions save their state and raise ``Checkpointed`` in time."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How far the memory of a worker type may grow when its tasks run out of it."""

    most: int
    """Bytes per node."""
    because: str
    """What sets the bound."""


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """Everything a session needs to know before it starts."""

    path: Path
    base_dir: Path
    """The manifest's directory; relative paths in it start here."""
    project_name: str
    target: ResolvedTarget
    worker_types: Mapping[str, WorkerType]
    tasks: Mapping[str, TaskDefaults]
    cache_root: Path
    runs_root: Path
    sources: Mapping[str, str]
    """Dotted setting to who set it: ``target.walltime`` to ``scalable.yaml:12`` or ``default``."""
    warnings: tuple[ValidationIssue, ...] = ()
    cache_durability: str = "fsync"
    """What a result waits for: ``fsync`` or ``close``."""
    cache_verify: str = "once"
    """How often a large result is verified: ``always``, ``once`` a process, or ``never``."""
    cache_group: str | None = None
    """A group, by name or number, whose members' results are taken for the user's own."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Dotted setting to its value in force, its source and its layer."""
    own_targets: Mapping[str, ResolvedTarget] = field(default_factory=dict)
    """The target as it is for a worker type that has settings of its own."""
    growth: Mapping[str, Growth] = field(default_factory=dict)
    """Of the worker types that may be asked for with more memory than they say."""

    factor: float = 1.0
    """In a rehearsal: seconds of the real machine to one of this."""

    def target_of(self, worker_type: str) -> ResolvedTarget:
        """Return the target with what a worker type says otherwise."""
        return self.own_targets.get(worker_type, self.target)
