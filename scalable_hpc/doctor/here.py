"""What can be looked at from the driver's host: commands, the batch system's own limits, directories."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from scalable_hpc.batch.machine import MachineSeen
from scalable_hpc.batch.quota import Quotas
from scalable_hpc.batch.survey import quotas, survey
from scalable_hpc.config.resolved import ResolvedTarget
from scalable_hpc.doctor.facts import CommandSeen
from scalable_hpc.errors import ScalableError

_PATIENCE_S = 20.0
"""Clients of an absent controller give up after 4 to 16 s by themselves."""
_COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "slurm": {
        "sbatch": ("--version",),
        "squeue": ("--version",),
        "sacct": ("-n", "-X", "-S", "now"),
        "scontrol": ("ping",),
        "scancel": ("--version",),
    },
    "pbs": {"qsub": ("--version",), "qstat": ("-B",), "qselect": ("--version",), "qdel": ("--version",)},
}
"""Each command with what makes it say that it works; some speak to the controller, some only of themselves."""


def look_at_commands(target: ResolvedTarget) -> tuple[CommandSeen, ...]:
    """Return the batch system's commands as they are to be had here; none of Local."""
    wanted = _COMMANDS.get(target.provider, {})
    return tuple(_command(target.commands.get(name, (name,)), words) for name, words in wanted.items())


def _command(command: tuple[str, ...], words: tuple[str, ...]) -> CommandSeen:
    path = shutil.which(command[0])
    if path is None:
        return CommandSeen(command[0], None)
    try:
        done = subprocess.run(
            [path, *command[1:], *words], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return CommandSeen(command[0], path, str(err), works=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        return CommandSeen(command[0], path, said or f"exit code {done.returncode}", works=False)
    first = (done.stdout or done.stderr).strip().partition("\n")[0] if "--version" in words else ""
    return CommandSeen(command[0], path, first.removeprefix("slurm "))


def ask_for_limits(target: ResolvedTarget) -> tuple[MachineSeen | None, Quotas | None, str]:
    """Return what the batch system says of its partitions and of quotas now, or why it says nothing."""
    if target.provider == "local":
        return None, None, ""
    try:
        return survey(target.provider), quotas(target.provider), ""
    except ScalableError as err:
        return None, None, err.message


def mode_of(path: Path) -> int:
    """Return a directory's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def free_bytes(path: Path) -> int:
    """Return how much its file system has left for this user."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
