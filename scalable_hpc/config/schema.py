"""The shape of ``scalable.yaml`` version 1 and of a site config, as pydantic models.

Imported only when a file is read. Scalars arrive as text (``yaml_lines.Scalar``) and get their types here.

Rule 1: a model checks one value at a time; what depends on several values is checked in ``resolve``.
Rule 2: custom errors carry a type that ``check`` turns into a code and a sentence.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal, Optional

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from scalable_hpc.config.safety import control_problem, directive_problem, option_problem, variable_problem
from scalable_hpc.model.units import parse_memory, parse_walltime

PROVIDERS = ("local", "slurm")
_LEAST_MEMORY = 2**20
"""Below a mebibyte a memory size is surely a forgotten unit."""


def _refused(problem: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{problem}", {"problem": problem})


def _number(value: Any) -> int | float | None:
    """Return the number that YAML made of an unquoted scalar, or None."""
    meaning = getattr(value, "meaning", value)
    return meaning if isinstance(meaning, (int, float)) and not isinstance(meaning, bool) else None


def _walltime(value: Any) -> int:
    number = _number(value)
    if number is not None:
        raise PydanticCustomError("walltime_number", "", {"written": str(value), "number": number})
    try:
        return parse_walltime(str(value))
    except ValueError as err:
        raise PydanticCustomError("bad_walltime", "") from err


def _duration(value: Any) -> float:
    """Seconds as a number, or a span as text; zero is a duration."""
    if ":" in str(value):
        return float(_walltime(value))
    try:
        seconds = float(str(value))
    except ValueError:
        text = str(value).strip()
        try:
            return 0.0 if text.rstrip("smhd ") == "0" else float(parse_walltime(text))
        except ValueError as err:
            raise _refused("is not a duration: write seconds, '90s', '5m' or 'HH:MM:SS'") from err
    if not 0 <= seconds < float("inf"):
        raise _refused("must be zero seconds or more")
    return seconds


def _memory(value: Any) -> int:
    try:
        size = parse_memory(str(value))
    except ValueError as err:
        raise PydanticCustomError("bad_memory", "is not a memory size: write '8G' or '500M'") from err
    if size < _LEAST_MEMORY:
        raise PydanticCustomError("bad_memory", "is less than a mebibyte: write the unit, as in '8G' or '500M'")
    return size


def _line(value: str) -> str:
    if problem := control_problem(value):
        raise _refused(problem)
    return value


def _directive(value: str) -> str:
    if problem := directive_problem(value):
        raise _refused(problem)
    return value


def _option(value: str) -> str:
    line = value.removeprefix("#SBATCH").strip()
    if problem := option_problem(line):
        raise _refused(problem)
    return line


def _module(value: str) -> str:
    if not value or value.startswith("-"):
        raise _refused("is not a module name")
    return _line(value)


def _words(value: Any) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(_line(str(value))))
    except ValueError as err:
        raise _refused(f"cannot be split into words ({err})") from err


def _host_path(value: str) -> str:
    return _mountable(value, ("/", "~/"))


def _container_path(value: str) -> str:
    return _mountable(value, ("/",))


def _mountable(value: str, starts: tuple[str, ...]) -> str:
    if not value.startswith(starts):
        raise PydanticCustomError("relative_mount", "")
    if ":" in value or "," in value:
        raise _refused("holds ':' or ',', which a bind mount cannot carry")
    return _line(value)


def _variable(value: str) -> str:
    if problem := variable_problem(value):
        raise _refused(problem)
    return value


def _empty_is_unset(value: Any) -> Any:
    return None if isinstance(value, str) and not value else value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _nothing_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _no_bool(value: Any) -> Any:
    if isinstance(getattr(value, "meaning", value), bool):
        raise _refused("must be a whole number")
    return value


Line = Annotated[str, AfterValidator(_line)]
OptionalLine = Annotated[Optional[Line], BeforeValidator(_empty_is_unset)]
OptionalDirective = Annotated[Optional[Annotated[str, AfterValidator(_directive)]], BeforeValidator(_empty_is_unset)]
Walltime = Annotated[int, BeforeValidator(_walltime)]
Duration = Annotated[float, BeforeValidator(_duration)]
Memory = Annotated[int, BeforeValidator(_memory)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Lines = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]
Environment = dict[Annotated[str, AfterValidator(_variable)], Line]
Mounts = dict[Annotated[str, AfterValidator(_host_path)], Annotated[str, AfterValidator(_container_path)]]


class Part(BaseModel):
    """A mapping of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Capacity(Part):
    """What Local may use of this machine."""

    cpus: Optional[Positive] = None
    memory: Optional[Memory] = None


class Allocations(Part):
    """How many batch jobs there may be, and their shape."""

    min: Optional[Count] = None
    max: Optional[Positive] = None
    nodes: Optional[Positive] = None
    walltime: Optional[Walltime] = None


class Commands(Part):
    """What is called instead of a batch system's command."""

    sbatch: OptionalLine = None
    squeue: OptionalLine = None
    sacct: OptionalLine = None
    scancel: OptionalLine = None
    scontrol: OptionalLine = None


class Settings(Part):
    """What a site and a target may both say; the layer above wins."""

    walltime: Optional[Walltime] = None
    allocations: Annotated[Allocations, BeforeValidator(_nothing_is_empty)] = Allocations()

    partition: OptionalDirective = None
    account: OptionalDirective = None
    qos: OptionalDirective = None
    constraint: OptionalDirective = None
    gres: OptionalDirective = None
    reservation: OptionalDirective = None
    exclusive: Optional[bool] = None
    extra_directives: Optional[tuple[Annotated[str, AfterValidator(_option)], ...]] = None

    interface: OptionalDirective = None
    scheduler_port: Optional[Annotated[int, Field(ge=0, le=65535)]] = None

    env: Annotated[Environment, BeforeValidator(_nothing_is_empty)] = {}
    modules: Optional[tuple[Annotated[str, AfterValidator(_module)], ...]] = None
    setup: Optional[Lines] = None
    python: Optional[Words] = None
    launch_prefix: Optional[Words] = None
    containers: Optional[Literal["auto", "none"]] = None
    container_runtime: OptionalLine = None
    templates: Optional[Lines] = None

    margin: Optional[Duration] = None
    lead: Optional[Duration] = None
    idle: Optional[Duration] = None
    signal_lead: Optional[Duration] = None
    orphan_grace: Optional[Duration] = None
    poll: Optional[Duration] = None
    submit_timeout: Optional[Duration] = None
    commands: Annotated[Commands, BeforeValidator(_nothing_is_empty)] = Commands()
    keep_logs: Optional[bool] = None

    capacity: Annotated[Capacity, BeforeValidator(_nothing_is_empty)] = Capacity()
    queue_wait: Optional[Duration] = None
    kill_wait: Optional[Duration] = None


class Site(Settings):
    """A file of ``site-configs/``."""

    batch: Optional[Literal["local", "slurm"]] = None


class Target(Settings):
    """One entry of ``targets``."""

    provider: Literal["local", "slurm"]
    overlay: OptionalLine = None
    site: OptionalLine = None
    work_dir: OptionalLine = None
    max_workers: Optional[Positive] = None


class Component(Part):
    """One entry of ``components``: a worker type."""

    image: OptionalLine = None
    runtime: OptionalLine = None
    cpus: Positive = 1
    memory: Optional[Memory] = None
    gpus: Count = 0
    slots: Optional[Positive] = None
    mounts: Annotated[Mounts, BeforeValidator(_nothing_is_empty)] = {}
    env: Annotated[Environment, BeforeValidator(_nothing_is_empty)] = {}
    tags: tuple[Line, ...] = ()
    preload_script: OptionalLine = None


class Retry(Part):
    """``RetryPolicy``, field by field."""

    retries: Optional[Count] = None
    base_s: Optional[Duration] = None
    factor: Optional[Annotated[float, Field(ge=1)]] = None
    cap_s: Optional[Duration] = None
    jitter: Optional[bool] = None
    max_elapsed_s: Optional[Duration] = None
    infrastructure_limit: Optional[Positive] = None


class Task(Part):
    """One entry of ``tasks``."""

    component: OptionalLine = None
    cache: Optional[bool] = None
    outputs: Any = None
    retries: Optional[Count] = None
    retry: Optional[Retry] = None
    timeout: Optional[Duration] = None
    expected_runtime: Optional[Duration] = None
    cpus: Optional[Positive] = None
    memory: Optional[Memory] = None
    gpus: Optional[Count] = None


class Project(Part):
    """Whose results these are."""

    name: OptionalLine = None
    default_storage: OptionalLine = None
    local_cache: OptionalLine = None


class Manifest(Part):
    """``scalable.yaml``; overlays are laid over it before it comes here."""

    version: Literal["1"]
    project: Annotated[Project, BeforeValidator(_nothing_is_empty)] = Project()
    targets: Annotated[dict[str, Target], BeforeValidator(_nothing_is_empty)] = {}
    components: Annotated[dict[str, Component], BeforeValidator(_nothing_is_empty)] = {}
    tasks: Annotated[dict[str, Task], BeforeValidator(_nothing_is_empty)] = {}
    overlays: Any = None
