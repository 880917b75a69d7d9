"""How the cluster is: asked of its processes, its network and of Slurm itself.

Rule 1: nothing here changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.rig.commands import Commands
from tests.rig.nodes import Nodes
from tests.rig.processes import Processes, read_stat
from tests.rig.settings import RigError, Settings

# Node states in which a node takes jobs, or will when its present ones are over.
IN_SERVICE = {"idle", "mixed", "allocated", "completing", "reserved", "planned"}


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the rig's status: a daemon, or a node with what Slurm says of it."""

    name: str
    is_up: bool
    words: str


class Health:
    """Questions about one cluster."""

    def __init__(self, settings: Settings, processes: Processes, nodes: Nodes, commands: Commands) -> None:
        self._settings = settings
        self._processes = processes
        self._nodes = nodes
        self._commands = commands

    def parts(self, daemons: tuple[str, ...]) -> list[Part]:
        """Every daemon and node, and how it is."""
        parts = []
        for name in daemons:
            pid = self._processes.pid(name)
            parts.append(Part(name, pid is not None, "" if pid is None else f"pid {pid}"))
        states = self.node_states() if self._processes.pid("slurmctld") is not None else {}
        for name in self._settings.node_names:
            pid, slurmd = self._nodes.pid(name), self._nodes.slurmd_pid(name)
            words = f"{self._settings.address(name)} pid {pid} slurmd {slurmd} {states.get(name, 'unknown')}"
            parts.append(Part(name, pid is not None and slurmd is not None, words))
        return parts

    def node_states(self) -> dict[str, str]:
        """Slurm's word on every node; a mark behind it (``*``: does not answer) is kept."""
        told = self._commands.answers(["sinfo", "-h", "-N", "-p", "batch", "-o", "%N %T"]) or ""
        return dict(line.split(maxsplit=1) for line in told.splitlines())

    def jobs(self) -> list[str]:
        """The ids of all jobs that are not over."""
        return sorted(set(self._commands.run(["squeue", "-h", "-a", "-o", "%A"]).split()))

    def unsound(self) -> list[str]:
        """The nodes that are dead, hung, cut off or not rid of a job, be it in Slurm's opinion only."""
        connected, states = self._nodes.connected(), self.node_states()

        def is_sound(node: str) -> bool:
            slurmd = self._nodes.slurmd_pid(node)
            stat = read_stat(slurmd) if slurmd is not None else None
            is_at_work = stat is not None and stat[0] not in "TtZ"
            is_busy = self._nodes.job_pids(node) or states.get(node, "").startswith("completing")
            return is_at_work and node in connected and not is_busy

        return [node for node in self._settings.node_names if not is_sound(node)]

    def picture(self) -> str:
        """What Slurm says of everything right now, for the report of a test that failed."""
        commands = (
            "sinfo -N -l -p batch",
            "squeue -a",
            "sacct -a -X -o JobID,JobName%40,State%20,ExitCode,Start,End,NodeList",
        )
        return "".join(map(self._said, commands)) + self._processes.tail(["slurmctld"], lines=40)

    def _said(self, command: str) -> str:
        try:
            done = self._commands.attempt(command, timeout=20)
        except RigError as err:
            return f"{err}\n"
        return f"$ {command}\n{done.stdout}{done.stderr}"
