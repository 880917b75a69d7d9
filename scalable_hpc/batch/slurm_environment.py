"""The environments that Slurm's commands are run in.

Rule 1: pure. Variables that would change what a command prints, selects or submits behind our back are taken out;
everything else of the user's is left, since sbatch hands the environment on to the job.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMMAND_DEFAULTS = ("SQUEUE_", "SACCT_", "SCANCEL_")
"""SQUEUE_PARTITION hides jobs, SQUEUE_FORMAT changes columns, SCANCEL_INTERACTIVE asks a question nobody answers."""

_OURS_TO_SAY = frozenset(
    f"SBATCH_{name}"
    for name in (
        "ARRAY_INX", "CLUSTERS", "ERROR", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "REQUEUE", "SIGNAL",
        "TIMELIMIT", "WAIT",
    )
)  # fmt: skip
"""sbatch lets these win over the script's own lines, and the script is what the plan has shown."""

_OF_AN_ENCLOSING_JOB = tuple(
    f"SLURM_{name}"
    for name in (
        "ARRAY", "CPU", "DISTRIBUTION", "EXPORT_ENV", "GPU", "GTIDS", "HET_", "JOB", "LAUNCH", "LOCALID", "MEM_",
        "NNODES", "NODE", "NPROCS", "NTASKS", "PRIO_PROCESS", "PROCID", "RESTART_COUNT", "SCRIPT_CONTEXT", "SRUN",
        "STEP", "SUBMIT", "TASK", "THREADS", "TOPOLOGY", "TRES",
    )
)  # fmt: skip
"""A driver that is a job itself must not hand its own job id, end time or memory per node to the jobs it submits."""


def query_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of squeue, sacct, scontrol and scancel: plain words, times in seconds since the epoch."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_COMMAND_DEFAULTS)}
    # TZ only matters to a Slurm that does not heed SLURM_TIME_FORMAT: its ISO times are then in UTC.
    return {**kept, "LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}


def submit_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of sbatch, which becomes the job's: the user's locale and time zone stay in it."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _OURS_TO_SAY and not name.startswith(_OF_AN_ENCLOSING_JOB)
    }
