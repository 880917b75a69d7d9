"""What tasks need and what workers offer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Needs:
    """What one task takes of a worker while it runs."""

    cpus: int = 1
    memory: int | None = None
    """Bytes; None: whatever a slot's fair share is."""
    gpus: int = 0
    worker_type: str | None = None
    """A worker type by name (the task's component); None: any that is large enough."""


@dataclass(frozen=True, slots=True)
class WorkerType:
    """A named shape of worker from the manifest (a component): what a node of an allocation offers to it."""

    name: str
    cpus: int = 1
    memory: int | None = None
    """Bytes per node; None: what the batch system gives by default."""
    gpus: int = 0
    slots: int = 1
    """How many attempts run at a time on one node, each in a process of its own."""
    image: str | None = None
    runtime: str | None = None
    mounts: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    preload_script: str | None = None
    tags: tuple[str, ...] = field(default=())
    fallbacks: tuple[str, ...] = ()
    """Worker types that do its work while it cannot be had, the first choice first."""
    grown_from: str | None = None
    """The component that this is a larger request of, for tasks that ran out of its memory; None: it is a component."""
    nodes: int = 1
    """How many nodes of an allocation each worker has; with more than one it has one slot, whose tasks have them all,
    and ``cpus``, ``memory`` and ``gpus`` are those of each node."""

    @property
    def cpus_in_all(self) -> int:
        """Of all nodes of a worker."""
        return self.cpus * self.nodes

    def fits(self, needs: Needs) -> bool:
        """Whether an idle worker of this type could run such a task at all."""
        return (
            needs.worker_type in (None, self.name)
            and needs.cpus <= self.cpus
            and needs.gpus <= self.gpus
            and (needs.memory is None or self.memory is None or needs.memory <= self.memory)
        )
