"""``SlurmRig``: a real multi-node Slurm on this machine, started, broken, mended and stopped.

Rule 1: nothing but Debian's packages lands outside the rig's root.
Rule 2: every verb may be called in any state of the cluster, from any process of the same user.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.rig import config, packages
from tests.rig.daemons import Daemons
from tests.rig.network import Switch
from tests.rig.nodes import HostNodes, NamespaceNodes, Nodes
from tests.rig.processes import Processes, locked, read_stat, send, wait_until
from tests.rig.settings import RigError, Settings, resolved

# Node states in which a node takes jobs, or will when its present ones are over.
IN_SERVICE = {"idle", "mixed", "allocated", "completing", "reserved", "planned"}

SECONDS_TO_CALM = 40


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the rig's status: a daemon, or a node with what Slurm says of it."""

    name: str
    is_up: bool
    words: str


class SlurmRig:
    """One cluster. Its settings are those of the running one, where one runs below the same root.

    Args:
        wanted: as keyword arguments, the fields of ``Settings``.

    Raises:
        RigError: a cluster runs there already, with other settings than those asked for.
    """

    def __init__(self, **wanted: Any) -> None:
        asked = Settings(**wanted)
        found = Settings.load(asked.root)
        if found is not None and Processes(found.root, {}).alive():
            differences = [text for text in found.conflicts(asked) if text.split("=")[0] in wanted]
            if differences:
                raise RigError(f"a cluster runs at {found.root} with {'; '.join(differences)}")
            asked = found
        self._use(asked)

    def _use(self, settings: Settings) -> None:
        self.settings = settings
        self._machine = config.Machine(hostname=socket.gethostname().partition(".")[0], user=getpass.getuser())
        self._processes = Processes(settings.root, settings.environment)
        self._switch = Switch(settings, self._processes)
        self._daemons = Daemons(settings, self._machine, self._processes, self.run)
        self._nodes: Nodes = (
            NamespaceNodes(settings, self._processes, self._switch)
            if settings.mode == "netns"
            else HostNodes(settings, self._processes)
        )

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that a shell or a child process needs; ``SLURM_CONF`` is the one that Slurm reads."""
        return self.settings.environment

    @property
    def interface(self) -> str:
        """The network interface between head and nodes, named alike on both."""
        return self.settings.interface

    @property
    def head_address(self) -> str:
        return self.settings.head_address

    @property
    def node_names(self) -> tuple[str, ...]:
        return self.settings.node_names

    def is_running(self) -> bool:
        """Whether anything of the cluster lives."""
        return bool(self._processes.alive())

    def run(
        self, command: str | Sequence[str], *, stdin: str = "", timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the head with the cluster's environment; its output is captured as text.

        Raises:
            RigError: it failed and ``check`` was left on.
            subprocess.TimeoutExpired: it did not end within ``timeout`` seconds.
        """
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        path = f"{os.environ.get('PATH', '')}:{packages.PATH}"
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **self.env, "PATH": path, "LC_ALL": "C.UTF-8"},
            check=False,
        )
        if check and done.returncode != 0:
            raise RigError(f"{shlex.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done

    def up(self) -> None:
        """Start whatever does not run; returns when every node is in service.

        Raises:
            SlurmUnavailable: Slurm cannot be had on this machine.
        """
        packages.install(accounting=self.settings.accounting)
        with self._lock():
            if not self.is_running():
                self._configure()
            self._start()
            self._wait_for_service()

    def down(self, *, purge: bool = False) -> None:
        """Stop everything; with ``purge``, remove the root as well."""
        if not self.settings.root.exists():
            return
        with self._lock():
            for name in self.node_names:
                self._nodes.crash(name)
            self._daemons.stop()
            self._switch.down()
            if purge:
                shutil.rmtree(self.settings.root)

    def reset(self) -> None:
        """Back to a whole and calm cluster: no jobs, nothing dead, hung, cut off, drained or left over."""
        with self._lock():
            self._start()
            self._cancel_everything()
            # Quicker than KillWait, and it finds jobs that Slurm gave up while their node was cut off.
            self._replace([name for name in self.node_names if not self._is_sound(name) or self._nodes.job_pids(name)])
            wait_until(lambda: not self._jobs(), "the end of all jobs", SECONDS_TO_CALM)
            self._wait_for_service()

    def node(self, verb: str, name: str, *arguments: str) -> str:
        """Do something to a node; what there is to say about it (a pid, an address, a command's output), or nothing.

        Raises:
            RigError: no such verb or node, or the node is in no state for it.
        """
        self.settings.index(name)
        verbs: dict[str, Callable[..., Any]] = {
            "crash": self._nodes.crash,
            "fail": self._fail,
            "start": self._power_on,
            "reboot": self._reboot,
            "partition": self._nodes.partition,
            "heal": self._nodes.heal,
            "hang": lambda node: send(self._slurmd(node), signal.SIGSTOP),
            "unhang": lambda node: send(self._slurmd(node), signal.SIGCONT),
            "kill-slurmd": lambda node: send(self._slurmd(node), signal.SIGKILL),
            "exec": lambda node, *argv: self.run([*self._nodes.enter(node), *argv]).stdout,
            "pid": lambda node: str(self._nodes.pid(node) or ""),
            "pids": lambda node: "\n".join(map(str, self._nodes.pids(node))),
            "ip": self.settings.address,
        }
        if verb not in verbs:
            raise RigError(f"no such verb: {verb!r} (there are {', '.join(verbs)})")
        return verbs[verb](name, *arguments) or ""

    def daemon(self, verb: str, name: str) -> None:
        """``kill``, ``hang``, ``unhang`` a daemon of the head at once, or ``start`` it again."""
        if name not in self._daemons.names:
            raise RigError(f"no such daemon: {name!r} (there are {', '.join(self._daemons.names)})")
        signals = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP, "unhang": signal.SIGCONT}
        if verb == "start":
            with self._lock():
                self._daemons.start()
        elif verb == "kill":
            self._processes.stop(name, signal.SIGKILL)
        elif verb not in signals:
            raise RigError(f"no such verb: {verb!r} (there are start, {', '.join(signals)})")
        elif (pid := self._processes.pid(name)) is not None:
            send(pid, signals[verb])

    def status(self) -> list[Part]:
        """Every daemon and node, and how it is."""
        parts = []
        heads = (*(["switch"] if self.settings.mode == "netns" else []), *self._daemons.names)
        for name in heads:
            pid = self._processes.pid(name)
            parts.append(Part(name, pid is not None, "" if pid is None else f"pid {pid}"))
        states = self._node_states()
        for name in self.node_names:
            pid, slurmd = self._nodes.pid(name), self._nodes.slurmd_pid(name)
            words = f"{self.settings.address(name)} pid {pid} slurmd {slurmd} {states.get(name, 'unknown')}"
            parts.append(Part(name, pid is not None and slurmd is not None, words))
        return parts

    def _lock(self):
        return locked(self.settings.root / "lock")

    def _configure(self) -> None:
        namespaces, cgroups = packages.capabilities(self.settings.mode, self.settings.memory_limit)
        self._use(resolved(self.settings, namespaces=namespaces, memory_cgroups=cgroups))
        root = self.settings.root
        for directory in ("etc", "log", "run", "state", "nodes", "local"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        for name, text in config.files(self.settings, self._machine).items():
            path = root / "etc" / name
            # slurmdbd refuses a configuration that others may read
            path.touch(mode=0o600 if name == "slurmdbd.conf" else 0o644)
            path.write_text(text)
        (root / "etc/mail").chmod(0o755)
        self.settings.save()

    def _start(self) -> None:
        if self.settings.mode == "netns" and not self._switch.is_up():
            self._switch.up()
            for name in self.node_names:  # nodes that outlived their switch lost their cables with it
                self._nodes.crash(name)
        for name in self._daemons.names:
            if (pid := self._processes.pid(name)) is not None:
                send(pid, signal.SIGCONT)
        self._daemons.start()
        self._nodes.start([name for name in self.node_names if self._nodes.pid(name) is None])

    def _wait_for_service(self) -> None:
        def is_whole() -> bool:
            states = self._node_states()
            ill = [name for name in self.node_names if states.get(name) not in IN_SERVICE]
            if ill:
                update = ["scontrol", "update", f"nodename={','.join(ill)}", "state=resume"]
                self.run(update, check=False)
            return not ill

        try:
            wait_until(is_whole, "all nodes to be in service", SECONDS_TO_CALM)
        except RigError as err:
            raise RigError(f"{err}: {self._node_states()}{self._processes.tail(['slurmctld'])}") from err

    def _node_states(self) -> dict[str, str]:
        """Slurm's word on every node, without the marks that it puts behind (``*``: does not answer)."""
        if self._processes.pid("slurmctld") is None:
            return {}
        done = self.run(["sinfo", "-h", "-N", "-p", "batch", "-o", "%N %T"], check=False)
        return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())

    def _jobs(self) -> list[str]:
        return sorted(set(self.run(["squeue", "-h", "-o", "%A"]).stdout.split()))

    def _cancel_everything(self) -> None:
        jobs = self._jobs()
        if jobs:
            self.run(["scancel", *jobs], check=False)

    def _is_sound(self, name: str) -> bool:
        """Whether a node is on the network and its slurmd at work."""
        slurmd = self._nodes.slurmd_pid(name)
        stat = read_stat(slurmd) if slurmd is not None else None
        return stat is not None and stat[0] not in "TtZ" and name in self._nodes.connected()

    def _replace(self, names: list[str]) -> None:
        """Reboot nodes, the controller being told, so that it waits for nothing that was on them."""
        for name in names:
            self._fail(name)
        self._nodes.start(names)

    def _fail(self, name: str) -> None:
        self._nodes.crash(name)
        self.run(["scontrol", "update", f"nodename={name}", "state=down", "reason=power"])

    def _power_on(self, name: str) -> None:
        if self._nodes.pid(name) is not None:
            raise RigError(f"{name} is up already")
        self._nodes.start([name])

    def _reboot(self, name: str) -> None:
        self._nodes.crash(name)
        self._nodes.start([name])

    def _slurmd(self, name: str) -> int:
        pid = self._nodes.slurmd_pid(name)
        if pid is None:
            raise RigError(f"slurmd of {name} is not running")
        return pid
