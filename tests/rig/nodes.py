"""Nodes of a cluster, and everything that can happen to one.

Three kinds: ``NamespaceNodes`` have their own network, host name, process table and mounts; ``HostNodes`` are several
slurmd on one address, for where namespaces cannot be had; ``ContainerNodes`` are somebody else's containers.
Rule 1: a crash says nothing to anyone; whoever should know is told by the rig, not by a node.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from tests.rig.container.console import Console
from tests.rig.network import Switch
from tests.rig.processes import (
    Processes,
    all_pids,
    children,
    command_name,
    is_running,
    read_stat,
    send,
    wait_until,
)
from tests.rig.settings import RigError, Settings

# Nodes started at once: more only wait for each other's turn on a small machine.
STARTED_AT_ONCE = 8

SECONDS_TO_BOOT = 60


class Nodes(Protocol):
    """What differs between kinds of nodes."""

    def start(self, names: list[str]) -> None:
        """Power nodes on; returns when their slurmd has been started, not when Slurm knows."""

    def crash(self, name: str) -> None:
        """Cut the power: every process gone at once, no connection closed in good order."""

    def pid(self, name: str) -> int | None:
        """The node's first process, while it lives."""

    def slurmd_pid(self, name: str) -> int | None:
        """The node's slurmd, while it lives."""

    def pids(self, name: str) -> list[int]:
        """Every process of the node, as seen from here."""

    def job_pids(self, name: str) -> list[int]:
        """The node's processes that keep jobs."""

    def enter(self, name: str) -> list[str]:
        """The beginning of a command line that runs a command on the node."""

    def partition(self, name: str) -> None:
        """Cut the cable; the node does not notice."""

    def heal(self, name: str) -> None:
        """Mend the cable."""

    def connected(self) -> set[str]:
        """The nodes that are not partitioned."""


class NamespaceNodes:
    """Nodes with namespaces of their own. Needs root."""

    def __init__(self, settings: Settings, processes: Processes, switch: Switch) -> None:
        self._settings = settings
        self._processes = processes
        self._switch = switch

    def start(self, names: list[str]) -> None:
        for first in range(0, len(names), STARTED_AT_ONCE):
            batch = names[first : first + STARTED_AT_ONCE]
            launched = {name: self._launch(name) for name in batch}
            for name, child in launched.items():
                self._connect(name, child)

    def _launch(self, name: str) -> subprocess.Popen[bytes]:
        _make_directories(self._settings, name)
        init = Path(__file__).with_name("node_init.py")
        namespaces = ["--net", "--uts", "--mount", "--pid", "--ipc", "--fork"]
        python = [sys.executable, "-I", "-S", str(init), name, str(self._settings.root)]
        return self._processes.launch(name, ["unshare", *namespaces, "--", *python], talk=True)

    def _connect(self, name: str, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdout, child.stdin:
            answer = child.stdout.readline()
            if not answer:
                raise RigError(f"{name} did not start{self._processes.tail([name])}")
            pid = int(answer)
            # The record is about the node's first process: the unshare above it ends with it.
            self._processes.adopt(name, pid)
            self._switch.plug(name, pid)
            child.stdin.write(b"go\n")

    def crash(self, name: str) -> None:
        pid = self.pid(name)
        if pid is None:
            return
        # The cable first: dying processes would still close their connections in good order.
        if self._switch.is_up():
            self._switch.unplug(name)
        self._processes.stop(name, signal.SIGKILL)
        _remove_cgroups(name)

    def pid(self, name: str) -> int | None:
        return self._processes.pid(name)

    def slurmd_pid(self, name: str) -> int | None:
        return next(iter(self._daemons(name, "slurmd")), None)

    def job_pids(self, name: str) -> list[int]:
        return self._daemons(name, "slurmstepd")

    def _daemons(self, name: str, command: str) -> list[int]:
        init = self.pid(name)
        return [] if init is None else [pid for pid in children(init) if command_name(pid) == command]

    def pids(self, name: str) -> list[int]:
        init = self.pid(name)
        if init is None:
            return []
        return pids_sharing(init, "pid")

    def enter(self, name: str) -> list[str]:
        init = self.pid(name)
        if init is None:
            raise RigError(f"{name} is not up")
        # Not "ip netns exec": that one hides the cgroups.
        namespaces = ["--net", "--uts", "--mount", "--pid", "--ipc"]
        return ["nsenter", f"--target={init}", *namespaces, f"--wd={Path.cwd()}", "--"]

    def partition(self, name: str) -> None:
        self._switch.cut(name)

    def heal(self, name: str) -> None:
        self._switch.mend(name)

    def connected(self) -> set[str]:
        return self._switch.connected()


class ContainerNodes:
    """Nodes in containers (``docker-compose.slurm.yml``), whose processes the controller's container sees."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self, names: list[str]) -> None:
        for name in names:
            # A container that has just been started powers its node on by itself, and may not have come so far.
            wait_until(lambda name=name: self._has_console(name), f"the console of {name}", SECONDS_TO_BOOT)
            self._console(name).ask("start")

    def crash(self, name: str) -> None:
        if self.pid(name) is not None:
            self._console(name).ask("crash")

    def pid(self, name: str) -> int | None:
        pid, power, _ = self._state(name)
        return int(pid) if power == "on" else None

    def slurmd_pid(self, name: str) -> int | None:
        return next(iter(self._daemons(name, "slurmd")), None)

    def job_pids(self, name: str) -> list[int]:
        return self._daemons(name, "slurmstepd")

    def _daemons(self, name: str, command: str) -> list[int]:
        return [pid for pid, its_command in self._processes(name) if its_command == command]

    def pids(self, name: str) -> list[int]:
        return [pid for pid, _ in self._processes(name)]

    def _processes(self, name: str) -> list[tuple[int, str]]:
        if self.pid(name) is None:
            return []
        # Asked of the node itself: it has a privilege that the controller lacks, who so may not look into its own.
        lines = (line.split(maxsplit=1) for line in self._console(name).ask("processes").splitlines())
        return [(int(line[0]), line[1]) for line in lines if len(line) > 1]

    def enter(self, name: str) -> list[str]:
        raise RigError(f"no way into a container from another: docker compose -f docker-compose.slurm.yml exec {name}")

    def partition(self, name: str) -> None:
        self._console(name).ask("cut")

    def heal(self, name: str) -> None:
        self._console(name).ask("mend")

    def connected(self) -> set[str]:
        return {name for name in self._settings.node_names if self._state(name)[2] == "up"}

    def _state(self, name: str) -> tuple[str, str, str]:
        if not self._has_console(name):  # the container itself is gone
            return "0", "off", "down"
        pid, power, cable = self._console(name).ask("state").split()
        return pid, power, cable

    def _has_console(self, name: str) -> bool:
        try:
            self._console(name).ask("state")
        except RigError:
            return False
        return True

    def _console(self, name: str) -> Console:
        self._settings.index(name)
        return Console(self._settings.root / "nodes" / name)


class HostNodes:
    """Several slurmd on this machine's own address. Works without root, for the user's own jobs."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self._settings = settings
        self._processes = processes

    def start(self, names: list[str]) -> None:
        for name in names:
            _make_directories(self._settings, name)
            self._processes.launch(name, ["slurmd", "-b", "-D", "-N", name], environment={"SLURMD_NODENAME": name})

    def crash(self, name: str) -> None:
        # Frozen first, so that no slurmstepd lives to tell of the end of its job; twice, for those just born.
        for sig in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL):
            for pid in self.pids(name):
                send(pid, sig)
        wait_until(lambda: not self.pids(name), f"the end of {name}", 10)
        self._processes.forget(name)
        _remove_cgroups(name)

    def pid(self, name: str) -> int | None:
        return self._processes.pid(name)

    def slurmd_pid(self, name: str) -> int | None:
        return self.pid(name)

    def job_pids(self, name: str) -> list[int]:
        return [pid for pid in self.pids(name) if pid != self.pid(name)]

    def pids(self, name: str) -> list[int]:
        # slurmd gives its jobs the same two variables that it was started with.
        marks = {f"SLURMD_NODENAME={name}".encode(), f"SLURM_CONF={self._settings.slurm_conf}".encode()}
        return [pid for pid in all_pids() if marks <= _environment(pid) and _lives(pid)]

    def enter(self, name: str) -> list[str]:
        self._settings.index(name)
        return []

    def partition(self, name: str) -> None:
        raise RigError(f"{name} has no cable of its own: partition needs namespaces (root)")

    heal = partition

    def connected(self) -> set[str]:
        return set(self._settings.node_names)


def _make_directories(settings: Settings, name: str) -> None:
    for directory in ("spool", "local"):
        (settings.root / f"nodes/{name}/{directory}").mkdir(parents=True, exist_ok=True)


def _remove_cgroups(name: str) -> None:
    """Take away what this machine's kernel still knows of a dead node's jobs."""
    for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{name}"):
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # not empty yet, or not ours: it does no harm
                Path(directory).rmdir()


def pids_sharing(pid: int, namespace: str) -> list[int]:
    """Every process that is in the same namespace as ``pid``."""
    its = _readlink(f"/proc/{pid}/ns/{namespace}")
    return [one for one in all_pids() if its and _readlink(f"/proc/{one}/ns/{namespace}") == its]


def pids_on_network_of(pid: int) -> list[int]:
    """Every process on the same network stack: all of a container, whatever else it shares with others."""
    return pids_sharing(pid, "net")


def _readlink(path: str) -> str:
    with contextlib.suppress(OSError):
        return str(Path(path).readlink())
    return ""


def _environment(pid: int) -> set[bytes]:
    with contextlib.suppress(OSError):
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    return set()


def _lives(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and is_running(pid, stat[1])
