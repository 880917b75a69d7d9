"""The environment in which a task can start ``srun`` or ``mpiexec`` by itself; pure.

A worker is itself started by a batch job, often by ``srun``, and what that says of *its* place (rank 0 of 4 on 4 nodes,
one task per node, this PMI server) would be taken by an MPI library for the task's own, and by ``srun`` for options.

Rule 1: what says which job we are in stays, since launchers need it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OF_OUR_STEP = re.compile(
    r"(PMI|PMI2|PMIX)_\w+|OMPI_COMM_WORLD_\w+"
    r"|SLURM_(STEP\w*|STEPID|PROCID|LOCALID|NODEID|GTIDS|TASK_PID|LAUNCH_NODE_IPADDR|SRUN_COMM_\w+|UMASK"
    r"|NTASKS\w*|NPROCS|NNODES|CPUS_PER_TASK|TRES_PER_TASK|MEM_PER_\w+|DISTRIBUTION|CPU_BIND\w*|MEM_BIND\w*"
    r"|KILL_BAD_EXIT|NO_KILL|OVERLAP|EXACT|WHOLE|MPI_TYPE)"
    r"|SRUN_CPUS_PER_TASK|SRUN_DEBUG"
)
_FOR_SRUN = {"SLURM_OVERLAP": "1", "SLURM_CPU_BIND": "none"}
"""The cpus of the job are dealt out by us: ``srun`` must neither wait until they are free, nor pick some itself."""


def environment_for_tasks(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment without what is said of the worker alone."""
    kept = {name: value for name, value in environ.items() if not _OF_OUR_STEP.fullmatch(name)}
    return {**kept, **_FOR_SRUN} if "SLURM_JOB_ID" in environ else kept
