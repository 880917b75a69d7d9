"""What a pretended cluster is to be like, and every name, address and path that follows from it.

Rule 1: two settings with different instances share no path, port, subnet, interface or node name.
Rule 2: nothing here touches the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

Mode = Literal["auto", "netns", "host", "container"]
MemoryLimit = Literal["auto", "cgroup", "poll", "none"]

# Unix sockets live below the root: ROOT/nodes/r99node001/spool/r99node001_1234567.4294967291 fits in 107 bytes.
LONGEST_ROOT = 50

# Of docker-compose.slurm.yml: accounting is .9, the controller .10.
CONTAINER_SUBNET = "172.31.250"

# One /24 per instance and node addresses from .11 on.
MOST_NODES = 240

PORTS_PER_INSTANCE = 300


class RigError(Exception):
    """The rig did not do what was asked; the message ends with the last lines of the log concerned."""


class SlurmUnavailable(RigError):
    """Slurm cannot be had on this machine; the message is the reason to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One pretended cluster. Times are in seconds."""

    instance: int = 0
    nodes: int = 4
    cpus: int = 4
    memory_mb: int = 4000
    mode: Mode = "auto"
    accounting: bool = True
    memory_limit: MemoryLimit = "auto"
    """``cgroup``: a true OUT_OF_MEMORY; ``poll``: slurmd looks once a second and kills (FAILED, 0:9)."""
    kill_wait: int = 5
    slurmd_timeout: int = 6
    message_timeout: int = 5
    """A node that falls silent is DOWN after about three of these."""
    credential_life: int = 10
    """A requeued job waits for this and one second more. Slurm accepts no less than 5."""
    extra_conf: str = ""
    """Lines for the end of slurm.conf."""
    directory: str = ""
    """Where everything is kept; empty: ``/tmp/shpc-slurm<instance>``."""

    def __post_init__(self) -> None:
        if not 0 <= self.instance <= 99:
            raise RigError(f"instance must be 0..99: {self.instance}")
        if not 1 <= self.nodes <= MOST_NODES:
            raise RigError(f"nodes must be 1..{MOST_NODES}: {self.nodes}")
        if not self.root.is_absolute() or len(str(self.root)) > LONGEST_ROOT:
            raise RigError(f"the rig's directory must be absolute and at most {LONGEST_ROOT} characters: {self.root}")

    @property
    def root(self) -> Path:
        return Path(self.directory or f"/tmp/shpc-slurm{self.instance}")

    @property
    def slurm_conf(self) -> Path:
        return self.root / "etc/slurm.conf"

    @property
    def cluster(self) -> str:
        return f"shpc{self.instance}"

    @property
    def node_names(self) -> tuple[str, ...]:
        """They carry the instance, because the kernel's cgroup directories are named after nodes."""
        prefix = "node" if self.instance == 0 else f"r{self.instance}node"
        width = max(2, len(str(self.nodes)))
        return tuple(f"{prefix}{number:0{width}d}" for number in range(1, self.nodes + 1))

    @property
    def has_own_addresses(self) -> bool:
        """Whether each node has an address of its own."""
        return self.mode in ("netns", "container")

    @property
    def subnet(self) -> str:
        return CONTAINER_SUBNET if self.mode == "container" else f"10.201.{self.instance}"

    @property
    def interface(self) -> str:
        """The interface that leads to the cluster: named alike on the head and on every node."""
        if self.mode == "container":
            return "eth0"
        return f"slurm{self.instance}" if self.mode == "netns" else "lo"

    @property
    def head_address(self) -> str:
        if self.mode == "container":
            return f"{self.subnet}.10"
        return f"{self.subnet}.1" if self.mode == "netns" else "127.0.0.1"

    @property
    def database_address(self) -> str:
        """Where slurmdbd listens."""
        return f"{self.subnet}.9" if self.mode == "container" else self.head_address

    def address(self, node: str) -> str:
        """The IPv4 address of a node."""
        return f"{self.subnet}.{11 + self.index(node)}" if self.has_own_addresses else self.head_address

    def index(self, node: str) -> int:
        """The node's place in ``node_names``.

        Raises:
            RigError: there is no such node.
        """
        try:
            return self.node_names.index(node)
        except ValueError:
            raise RigError(f"no such node: {node!r} (there are {', '.join(self.node_names)})") from None

    @property
    def controller_port(self) -> int:
        return 17000 + self.instance * PORTS_PER_INSTANCE

    @property
    def database_port(self) -> int:
        return self.controller_port + 1

    def node_port(self, node: str) -> int:
        """Where the node's slurmd listens: own addresses need no own ports."""
        return self.controller_port + 10 + (0 if self.has_own_addresses else self.index(node))

    @property
    def environment(self) -> dict[str, str]:
        """All that a shell or a test needs to speak with the cluster."""
        return {
            "SLURM_CONF": str(self.slurm_conf),
            "SCALABLE_HPC_RIG_ROOT": str(self.root),
            "SCALABLE_HPC_RIG_INSTANCE": str(self.instance),
            "SCALABLE_HPC_RIG_INTERFACE": self.interface,
            "SCALABLE_HPC_RIG_HEAD": self.head_address,
        }

    def differences(self, wanted: Mapping[str, object]) -> list[str]:
        """What is wanted differently, in words; ``auto`` is content with anything."""
        return [
            f"{name}={getattr(self, name)!r} (asked for: {value!r})"
            for name, value in wanted.items()
            if value not in (getattr(self, name), "auto")
        ]

    def save(self) -> None:
        """Write the settings where ``load`` finds them."""
        path = self._path(self.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new")  # whoever waits for it finds it whole
        aside.write_text(json.dumps(asdict(self), indent=1) + "\n")
        aside.replace(path)

    @classmethod
    def load(cls, root: Path) -> Settings | None:
        """The settings of the cluster below ``root``, running or not."""
        path = cls._path(root)
        return cls(**json.loads(path.read_text())) if path.exists() else None

    @staticmethod
    def _path(root: Path) -> Path:
        return root / "etc/settings.json"


def resolved(settings: Settings, *, namespaces: bool, memory_cgroups: bool) -> Settings:
    """Replace ``auto`` by the best that the machine can do.

    Raises:
        SlurmUnavailable: namespaces were asked for by name and cannot be had.
    """
    if settings.mode == "netns" and not namespaces:
        raise SlurmUnavailable("network namespaces need root with CAP_SYS_ADMIN and CAP_NET_ADMIN")
    changes: dict[str, str] = {}
    if settings.mode == "auto":
        changes["mode"] = "netns" if namespaces else "host"
    if settings.memory_limit == "auto":
        changes["memory_limit"] = "cgroup" if memory_cgroups else "poll"
    return replace(settings, **changes)  # type: ignore[arg-type]
