"""How a stand-in PBS behaves: its nodes and queues, its modes and its troubles. Read anew whenever the file changes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Queue:
    """An execution queue; None: no limit."""

    enabled: bool = True
    started: bool = True
    max_walltime: int | None = None
    default_walltime: int | None = None
    max_ncpus: int | None = None
    max_mem_kb: int | None = None
    max_queued: int | None = None
    max_run: int | None = None
    users: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Node:
    ncpus: int = 4
    mem_kb: int = 8 * 2**20
    ngpus: int = 0


QUEUES = {
    "workq": Queue(),
    "short": Queue(max_walltime=120, default_walltime=60),
    "limited": Queue(max_ncpus=4, max_mem_kb=4 * 2**20, max_queued=4, max_run=2),
    "off": Queue(enabled=False, started=False),
    "stopped": Queue(started=False),
    "closed": Queue(users=("nobody",)),
}


@dataclass(frozen=True)
class Settings:
    server: str = "up"
    """``down``: clients are refused; jobs run on, and their ends are told when it is up again."""
    version: str = "23.06.06"
    history: bool = True
    json: str = "good"
    """``first-only`` (builds of 2024: of several ids only the first), ``release`` (23.06.06: numbers bare, bytes in
    caret notation), ``good``."""
    memory: str = "none"
    """``none`` (the default of PBS), ``enforce`` (mom's ``$enforce mem``), ``cgroup``."""
    walltime_status: int = -29
    """271 on servers before 2020-12."""
    stale_text: bool = True
    """qsub's background process repeats the words of an earlier error where the server gives none."""
    delay_s: dict[str, float] = field(default_factory=dict)
    """Command to seconds before its answer."""
    hang: tuple[str, ...] = ()
    """Commands that are never answered."""
    banner: str = ""
    """What a site's wrapper prints before qsub's answer."""
    hook_says: str = ""
    """What a queuejob hook of the site refuses every job with."""
    nodes: dict[str, Node] = field(default_factory=lambda: {"node1": Node(), "node2": Node()})
    queues: dict[str, Queue] = field(default_factory=lambda: dict(QUEUES))
    resources: tuple[str, ...] = ("model", "filesystems")
    """Custom resources, besides those that every PBS has."""
    max_queued: int | None = None
    """Per user, of the whole server."""
    scheduling: bool = True
    estimates: bool = False
    """Whether the scheduler says when it thinks that a job will start; sites that fill gaps have it so."""
    start_fails: bool = False
    """Every start is rejected by the node: after the 21st the server holds the job."""
    acl_roots: bool = True
    """Whether root may submit; not so by default."""
    node_fail_requeue_s: float = 1.0
    """310 s on a real one."""
    cycle_s: float = 0.05
    poll_s: float = 0.2
    """How often mom looks at walltime and memory: every 10 to 120 s on a real one."""
    kill_delay_s: float = 1.0
    """From SIGTERM to SIGKILL: 10 s on a real one."""
    session_after_s: float = 0.3
    """Until a started job shows its session: 2 s on a real one."""
    exiting_s: float = 0.1


def read_settings(path: Path) -> Settings:
    """Return what the file says over the defaults."""
    said = json.loads(path.read_text()) if path.exists() else {}
    if "nodes" in said:
        said["nodes"] = {name: Node(**node) for name, node in said["nodes"].items()}
    if "queues" in said:
        said["queues"] = {name: Queue(**queue) for name, queue in said["queues"].items()}
    return Settings(**said)


def write_settings(path: Path, **said: object) -> None:
    """Make the file say this and nothing else; in one step, since the server may be reading."""
    plain = {
        key: {name: asdict(one) for name, one in value.items()} if key in ("nodes", "queues") else value
        for key, value in said.items()
    }
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(plain))
    aside.rename(path)
