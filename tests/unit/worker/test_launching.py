"""What tasks see of the batch system's environment, so that they can start srun and mpiexec."""

from __future__ import annotations

import pytest

from scalable_hpc.worker.launching import environment_for_tasks

JOB = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOBID": "17",
    "SLURM_JOB_NODELIST": "nid[001-004]",
    "SLURM_NODELIST": "nid[001-004]",
    "SLURM_CONF": "/etc/slurm.conf",
    "SLURMD_NODENAME": "nid002",
    "SLURM_JOB_ACCOUNT": "crops",
    "OMPI_MCA_btl": "self,vader",
    "PATH": "/usr/bin",
}


@pytest.mark.parametrize(
    "name",
    [
        "PMI_RANK", "PMI_FD", "PMIX_RANK", "PMIX_SERVER_URI41", "PMI2_SPAWNED", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID",
        "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NPROCS",
        "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_CPU_BIND_TYPE",
        "SLURM_DISTRIBUTION", "SRUN_CPUS_PER_TASK", "SLURM_SRUN_COMM_PORT",
    ],
)  # fmt: skip
def test_that_the_workers_own_place_is_not_the_tasks(name):
    """An MPI library would take it for its own rank, srun for an option."""
    assert name not in environment_for_tasks({**JOB, name: "1"})


def test_that_the_job_is_known_to_launchers():
    """Which job it is, on which nodes, and what the user has set."""
    seen = environment_for_tasks(JOB)

    assert {name: seen[name] for name in JOB} == JOB
    assert seen.keys() - JOB.keys() == {"SLURM_OVERLAP", "SLURM_CPU_BIND"}


def test_that_nothing_is_said_of_slurm_elsewhere():
    """On this machine or under PBS the environment is as it was."""
    assert environment_for_tasks({"PATH": "/usr/bin", "PBS_JOBID": "17"}) == {"PATH": "/usr/bin", "PBS_JOBID": "17"}
