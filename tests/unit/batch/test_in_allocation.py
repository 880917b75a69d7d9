"""The nodes of the driver's own job as a batch system."""

from __future__ import annotations

import asyncio

import pytest

from scalable_hpc.batch.in_allocation import InAllocationBackend, OwnJob, own_job
from scalable_hpc.errors import MissingCommandError, SiteError
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState
from tests.waiting import wait_until

JOB = OwnJob("4711", "1", ("nid1", "nid2", "nid3"))
SCRIPT = "#!/bin/bash\n#LOCAL job-name=scalable-RUN-{name}\n#LOCAL cpus={nodes}\n#LOCAL output={output}\n{body}\n"


class Host:
    """The batch system of the driver's job."""

    name = "slurm"

    def __init__(self):
        self.jobs = {"4711": JobObservation("4711", JobState.RUNNING, "RUNNING", ends_at=5000.0, restarts=1)}
        self.asked = []

    async def status(self, job_ids):
        self.asked.append(list(job_ids))
        return {job_id: self.jobs.get(job_id, JobObservation(job_id, JobState.UNKNOWN, "")) for job_id in job_ids}


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def backend(host, tmp_path):
    return InAllocationBackend(host, JOB, tmp_path / "spool", find_command=lambda name: name)


def look(backend, job_id):
    return asyncio.run(backend.status([job_id]))[job_id]


def submit(backend, tmp_path, name, *, nodes=1, body="while [ ! -e enough ]; do sleep 0.02; done"):
    script = tmp_path / f"{name}.sh"
    output = tmp_path / f"{name}.log"
    script.write_text(SCRIPT.format(name=name, nodes=nodes, output=output, body=f"cd {tmp_path}\n{body}"))
    return asyncio.run(backend.submit(script))


def test_that_slurm_tells_the_job_that_we_are_in():
    """By its id, by how often it was restarted, and with every node of it."""
    environ = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "nid[001-003],gpu1", "SLURM_RESTART_COUNT": "2"}

    assert own_job("slurm", environ) == OwnJob("17", "2", ("nid001", "nid002", "nid003", "gpu1"))
    assert own_job("slurm", {}) is None


def test_that_a_member_of_an_array_knows_itself_by_the_arrays_id():
    """squeue prints it so; ``SLURM_JOB_ID`` is a number that only Slurm uses."""
    environ = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "nid1", "SLURM_ARRAY_JOB_ID": "15"}

    assert own_job("slurm", environ | {"SLURM_ARRAY_TASK_ID": "3"}) == OwnJob("15_3", "0", ("nid1",))


def test_that_pbs_tells_the_job_that_we_are_in(tmp_path):
    """Its node file has a line for each chunk; written again, the job is another incarnation."""
    path = tmp_path / "nodes"
    path.write_text("nid1\nnid1\nnid2\n")
    environ = {"PBS_JOBID": "17.server", "PBS_NODEFILE": str(path)}
    job = own_job("pbs", environ)

    assert (job.job_id, job.nodes) == ("17.server", ("nid1", "nid2"))
    assert own_job("pbs", {"PBS_JOBID": "17.server", "PBS_NODEFILE": str(tmp_path / "gone")}) is None


def test_that_each_allocation_has_nodes_of_its_own(backend, tmp_path):
    """One that finds too few free waits, and gets those of one that ended; a real queue, with real processes."""
    running = [submit(backend, tmp_path, name) for name in ("a0001", "a0002")]
    wait_until("both run", lambda: all(look(backend, each).state is JobState.RUNNING for each in running), timeout=20)
    wide = submit(backend, tmp_path, "a0003", nodes=2, body='echo "$SCALABLE_HPC_PLACES" >told')
    waiting = look(backend, wide)
    nodes = [look(backend, each).nodes for each in running]
    asyncio.run(backend.cancel([running[0]]))
    wait_until("the wide one has run", lambda: look(backend, wide).state is JobState.ENDED, timeout=20)
    (tmp_path / "enough").touch()
    wait_until("all are over", lambda: look(backend, running[1]).state is JobState.ENDED, timeout=20)

    assert waiting.state is JobState.PENDING
    assert nodes == [("nid1",), ("nid2",)]
    assert (tmp_path / "told").read_text() == "nid1,nid3\n"
    assert look(backend, wide).nodes == ("nid1", "nid3")


def test_that_an_allocation_ends_when_the_job_does(backend, tmp_path):
    """The batch system's word on the job, which may change, is the only one on its end."""
    job_id = submit(backend, tmp_path, "a0001")
    wait_until("it runs", lambda: look(backend, job_id).state is JobState.RUNNING, timeout=20)
    seen = look(backend, job_id)
    found = asyncio.run(backend.find("RUN"))
    asyncio.run(backend.cancel([job_id]))
    wait_until("it ended", lambda: look(backend, job_id).state is JobState.ENDED, timeout=20)

    assert (seen.job_id, seen.ends_at) == (job_id, 5000.0)
    assert [one.job_id for one in found] == [job_id] == ["local-1@4711.1"]
    assert asyncio.run(backend.find("RUN")) == []


@pytest.mark.parametrize(
    ("job_id", "host_says", "state", "reason"),
    [
        ("local-1@4711.0", None, JobState.ENDED, ExitReason.REQUEUED),
        (
            "local-1@4700.0",
            JobObservation(
                "4700", JobState.ENDED, "TIMEOUT", nodes=("x",), ending=JobEnding(ExitReason.TIMEOUT, "TIMEOUT")
            ),
            JobState.ENDED,
            ExitReason.TIMEOUT,
        ),
        ("local-1@4700.0", JobObservation("4700", JobState.RUNNING, "RUNNING"), JobState.RUNNING, None),
        (
            "local-1@4700.0",
            JobObservation("4700", JobState.RUNNING, "RUNNING", restarts=1),
            JobState.ENDED,
            ExitReason.REQUEUED,
        ),
        ("local-1@4700.0", JobObservation("4700", JobState.PENDING, "PENDING"), JobState.ENDED, ExitReason.REQUEUED),
        ("local-1@4700.0", JobObservation("4700", JobState.UNKNOWN, ""), JobState.UNKNOWN, None),
        ("nonsense@", None, JobState.UNKNOWN, None),
    ],
    ids=["before a requeue", "of a job that ended", "of one that runs", "requeued since", "waits", "gone", "no id"],
)
def test_that_an_allocation_of_another_job_is_what_became_of_that(backend, host, job_id, host_says, state, reason):
    """Steps end with their job; the job's own reason is theirs."""
    if host_says is not None:
        host.jobs[host_says.job_id] = host_says
    seen = look(backend, job_id)
    asyncio.run(backend.cancel([job_id]))

    assert (seen.job_id, seen.state) == (job_id, state)
    assert (seen.ending and seen.ending.reason) == reason
    assert seen.nodes == ()


def test_that_outside_of_a_job_nothing_can_be_had(host, tmp_path):
    """What is missing is named, and what to do."""
    with pytest.raises(SiteError, match=r"in no job of slurm: \$SLURM_JOB_ID is not set") as caught:
        InAllocationBackend(host, None, tmp_path).check()
    assert "scalable-hpc submit" in (caught.value.hint or "")
    with pytest.raises(MissingCommandError, match="'srun' is not on PATH"):
        InAllocationBackend(host, JOB, tmp_path, find_command=lambda _: None).check()
