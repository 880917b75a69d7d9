"""A job script of another batch system, made one that Local runs: the same text, with Local's directives on top."""

from __future__ import annotations

from scalable_hpc.scripts.context import ScriptContext
from scalable_hpc.scripts.render import render_worker

_DIRECTIVE = "#LOCAL"
_JOB_ID = {"slurm": "SLURM_JOB_ID", "pbs": "PBS_JOBID"}
"""What a job of each calls its id; scripts and templates build on it."""


def as_local(text: str, context: ScriptContext, system: str) -> str:
    """Return the script with what Local must be told, and the variable that has a job's id on that system."""
    local = render_worker(context, system="local")
    told = [line for line in local.splitlines() if line.startswith(_DIRECTIVE)]
    known = [f'export {_JOB_ID[system]}="$SCALABLE_HPC_JOB_ID"'] if system in _JOB_ID else []
    first, *rest = text.splitlines()
    comments = [number for number, line in enumerate(rest) if line.strip() and not line.startswith("#")]
    start = comments[0] if comments else len(rest)
    return "\n".join([first, *told, *rest[:start], *known, *rest[start:], ""])
