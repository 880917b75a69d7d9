"""The command line that launcher and courier share: facts that the job script knows and nobody else can tell.

Rule 1: no secrets here, a command line is public; the way to the scheduler is read from the run directory.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ORPHAN_GRACE_S = 600.0
"""How long running attempts may go on without a driver: long enough for a restart by hand, short against a walltime."""


NODE_VARIABLES = ("SCALABLE_HPC_NODE", "SLURMD_NODENAME")
"""Environment: what the batch system calls this node."""
ALLOCATION_VARIABLE = "SCALABLE_HPC_ALLOCATION"
"""Environment: the allocation's name, where the job script of several tells it by its index in their array."""
DIRECTORY_VARIABLE = "SCALABLE_HPC_WORKER_DIRECTORY"
"""Environment: the node-local directory that a launcher makes for its courier, and removes."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What one worker was started with."""

    run_dir: Path
    allocation: str
    worker_type: str
    slots: int
    cpus: int
    memory: int | None = None
    """Bytes on this node that all slots share."""
    gpus: int = 0
    walltime_s: float | None = None
    interface: str | None = None
    orphan_grace_s: float = ORPHAN_GRACE_S
    nodes: int = 1
    """Nodes that its tasks have: this one and, with more than one, those beside it."""

    def to_argv(self) -> list[str]:
        """Return the command line that ``parse_options`` reads back as an equal value."""
        argv = [
            f"--run-dir={self.run_dir}",
            f"--allocation={self.allocation}",
            f"--worker-type={self.worker_type}",
            f"--slots={self.slots}",
            f"--cpus={self.cpus}",
            f"--gpus={self.gpus}",
            f"--orphan-grace={self.orphan_grace_s!r}",
        ]
        if self.memory is not None:
            argv.append(f"--memory={self.memory}")
        if self.walltime_s is not None:
            argv.append(f"--walltime={self.walltime_s!r}")
        if self.interface is not None:
            argv.append(f"--interface={self.interface}")
        if self.nodes > 1:
            argv.append(f"--nodes={self.nodes}")
        return argv


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: {text!r}")
    return number


def _not_negative(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number of seconds, zero or more: {text!r}")
    return number


def parse_options(argv: Sequence[str], *, prog: str = "python -m scalable_hpc.worker") -> WorkerOptions:
    """Read a worker's command line; like any argparse program it prints usage and exits with 2 on a mistake."""
    parser = argparse.ArgumentParser(prog=prog, description="Serve one node of an allocation.", allow_abbrev=False)
    parser.add_argument("--run-dir", type=Path, required=True, help="directory of the run, holds scheduler.json")
    told = os.environ.get(ALLOCATION_VARIABLE)
    parser.add_argument(
        "--allocation",
        required=told is None,
        default=told,
        help=f"name of the allocation, unique in the run (default ${ALLOCATION_VARIABLE})",
    )
    parser.add_argument("--worker-type", required=True, help="name of the worker type")
    parser.add_argument("--slots", type=_at_least_one, required=True, help="attempts at a time")
    parser.add_argument("--cpus", type=_at_least_one, required=True, help="cpus that all slots share")
    parser.add_argument("--nodes", type=_at_least_one, default=1, help="nodes that an attempt has, this one included")
    parser.add_argument("--memory", type=_at_least_one, help="bytes that all slots share")
    parser.add_argument("--gpus", type=int, default=0, help="gpus that all slots share")
    parser.add_argument("--walltime", type=_not_negative, help="seconds, counted from now")
    parser.add_argument("--interface", help="network interface to listen on")
    parser.add_argument(
        "--orphan-grace",
        type=_not_negative,
        default=ORPHAN_GRACE_S,
        help="seconds that running attempts may go on without a driver (default %(default)s)",
    )
    found = parser.parse_args(argv)
    return WorkerOptions(
        run_dir=found.run_dir.absolute(),
        allocation=found.allocation,
        worker_type=found.worker_type,
        slots=found.slots,
        cpus=found.cpus,
        memory=found.memory,
        gpus=max(0, found.gpus),
        walltime_s=found.walltime,
        interface=found.interface,
        orphan_grace_s=found.orphan_grace,
        nodes=found.nodes,
    )
