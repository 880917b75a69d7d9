"""``SlurmRig``: a real multi-node Slurm on this machine, started, broken, mended and stopped.

Rule 1: nothing but Debian's packages lands outside the rig's root.
Rule 2: every verb may be called in any state of the cluster, from any process of the same user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.rig import config, packages
from tests.rig.commands import Commands
from tests.rig.daemons import CONTROLLER, Daemons
from tests.rig.health import IN_SERVICE, Health, Part
from tests.rig.network import SWITCH, Switch
from tests.rig.nodes import ContainerNodes, HostNodes, NamespaceNodes, Nodes
from tests.rig.processes import Processes, locked, send, wait_until
from tests.rig.settings import RigError, Settings, resolved

# Beginnings of the states that a node leaves only when it is told to.
REFUSED = ("down", "drain", "fail")

SECONDS_TO_CALM = 40


class SlurmRig:
    """One cluster. Its settings are those of the running one, where one runs below the same root.

    Args:
        wanted: as keyword arguments, the fields of ``Settings``.

    Raises:
        RigError: a cluster runs there already, with other settings than those asked for.
    """

    def __init__(self, **wanted: Any) -> None:
        self._wanted = wanted
        self._use(Settings(**wanted))
        self._join()

    def _join(self) -> None:
        """Take over the settings of the cluster that runs below our root, where one does."""
        found = Settings.load(self.settings.root) if self.is_running() else None
        if found is None:
            return
        differences = found.differences(self._wanted)
        if differences:
            raise RigError(f"a cluster runs at {found.root} with {'; '.join(differences)}")
        self._use(found)

    def _use(self, settings: Settings) -> None:
        self.settings = settings
        self._machine = config.Machine(
            hostname=socket.gethostname().partition(".")[0],
            user=pwd.getpwuid(os.geteuid()).pw_name,  # USER may name somebody else
        )
        self._processes = Processes(settings.root, settings.environment)
        self._switch = Switch(settings, self._processes)
        self._commands = Commands(settings)
        here = CONTROLLER if settings.mode == "container" else None
        self._daemons = Daemons(settings, self._machine, self._processes, self._commands, here)
        self._nodes = self._make_nodes()
        self._health = Health(settings, self._processes, self._nodes, self._commands)

    def _make_nodes(self) -> Nodes:
        if self.settings.mode == "container":
            return ContainerNodes(self.settings)
        if self.settings.mode == "netns":
            return NamespaceNodes(self.settings, self._processes, self._switch)
        return HostNodes(self.settings, self._processes)

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

    def run(self, command: str | Sequence[str], *, stdin: str = "", timeout: float = 60) -> str:
        """Run a command on the head with the cluster's environment and return what it printed.

        Raises:
            RigError: it failed, or did not end within ``timeout`` seconds.
        """
        return self._commands.run(command, stdin=stdin, timeout=timeout)

    def attempt(
        self, command: str | Sequence[str], *, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail: with exit code, standard output and standard error."""
        return self._commands.attempt(command, stdin=stdin, timeout=timeout)

    def up(self) -> None:
        """Start whatever does not run; returns when every node is in service.

        Raises:
            SlurmUnavailable: Slurm cannot be had on this machine.
        """
        packages.install(accounting=self.settings.accounting)
        with self._lock():
            self._join()
            if not self.is_running():
                self._configure()
            self._start_head()
            self._nodes.start([name for name in self.node_names if self._nodes.pid(name) is None])
            self._wait_for_service()

    def down(self, *, purge: bool = False) -> None:
        """Stop everything; with ``purge``, remove the root as well."""
        if not self.settings.root.exists():
            return
        with self._lock():
            self._join()
            for name in self.node_names:
                self._nodes.crash(name)
            self._daemons.stop()
            self._switch.down()
            if purge:
                shutil.rmtree(self.settings.root)

    def reset(self) -> None:
        """Back to a whole and calm cluster: no jobs, nothing dead, hung, cut off, drained or left over."""
        self._require_running()
        with self._lock():
            self._start_head()
            self._cancel_everything()
            # Quicker than KillWait, and it finds jobs that Slurm gave up while their node was cut off.
            self._replace(self._health.unsound())
            wait_until(lambda: not self._health.jobs(), "the end of all jobs", SECONDS_TO_CALM)
            self._wait_for_service()

    def node(self, verb: str, name: str, *arguments: str) -> str:
        """Do something to a node; what there is to say about it (a pid, an address, a command's output), or nothing.

        Raises:
            RigError: no such verb or node, or the node is in no state for it.
        """
        self._require_running()
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
            "exec": lambda node, *argv: self.run([*self._nodes.enter(node), *argv]),
            "pid": lambda node: str(self._nodes.pid(node) or ""),
            "pids": lambda node: "\n".join(map(str, self._nodes.pids(node))),
            "ip": self.settings.address,
        }
        if verb not in verbs:
            raise RigError(f"no such verb: {verb!r} (there are {', '.join(verbs)})")
        return verbs[verb](name, *arguments) or ""

    def daemon(self, verb: str, name: str) -> None:
        """``stop`` (in good order), ``kill``, ``hang``, ``unhang`` a daemon of the head, or ``start`` it again."""
        self._require_running()
        if name not in self._daemons.names:
            raise RigError(f"no such daemon: {name!r} (there are {', '.join(self._daemons.names)})")
        ends = {"stop": signal.SIGTERM, "kill": signal.SIGKILL}
        signals = {"hang": signal.SIGSTOP, "unhang": signal.SIGCONT}
        if verb == "start":
            with self._lock():
                self._daemons.start()
        elif verb in ends:
            self._processes.stop(name, ends[verb])
        elif verb not in signals:
            raise RigError(f"no such verb: {verb!r} (there are start, {', '.join((*ends, *signals))})")
        elif (pid := self._processes.pid(name)) is not None:
            send(pid, signals[verb])

    def status(self) -> list[Part]:
        """Every daemon and node, and how it is."""
        switch = (SWITCH,) if self.settings.mode == "netns" else ()
        return self._health.parts((*switch, *self._daemons.names))

    def picture(self) -> str:
        """What Slurm says of everything right now."""
        return self._health.picture()

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.settings.root / "lock")

    def _require_running(self) -> None:
        if not self.is_running():
            raise RigError(f"no cluster runs at {self.settings.root}: python -m tests.rig up")

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

    def _start_head(self) -> None:
        if self.settings.mode == "netns" and not self._switch.is_up():
            self._switch.up()
            for name in self.node_names:  # nodes that outlived their switch lost their cables with it
                self._nodes.crash(name)
        for name in self._daemons.names:
            if (pid := self._processes.pid(name)) is not None:
                send(pid, signal.SIGCONT)
        self._daemons.start()

    def _wait_for_service(self) -> None:
        def is_whole() -> bool:
            states = self._health.node_states()
            refused = [name for name, state in states.items() if state.startswith(REFUSED)]
            if refused:
                self._commands.attempt(["scontrol", "update", f"nodename={','.join(refused)}", "state=resume"])
            return all(states.get(name) in IN_SERVICE for name in self.node_names)

        try:
            wait_until(is_whole, "all nodes to be in service", SECONDS_TO_CALM)
        except RigError as err:
            raise RigError(f"{err}: {self._health.node_states()}{self._processes.tail(['slurmctld'])}") from err

    def _cancel_everything(self) -> None:
        jobs = self._health.jobs()
        if jobs:
            self._commands.attempt(["scancel", *jobs])

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
