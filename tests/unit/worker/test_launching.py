"""What tasks see of the batch system's environment, so that they can start srun and mpiexec."""

from __future__ import annotations

import pytest

from scalable_hpc.errors import SiteError
from scalable_hpc.worker.launching import (
    Party,
    environment_for_tasks,
    launch_words,
    node_file_text,
    own_hosts,
    srun_text,
    system_of,
)

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


PARTY = Party(("nid003", "nid004"), 8, programs="/tmp/w/bin")


def test_that_launchers_find_the_tasks_nodes_and_no_others():
    """What MPI libraries read is as it would be in a job of these nodes alone."""
    seen = environment_for_tasks({**JOB, "SLURM_JOB_NUM_NODES": "4", "SLURM_TASKS_PER_NODE": "1(x4)"}, PARTY)

    assert seen["SLURM_JOB_NODELIST"] == seen["SLURM_NODELIST"] == seen["SCALABLE_HPC_HOSTS"] == "nid003,nid004"
    assert seen["SLURM_JOB_NUM_NODES"] == seen["SLURM_NNODES"] == "2"
    assert seen["SLURM_TASKS_PER_NODE"] == seen["SLURM_JOB_CPUS_PER_NODE"] == "8(x2)"
    assert seen["PATH"] == "/tmp/w/bin:/usr/bin"
    assert seen["SLURM_JOB_ID"] == "17"


def test_that_tasks_that_share_a_node_are_not_bound_to_the_same_cpus():
    """Open MPI would begin at the first core for each of them; a task that has the nodes for itself may be bound."""
    alone, shared = (environment_for_tasks(JOB, Party(("nid002",), 8, slots)) for slots in (1, 4))

    assert "OMPI_MCA_hwloc_base_binding_policy" not in alone
    assert shared["OMPI_MCA_hwloc_base_binding_policy"] == "none"
    assert shared["SLURM_JOB_NODELIST"] == "nid002"
    assert shared["SLURM_TASKS_PER_NODE"] == "8"


def test_that_srun_leaves_the_jobs_other_nodes_alone():
    """By an option, since no variable says it; where there are no others, srun is as it is."""
    text = srun_text("/opt/slurm dir/srun", PARTY, JOB)

    assert text == "#!/bin/sh\nexec '/opt/slurm dir/srun' --exclude=nid001,nid002 \"$@\"\n"
    assert srun_text("srun", PARTY, {"SLURM_JOB_NODELIST": "nid[003-004]"}) is None
    assert srun_text("srun", PARTY, {"SLURM_JOB_NODELIST": "something else"}) is None


def test_that_pbs_has_a_line_for_each_rank():
    """As in a node file of its own."""
    assert node_file_text(Party(("a", "b"), 2)) == "a\na\nb\nb\n"
    seen = environment_for_tasks({"PBS_JOBID": "1", "PBS_NODEFILE": "/all"}, Party(("a",), 2, node_file="/mine"))
    assert seen["PBS_NODEFILE"] == "/mine"


@pytest.mark.parametrize(
    ("environ", "node", "count", "expected"),
    [
        ({"SLURM_JOB_NODELIST": "nid[001-004]"}, "nid003", 2, ("nid003", "nid004")),
        ({"SLURM_JOB_NODELIST": "nid[001-004]"}, "nid003", 1, ("nid003",)),
        ({"SLURM_JOB_NODELIST": "nid[1-9]", "SCALABLE_HPC_PLACES": "nid5,nid7"}, "nid5", 2, ("nid5", "nid7")),
        ({"SCALABLE_HPC_HOSTS": "a-1,a-2,a-3"}, "a", 3, ("a-1", "a-2", "a-3")),
        ({"SCALABLE_HPC_HOSTS": "a-1,a-2,a-3"}, "a", 1, ("a",)),
    ],
)  # fmt: skip
def test_that_a_worker_knows_its_tasks_nodes(environ, node, count, expected):
    """Those that follow its own in the allocation, or those that its script says."""
    assert own_hosts(environ, node=node, count=count) == expected


@pytest.mark.parametrize("environ", [{"SLURM_JOB_NODELIST": "nid[001-004]"}, {}], ids=["the last node", "no nodes"])
def test_that_a_worker_without_its_nodes_is_an_error(environ):
    """It says which there are."""
    with pytest.raises(SiteError, match="'nid004' is to have 2 nodes, and the allocation has"):
        own_hosts(environ, node="nid004", count=2)


@pytest.mark.parametrize(
    ("program", "ranks", "environ", "expected"),
    [
        (None, None, JOB, ["srun", "-n", "16", "--nodes=2", "--nodelist=nid003,nid004"]),
        (None, 1, JOB, ["srun", "-n", "1", "--nodes=1", "--nodelist=nid003"]),
        (None, 4, {}, ["mpiexec", "-n", "4"]),
        ("/opt/bin/srun", 2, JOB, ["/opt/bin/srun", "-n", "2", "--nodes=2", "--nodelist=nid003,nid004"]),
        ("mpiexec.hydra", None, JOB, ["mpiexec.hydra", "-n", "16"]),
        ("mpiexec", 4, {"OMP_NUM_THREADS": "8"}, ["mpiexec", "-n", "4", "env", "OMP_NUM_THREADS=4"]),
        ("mpiexec", 4, {"OMP_NUM_THREADS": "3"}, ["mpiexec", "-n", "4"]),
    ],
)
def test_that_the_words_before_a_program_name_ranks_and_nodes(program, ranks, environ, expected):
    """And share the cpus out among the ranks' threads, unless the user has said how many there are to be."""
    assert launch_words(program, ranks=ranks, hosts=PARTY.hosts, cpus=8, environ=environ) == expected


def test_that_a_local_job_is_nobodys_even_inside_a_batch_job():
    """It may be run in an interactive job, whose nodes are not its own; a step of the driver's own job is."""
    inside = {"SCALABLE_HPC_JOB_ID": "local-1", "SCALABLE_HPC_PLACES": "nid001", **JOB}

    assert system_of({"SCALABLE_HPC_JOB_ID": "local-1", **JOB}) == ""
    assert system_of(inside) == system_of(JOB) == "slurm"
    assert system_of({"PBS_JOBID": "1"}) == "pbs"
