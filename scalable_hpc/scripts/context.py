"""Everything that a job-script template may use, decided beforehand; pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scalable_hpc.scripts.containers import Box, container_words, has_own_tmp, is_tmp, outermost

_SOURCE_AND_RUN = '. "$0" && exec "$@"'
"""For ``bash -c``: reads the script named first, then becomes the command that follows."""


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """One allocation, as its job script needs to know it."""

    run_id: str
    allocation: str
    job_name: str
    comment: str
    worker_type: str
    nodes: int
    slots: int
    """Of each worker."""
    cpus: int
    """Per node."""
    memory: int | None
    """Bytes per node; None: what the batch system gives."""
    gpus: int
    """Per node."""
    walltime_s: int
    output: Path
    """Where the job's own output goes; absolute."""
    run_dir: Path
    work_dir: Path
    python: tuple[str, ...]
    """Command of the interpreter: where there is an image, the container's."""
    launcher: tuple[str, ...]
    """Arguments of ``python -m <module>``."""
    launch_prefix: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secrets: Path | None = None
    """Shell script that sets the variables that must not stand in a job script; None: there are none."""
    secret_names: tuple[str, ...] = ()
    """Of the variables that it sets."""
    node_local: str | None = None
    """Directory on each node that becomes ``TMPDIR``."""
    ask_gpus: bool = True
    """Whether the batch system is asked for gpus at all."""
    module_paths: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    conda: str | None = None
    """Name or path of a conda environment that is activated."""
    conda_init: str | None = None
    """Shell script that defines ``conda``."""
    venv: Path | None = None
    """Virtual environment that is activated."""
    mpi: str | None = None
    """Which MPI plugin ``srun`` gives to what tasks launch."""
    setup: tuple[str, ...] = ()
    """Shell code of the user's or the site's, taken as it stands."""
    preload_script: str | None = None
    """A shell script that is read before the worker starts; in a container, by the container's shell."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    reservation: str | None = None
    licenses: str | None = None
    clusters: str | None = None
    exclusive: bool = False
    requeue: bool = False
    """Whether the batch system may run the job again under its id."""
    extra_directives: tuple[str, ...] = ()
    excluded_nodes: tuple[str, ...] = ()
    signal_lead_s: int | None = None
    """How long before the end the job gets SIGUSR1; None: not at all."""

    array: tuple[str, ...] = ()
    """The allocations that one submission of this script asks for; empty: ``allocation`` alone."""

    project: str | None = None
    place: str | None = None
    select_extras: tuple[str, ...] = ()
    """More resources of each node, ``name=value``, where the batch system speaks of chunks."""
    resources: tuple[str, ...] = ()
    """Resources of the whole job, ``name=value``."""

    command: tuple[str, ...] = ()
    """What the job runs instead of a worker's launcher: arguments of the interpreter."""
    after: str | None = None
    """Id of the job that must have ended, in whatever way, before this one begins."""

    ends_at: int | None = None
    """When the driver's own job ends (seconds since the epoch), where workers run in that."""

    image: str | None = None
    runtime: str | None = None
    mounts: tuple[tuple[str, str], ...] = ()
    """Host path to container path."""
    shared_dirs: tuple[Path, ...] = ()
    """Directories that a container must see under the same path, besides ``run_dir`` and ``work_dir``."""
    module: str = "scalable_hpc.worker"
    """What Python runs, with ``launcher`` as its arguments."""
    nodes_per_worker: int = 1
    """More than one: a worker runs on the first of its nodes, and its tasks launch what runs on them."""

    def variables(self) -> dict[str, Any]:
        """Return what a template sees: every field, and the commands made of them."""
        known = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **known,
            "worker": self.worker,
            "wants_gpus": self.wants_gpus,
            "activate": self.activate,
            "placement": self.placement,
            "workers": self.workers,
        }

    @property
    def workers(self) -> int:
        """How many workers the allocation has."""
        return max(1, self.nodes // self.nodes_per_worker)

    @property
    def wants_gpus(self) -> bool:
        """Whether gpus must be asked for beside ``gres``."""
        said = (self.gres or "", *(extra.partition("=")[0] for extra in self.select_extras))
        return self.ask_gpus and self.gpus > 0 and not any("gpu" in one for one in said)

    @property
    def activate(self) -> Path | None:
        """The script that activates ``venv``."""
        return None if self.venv is None else self.venv / "bin" / "activate"

    @property
    def placement(self) -> str | None:
        """How the nodes are chosen and shared, in PBS's words; None: as PBS likes."""
        place = self.place or ("scatter" if self.nodes > 1 else "")
        if self.exclusive and "excl" not in place:
            arrangement, *grouping = place.split(":group=")
            place = ":".join(filter(None, [arrangement, "excl", *(f"group={name}" for name in grouping)]))
        return place or None

    @property
    def worker(self) -> tuple[str, ...]:
        """The words that become the worker's launcher, container and all."""
        if self.command:
            return (*self.python, *self.command)
        command = (*self.python, "-m", self.module, *self.launcher)
        if self.image is None:
            return (*self.launch_prefix, *command)
        if self.preload_script is not None:
            command = ("bash", "-c", _SOURCE_AND_RUN, self.preload_script, *command)
        return (*self.launch_prefix, *self.container, *command)

    @property
    def container(self) -> tuple[str, ...]:
        """The words that run a command in the image; empty without one."""
        if self.image is None:
            return ()
        box = Box(
            self.image, self.work_dir, self._binds(), self.gpus, (*(name for name, _ in self.env), *self.secret_names)
        )
        return container_words(self.runtime or "apptainer", box)

    def _binds(self) -> tuple[tuple[str, str], ...]:
        """Return the mounts, then each shared directory that no other one contains."""
        local = () if self.node_local is None else (Path(self.node_local),)
        own_tmp = has_own_tmp(self.runtime or "apptainer")
        shared = (self.run_dir, self.work_dir, *self.shared_dirs)
        there = outermost([*shared, *(one for one in local if own_tmp or not is_tmp(one))])
        return (*self.mounts, *((str(one), str(one)) for one in there))
