"""Who a worker is: its name, its place, what it offers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scalable_hpc.model.messages import WorkerHello
from scalable_hpc.version import __version__
from scalable_hpc.worker.options import WorkerOptions

JOB_VARIABLES = ("SCALABLE_HPC_JOB_ID", "SLURM_JOB_ID", "PBS_JOBID")


def first_of(environ: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of these variables that is set and not empty."""
    return next((environ[name] for name in names if environ.get(name)), None)


def worker_name(allocation: str, environ: Mapping[str, str]) -> str:
    """Return the Dask name of a worker: its allocation's, numbered where ``srun`` or a script put one on each node."""
    if number := environ.get("SCALABLE_HPC_NODE_NUMBER"):
        return f"{allocation}-{number}"
    is_one_of_many = environ.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environ
    return f"{allocation}-{environ['SLURM_PROCID']}" if is_one_of_many else allocation


def hello_of(
    options: WorkerOptions, environ: Mapping[str, str], name: str, node: str, recorder: Path, hosts: tuple[str, ...]
) -> WorkerHello:
    """Return what a worker says of itself; its address and its deadline are not known yet."""
    return WorkerHello(
        address="",
        name=name,
        allocation=options.allocation,
        job_id=first_of(environ, JOB_VARIABLES) or "",
        node=node,
        pid=os.getpid(),
        worker_type=options.worker_type,
        slots=options.slots,
        cpus=options.cpus,
        memory=options.memory,
        gpus=options.gpus,
        deadline=None,
        started_at=time.time(),
        recorder=str(recorder),
        version=__version__,
        walltime_s=options.walltime_s,
        hosts=hosts if len(hosts) > 1 else (),
    )
