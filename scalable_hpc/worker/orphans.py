"""Ends the ranks that a task had started with ``srun`` and that outlived it.

A task that is killed takes its ``srun`` along, which has no time to tell Slurm: its ranks run on, beside those of the
task that has these nodes next.

Rule 1: a step is ended only where the process that had started it was on this node and is gone. In a container with
process numbers of its own nothing can be told, and nothing is ended.
"""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from scalable_hpc.worker.launching import system_of

ASK_WITHIN_S = 15.0
_MOMENT_S = 0.5
"""From the slot's death to that of the last process of its family."""
_STEP = re.compile(r"^StepId=(?P<step>\d+\.\d+) .* SrunHost:Pid=(?P<host>[^:\s]+):(?P<pid>[1-9]\d*)", re.MULTILINE)
_SLURMS_OWN = "slurmstepd"

logger = logging.getLogger(__name__)


def orphaned_steps(text: str, names: Collection[str], is_there: Callable[[int], bool]) -> tuple[str, ...]:
    """Return the steps that ``scontrol -o show steps`` tells of and whose ``srun`` is gone.

    Args:
        text: what it printed.
        names: those of this node.
        is_there: whether a process of this node lives.
    """
    found = _STEP.finditer(text)
    return tuple(one["step"] for one in found if one["host"] in names and not is_there(int(one["pid"])))


def ender_in(environ: Mapping[str, str], node: str) -> Callable[[], None] | None:
    """Return what ends the orphaned steps of this job; None: it is no job of Slurm, or nothing can be told here."""
    job_id = environ.get("SLURM_JOB_ID")
    if job_id is None or system_of(environ) != "slurm" or not _sees_slurm():
        return None
    names = {node, socket.gethostname()}
    return lambda: _end_orphans(job_id, names)


def _end_orphans(job_id: str, names: Collection[str]) -> None:
    time.sleep(_MOMENT_S)
    said = _said(["scontrol", "-o", "show", "steps", job_id])
    if steps := orphaned_steps(said, names, _is_there):
        logger.info("Ends what a task has left running: %s", ", ".join(steps))
        _said(["scancel", *steps])


def _sees_slurm() -> bool:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == _SLURMS_OWN:
                return True
    return False


def _is_there(pid: int) -> bool:
    """Whether a process lives; one that is dead and was not reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return state[:1] != ["Z"]


def _said(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_WITHIN_S, check=False)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout
