"""The first process of one machine in containers: ``python3 -m tests.rig.container.machine ROLE [NAME]``.

Roles: ``controller`` (slurmctld; tests run here), ``accounting`` (MariaDB and slurmdbd), ``node`` (slurmd).
Rule 1: the standard library only; the image has nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.rig import config
from tests.rig.cluster import SlurmRig
from tests.rig.commands import Commands
from tests.rig.container.console import Console, run_ip
from tests.rig.daemons import ACCOUNTING, NODE, Daemons
from tests.rig.nodes import pids_on_network_of
from tests.rig.processes import Processes, command_name, send, wait_until
from tests.rig.settings import Settings

ROOT = Path("/cluster")
INTERFACE = "eth0"
SECONDS_TO_START = 180


def main(role: str, name: str = "") -> None:
    """Be that machine until it is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for directory in ("run", "log", "state"):
        (ROOT / directory).mkdir(parents=True, exist_ok=True)
    if role == "controller":
        SlurmRig(mode="container", directory=str(ROOT)).up()
    elif role == "accounting":
        daemons_of(wait_for_settings(), ACCOUNTING).start()
    elif role == "node":
        Node(wait_for_settings(), name).serve()
    else:
        raise SystemExit(f"no such role: {role!r} (there are controller, accounting, node)")
    while True:
        signal.pause()


def wait_for_settings() -> Settings:
    """Return the cluster's settings as soon as its controller has written them."""
    wait_until((ROOT / "etc/settings.json").exists, "the controller's settings", SECONDS_TO_START)
    settings = Settings.load(ROOT)
    assert settings is not None
    return settings


def daemons_of(settings: Settings, names: tuple[str, ...]) -> Daemons:
    """Return those daemons of the cluster that run on this machine."""
    return Daemons(
        settings,
        config.Machine(hostname="slurmctld", user="root"),
        Processes(settings.root, settings.environment),
        Commands(settings),
        names,
    )


class Node:
    """A compute node: slurmd, a power switch and a cable."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._name = name
        self._daemons = daemons_of(settings, NODE)
        self._processes = Processes(settings.root, settings.environment)
        self._place = settings.root / "nodes" / name
        self._gateway = run_ip("route", "show", "default").split()
        self._is_powered = False

    def serve(self) -> None:
        """Power on, then obey the console."""
        for directory in ("spool", "local"):
            (self._place / directory).mkdir(parents=True, exist_ok=True)
        self.start()
        verbs = {"start": self.start, "crash": self.crash, "cut": self.cut, "mend": self.mend, "state": self.state}
        verbs["processes"] = self.processes
        Console(self._place).serve(verbs)

    def start(self) -> str:
        """Power on."""
        self.mend()
        self._daemons.start()
        if self._processes.pid("slurmd") is None:
            # -b: this node has just booted
            self._processes.launch("slurmd", ["slurmd", "-b", "-D", "-N", self._name])
        self._is_powered = True
        return self.state()

    def crash(self) -> str:
        """Cut the power: the cable first, since dying processes would still close their connections."""
        self.cut()
        self._is_powered = False
        own = {os.getpid(), os.getppid()}
        wait_until(lambda: not self._kill(own), "the end of every process", 10)
        return self.state()

    def cut(self) -> str:
        """Unplug the cable."""
        run_ip("link", "set", INTERFACE, "down")
        return self.state()

    def mend(self) -> str:
        """Plug it in again."""
        run_ip("link", "set", INTERFACE, "up")
        if self._gateway:
            run_ip("route", "replace", *self._gateway)
        return self.state()

    def state(self) -> str:
        """Tell how it is: first process, power, cable."""
        cable = "down" if "state DOWN" in run_ip("link", "show", INTERFACE) else "up"
        return f"{os.getpid()} {'on' if self._is_powered else 'off'} {cable}"

    def processes(self) -> str:
        """Tell every process, a line each: pid and command."""
        return "\n".join(f"{pid} {command_name(pid)}" for pid in pids_on_network_of(os.getpid()))

    def _kill(self, spared: set[int]) -> bool:
        """Kill everything on this machine; whether there was anything."""
        found = [pid for pid in pids_on_network_of(os.getpid()) if pid not in spared]
        for pid in found:
            send(pid, signal.SIGKILL)
        return bool(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
