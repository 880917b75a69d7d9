"""When the batch system will end this allocation, and what a warning means: pure decisions and thin probes.

Rule 1: decisions take every input as an argument; only the ``ask_*`` and ``gather_sources`` look at the world.
Rule 2: an unreadable answer is "not known", never "now".
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from scalable_hpc.batch.pbs_text import parse_qstat

MARGIN_SHARE = 0.05
MARGIN_LEAST_S = 3.0
MARGIN_MOST_S = 60.0
"""A worker stops taking work in the last 5 % of its life, at least 3 s and at most a minute: what is placed by
expected runtime should not reach into it, and what has no expected runtime is better started elsewhere."""

NEAR_S = 180.0
"""A warning this close to the end is believed to announce it: the default lead is 120 s, and Slurm may send
``--signal`` up to 60 s early."""

REREAD_EVERY_S = 300.0
"""Administrators extend limits of running jobs; five minutes keeps a hundred workers below one question a second."""

SQUEUE_TIMEOUT_S = 10.0
"""A Slurm command without a controller gives up after 4 to 8 s by itself; longer would delay our answer to SIGTERM."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the allocation ends (seconds since the epoch; None: not known)."""

    at: float | None
    because: str


@dataclass(frozen=True, slots=True)
class DeadlineSources:
    """Everything that may tell the deadline."""

    started_at: float
    declared: str | None = None
    """``SCALABLE_HPC_JOB_END_TIME``: the job script's word, in seconds since the epoch."""
    slurm_env: str | None = None
    """``SLURM_JOB_END_TIME``: set by Slurm from 23.02 on, true at the start of the job only."""
    squeue: str | None = None
    """What ``squeue -o %e`` printed, local time."""
    walltime_s: float | None = None
    qstat: str | None = None
    """What ``qstat -f`` printed of this job: PBS tells start and walltime, and no variable does."""


@dataclass(frozen=True, slots=True)
class WarningAnswer:
    """What to do about a warning signal."""

    retires: bool
    because: str


def _epoch(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and 0 < value < float("inf") else None


def parse_squeue_end(text: str | None) -> float | None:
    """Return the epoch seconds of what ``squeue -o %e`` printed; None for ``N/A``, ``Unknown`` and the like."""
    lines = (text or "").split()
    try:
        return datetime.fromisoformat(lines[0]).timestamp() if lines else None
    except ValueError:
        return None


def parse_qstat_end(text: str | None) -> float | None:
    """Return the epoch seconds of the end of the one job that ``qstat -f`` printed; None when it does not tell."""
    jobs = list(parse_qstat(text or "").values())
    return jobs[0].ends_at if len(jobs) == 1 else None


def decide_deadline(sources: DeadlineSources) -> Deadline:
    """Take the first of: the script's word, what squeue or qstat says now, Slurm's environment, start plus walltime."""
    if (at := _epoch(sources.declared)) is not None:
        return Deadline(at, "SCALABLE_HPC_JOB_END_TIME")
    if (at := parse_squeue_end(sources.squeue)) is not None:
        return Deadline(at, "squeue")
    if (at := parse_qstat_end(sources.qstat)) is not None:
        return Deadline(at, "qstat")
    if (at := _epoch(sources.slurm_env)) is not None:
        return Deadline(at, "SLURM_JOB_END_TIME")
    if sources.walltime_s:
        return Deadline(sources.started_at + sources.walltime_s, "start of the launcher plus --walltime")
    return Deadline(None, "nothing tells when this allocation ends")


def retire_at(deadline: Deadline, *, started_at: float) -> float | None:
    """Return when a worker should stop taking work by itself; None when its end is not known."""
    if deadline.at is None:
        return None
    margin = min(MARGIN_MOST_S, max(MARGIN_LEAST_S, MARGIN_SHARE * (deadline.at - started_at)))
    return deadline.at - margin


def answer_warning(deadline: Deadline, *, now: float) -> WarningAnswer:
    """Tell a warning that announces the end from one that came early."""
    if deadline.at is None:
        return WarningAnswer(True, "warning signal, and the deadline is not known")
    left = deadline.at - now
    if left <= NEAR_S:
        return WarningAnswer(True, f"warning signal {left:.0f} s before the deadline ({deadline.because})")
    return WarningAnswer(False, f"warning signal, but the deadline is {left:.0f} s away ({deadline.because})")


def ask_squeue(job_id: str, *, timeout_s: float = SQUEUE_TIMEOUT_S) -> str | None:
    """Return what squeue prints as the end of a job; None when it cannot be asked in time."""
    return _ask(["squeue", "-h", "-j", job_id, "-o", "%e"], timeout_s, {"SLURM_TIME_FORMAT": "standard"})


def ask_qstat(job_id: str, *, timeout_s: float = SQUEUE_TIMEOUT_S) -> str | None:
    """Return what qstat prints of a job; None when it cannot be asked in time (compute nodes may have no PBS)."""
    return _ask(["qstat", "-f", job_id], timeout_s, {"LC_ALL": "C"})


def _ask(argv: list[str], timeout_s: float, more: Mapping[str, str]) -> str | None:
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, **more}
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: it printed what is no text
        return None
    return answer.stdout if answer.returncode == 0 else None


def gather_sources(
    environ: Mapping[str, str], *, started_at: float, walltime_s: float | None, rereads: bool
) -> DeadlineSources:
    """Collect what tells the deadline; Slurm is asked only where nothing cheaper tells, or when re-reading."""
    declared, slurm_env = environ.get("SCALABLE_HPC_JOB_END_TIME"), environ.get("SLURM_JOB_END_TIME")
    job_id = environ.get("SLURM_JOB_ID")
    asks = job_id is not None and _epoch(declared) is None and (rereads or _epoch(slurm_env) is None)
    pbs_id = environ.get("PBS_JOBID") if job_id is None and _epoch(declared) is None else None
    return DeadlineSources(
        started_at=started_at,
        declared=declared,
        slurm_env=slurm_env,
        squeue=ask_squeue(job_id) if asks and job_id is not None else None,
        walltime_s=walltime_s,
        qstat=ask_qstat(pbs_id) if pbs_id is not None else None,
    )
