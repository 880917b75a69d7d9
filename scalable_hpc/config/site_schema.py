"""The shape of a site config: what a target may say too, and what is true of the machine alone; pydantic models.

Imported only when a file is read. ``schema_of_sites`` is the same as JSON Schema, for editors and other tools.

Rule 1: a fact that nobody published is left out; what is left out is not checked, and what is required is asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from scalable_hpc.config.normal import OTHER_SPELLINGS
from scalable_hpc.config.schema import Part, Settings
from scalable_hpc.config.values import (
    Count,
    Date,
    Line,
    Lines,
    Memory,
    OptionalLine,
    Pattern,
    Positive,
    Span,
    Walltime,
    nothing_is_empty,
    plain,
)


class Bin(Part):
    """The longest walltime of jobs of up to so many nodes, where it depends on the size."""

    nodes: Positive
    walltime: Walltime


class Partition(Part):
    """What a partition, queue, QOS or constraint allows one job; None: not known, not checked."""

    description: OptionalLine = None
    default: bool = False
    """It is taken where a job names none."""
    walltime: Walltime | None = None
    bins: tuple[Bin, ...] = ()
    nodes: Positive | None = None
    least_nodes: Positive | None = None
    cpus: Positive | None = None
    """Of its largest node; hardware threads, where the batch system counts them."""
    memory: Memory | None = None
    """Of its largest node."""
    gpus: Count | None = None
    """Of its largest node; 0: it has none."""
    jobs: Positive | None = None
    """What one user may have in it, running and waiting."""


class Accounts(Part):
    """What the machine wants to be charged to."""

    required: bool = False
    pattern: Pattern | None = None
    """A regular expression that the whole name must match."""
    ask: OptionalLine = None
    """Where users find theirs; shown when it is missing."""


class Detection(Part):
    """Signs of the machine: one that is there is enough."""

    hostnames: Lines = ()
    """Shell patterns for the host's name, such as ``login*.frontier.olcf.ornl.gov``."""
    env: Annotated[dict[str, Line], BeforeValidator(nothing_is_empty)] = Field(default_factory=dict)
    """Variables and shell patterns for their values."""
    files: Lines = ()


class Trusted(Part):
    """Whose presets and templates are read although they belong to somebody else."""

    users: Lines = ()
    groups: Lines = ()
    cache_group: OptionalLine = None
    """Whose results are read as one's own."""


class Source(Part):
    """Where facts were read."""

    url: Line
    read: Date
    facts: Lines = ()
    """Keys of this file, dotted; what stands below them is meant too."""


class SiteFacts(Part):
    """What is true of a machine and no business of a target."""

    batch: Annotated[Literal["local", "pbs", "slurm"] | None, BeforeValidator(plain)] = None
    description: OptionalLine = None
    partitions: Annotated[dict[str, Partition], BeforeValidator(nothing_is_empty)] = Field(default_factory=dict)
    qoses: Annotated[dict[str, Partition], BeforeValidator(nothing_is_empty)] = Field(default_factory=dict)
    constraints: Annotated[dict[str, Partition], BeforeValidator(nothing_is_empty)] = Field(default_factory=dict)
    accounts: Annotated[Accounts, BeforeValidator(nothing_is_empty)] = Accounts()
    jobs: Positive | None = None
    """What one user may have in all queues together."""
    poll_floor: Span | None = None
    """No target may ask the batch system more often than this."""
    detect: Annotated[Detection, BeforeValidator(nothing_is_empty)] = Detection()
    trust: Annotated[Trusted, BeforeValidator(nothing_is_empty)] = Trusted()
    sources: tuple[Source, ...] = ()


class Site(Settings, SiteFacts):
    """A file of ``site-configs/``."""


def schema_of_sites() -> dict[str, Any]:
    """Return the JSON Schema of a site config, as its YAML is written."""
    written = _standard(Site.model_json_schema(mode="validation"))
    for other, ours in OTHER_SPELLINGS.items():
        written["properties"][other] = written["properties"][ours]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **written,
        "title": "scalable_hpc site config",
    }


def _standard(part: Any) -> Any:
    """Return the schema with bounds in JSON Schema's words."""
    words = {"ge": "minimum", "le": "maximum"}
    if isinstance(part, dict):
        return {words.get(key, key): _standard(value) for key, value in part.items()}
    return [_standard(value) for value in part] if isinstance(part, list) else part
