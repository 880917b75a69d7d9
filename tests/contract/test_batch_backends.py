"""What every batch system must do alike: the same laws on Local, on a real Slurm, on PBS's stand-ins.

With ``--pbs`` on a real PBS too: on that, tests that take nodes away or fill the machine are skipped.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.batch.pbs import PbsBackend
from scalable_hpc.batch.pbs_text import never_runs
from scalable_hpc.batch.slurm import SlurmBackend, SlurmCommands
from scalable_hpc.errors import BatchSilent, LimitRefused, PartitionRefused, SubmissionDeferred, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState
from tests.waiting import wait_until

LIFE = (JobState.PENDING, JobState.RUNNING, JobState.ENDING, JobState.ENDED)
RUN = "20261122T084512Z-ab12cd"
FOREVER = "while :; do sleep 0.1; done"


class Bed:
    """A batch system to try, and what a test does to it from outside; subclasses know its script header and faults."""

    prefix: str
    dashes: str
    patience_s: float
    stranger: str
    """The id of a job that never was."""
    comment = "run of the laws"
    """What the batch system keeps of the script's comment."""
    reasons = re.compile("Resources|Priority")
    """Why a job has to wait for a machine that is full."""
    finds_orphans = True
    """Whether a job's child is its own also after the parent has ended; Slurm needs cgroups for that."""
    detached = "setsid "
    """What a script may do to a child, and the batch system's cancelling gets it all the same."""
    keeps_history = True
    """Whether the end of a script that could not speak for itself is known."""
    refuses_at_once = True
    """What no node can ever satisfy; else the job waits, and says that it will for ever."""

    def __init__(self, backend: BatchBackend, directory: Path) -> None:
        self.backend = backend
        self.directory = directory
        self.submitted: list[str] = []

    def header(self, name: str, walltime_s: int, cpus: int) -> list[str]:
        raise NotImplementedError

    def expire(self, job_id: str) -> None:
        raise NotImplementedError

    def lose_node(self, job_id: str) -> None:
        raise NotImplementedError

    def fill(self) -> str:
        """Take the whole machine, so that the next job has to wait."""
        raise NotImplementedError

    def unstartable(self) -> Path:
        """A script that the batch system takes and cannot start: its output cannot be written."""
        script = self.script("true")
        lines = [line for line in script.read_text().splitlines() if "output" not in line]
        script.write_text(
            "\n".join([lines[0], f"{self.prefix} {self.dashes}output=/no/such/place/out", *lines[1:], ""])
        )
        return script

    def script(self, body: str, name: str = "scalable-x-a1", *, walltime_s: int = 600, cpus: int = 1, more=()) -> Path:
        lines = ["#!/bin/bash", *self.header(name, walltime_s, cpus), *(f"{self.prefix} {line}" for line in more)]
        path = self.directory / f"{name}.sh"
        path.write_text("\n".join([*lines, body, ""]))
        return path

    def submit(self, body: str, name: str = "scalable-x-a1", **options) -> str:
        job_id = asyncio.run(self.backend.submit(self.script(body, name, **options)))
        self.submitted.append(job_id)
        return job_id

    def look(self, *job_ids: str) -> list[JobObservation]:
        seen = asyncio.run(self.backend.status(job_ids))
        return [seen[job_id] for job_id in job_ids]

    def cancel(self, *job_ids: str) -> None:
        asyncio.run(self.backend.cancel(job_ids))

    def wait_for(self, job_id: str, *states: JobState) -> JobObservation:
        return wait_until(
            f"{job_id} is {states}",
            lambda: (seen := self.look(job_id)[0]).state in states and seen,
            timeout=self.patience_s,
            every=0.05,
        )

    def wait_for_end(self, job_id: str):
        return self.wait_for(job_id, JobState.ENDED).ending


class LocalBed(Bed):
    prefix, dashes, stranger = "#LOCAL", "", "local-999"
    patience_s = 20.0

    def __init__(self, directory: Path) -> None:
        super().__init__(LocalBackend(directory / "spool", cpus=4, kill_wait_s=0.5), directory)

    def header(self, name: str, walltime_s: int, cpus: int) -> list[str]:
        asked = {"job-name": name, "comment": "run of the laws", "walltime": walltime_s, "cpus": cpus}
        asked["output"] = self.directory / f"{name}.out"
        return [f"#LOCAL {key}={value}" for key, value in asked.items()]

    def submit_to_expire(self) -> str:
        return self.submit(FOREVER, walltime_s=1)

    def expire(self, job_id: str) -> None:
        """Its second is over soon enough."""

    def lose_node(self, job_id: str) -> None:
        self.backend.lose_node(job_id)

    def fill(self) -> str:
        return self.submit(FOREVER, "scalable-x-filler", cpus=4)

    def close(self) -> None:
        self.cancel(*self.submitted)
        self.backend.close()


class SlurmBed(Bed):
    prefix, dashes, stranger = "#SBATCH", "--", "99999999"
    patience_s = 90.0

    def __init__(self, rig, directory: Path) -> None:
        super().__init__(SlurmBackend(), directory)
        self.rig = rig
        self.finds_orphans = rig.settings.memory_limit == "cgroup"

    def header(self, name: str, walltime_s: int, cpus: int) -> list[str]:
        minutes = -(-walltime_s // 60)
        options = [f"--job-name={name}", "--comment='run of the laws'", f"--time={minutes}", f"--cpus-per-task={cpus}"]
        options += ["--nodes=1", "--no-requeue", f"--output={self.directory}/{name}.out"]
        return [f"#SBATCH {option}" for option in options]

    def submit_to_expire(self) -> str:
        return self.submit(FOREVER, walltime_s=60)

    def expire(self, job_id: str) -> None:
        """Bring the end of the walltime forward: Slurm counts in minutes, and looks every 30 s."""
        self.rig.run(["scontrol", "update", f"jobid={job_id}", "TimeLimit=0"])

    def lose_node(self, job_id: str) -> None:
        self.rig.node("fail", self.look(job_id)[0].nodes[0])

    def fill(self) -> str:
        return self.submit(FOREVER, "scalable-x-filler", more=["--nodes=4", "--exclusive"])

    def close(self) -> None:
        """The rig is reset before the next test."""


class PbsBed(Bed):
    """Two nodes of four cpus, which are this machine."""

    prefix, dashes, stranger = "#PBS", "-", "99999999.pbshead"
    patience_s = 20.0
    comment = ""  # jobs of PBS have none of their own: its comment is the scheduler's
    reasons = re.compile(r"Not Running: Insufficient amount of resource: ncpus ?")
    detached = ""  # PBS follows sessions
    refuses_at_once = False

    def __init__(self, rig, directory: Path) -> None:
        super().__init__(PbsBackend(), directory)
        self.rig = rig

    def header(self, name: str, walltime_s: int, cpus: int) -> list[str]:
        options = [f"-N {name}", f"-l select=1:ncpus={cpus}", f"-l walltime={walltime_s}", "-j oe", "-r n"]
        return [f"#PBS {option}" for option in [*options, f"-o {self.directory}/{name}.out"]]

    def unstartable(self) -> Path:
        """The shell that it asks for is not there; of an output that cannot be written PBS says nothing."""
        return self.script("true", more=["-S /no/such/shell"])

    def submit_to_expire(self) -> str:
        return self.submit(FOREVER, walltime_s=1)

    def expire(self, job_id: str) -> None:
        """Its second is over soon enough."""

    def lose_node(self, job_id: str) -> None:
        self.rig.control("lose-node", self.look(job_id)[0].nodes[0])

    def fill(self) -> str:
        return self.submit(FOREVER, "scalable-x-filler", more=["-l select=2:ncpus=4", "-l place=scatter"])

    def close(self) -> None:
        self.cancel(*self.submitted)


class RealPbsBed(PbsBed):
    """Whoever's it is: nothing is done to it that a user could not do."""

    patience_s = 600.0  # its scheduler may take a cycle, and it looks at walltimes every ten seconds to two minutes

    def __init__(self, rig, directory: Path) -> None:
        super().__init__(rig, directory)
        self.stranger = f"9999999.{rig.seen.server}"
        self.backend.endings = directory / "endings"

    @property
    def keeps_history(self) -> bool:
        return self.rig.seen.keeps_history

    def script(self, body: str, name: str = "scalable-x-a1", **options) -> Path:
        """As our own scripts do, it leaves its exit code, since this PBS may keep no history."""
        leave = f"mkdir -p {self.directory}/endings; trap 'echo \"exit $?\" >{self.directory}/endings/$PBS_JOBID' EXIT"
        return super().script(f"{leave}\n{body}", name, **options)

    def header(self, name: str, walltime_s: int, cpus: int) -> list[str]:
        return [*super().header(name, walltime_s, cpus), *(f"#PBS {option}" for option in self.rig.options)]

    def lose_node(self, job_id: str) -> None:
        pytest.skip("no user can take a node away")

    def fill(self) -> str:
        pytest.skip("the machine is not ours to fill")


@pytest.fixture(
    params=[
        "local",
        pytest.param("slurm", marks=pytest.mark.slurm),
        pytest.param("pbs", marks=pytest.mark.pbs),
        pytest.param("real_pbs", marks=pytest.mark.real_pbs),
    ]
)
def bed(request, tmp_path):
    if request.param == "local":
        bed: Bed = LocalBed(tmp_path)
    else:
        kind = {"slurm": SlurmBed, "pbs": PbsBed, "real_pbs": RealPbsBed}[request.param]
        bed = kind(request.getfixturevalue(request.param), tmp_path)
    yield bed
    bed.close()


@pytest.fixture
def slurm_bed(slurm, tmp_path):
    return SlurmBed(slurm, tmp_path)


def test_that_a_job_lives_forwards_and_tells_its_life(bed):
    """Waiting, running, ending, over, never back; with name, comment, times, node and exit code."""
    bed.backend.check()
    before = time.time()
    job_id = bed.submit("sleep 1; echo done", f"scalable-{RUN}-a0001")
    seen = [bed.look(job_id)[0]]
    while seen[-1].state is not JobState.ENDED:
        seen.append(bed.look(job_id)[0])
        assert time.time() - before < bed.patience_s
    steps = [LIFE.index(one.state) for one in seen]
    running = next(one for one in seen if one.state is JobState.RUNNING)
    last = seen[-1]

    assert steps == sorted(steps)
    assert (last.name, last.comment, last.job_id) == (f"scalable-{RUN}-a0001", bed.comment, job_id)
    assert (last.ending.reason, last.ending.exit_code, last.ending.signal) == (ExitReason.COMPLETED, 0, None)
    assert before - 2 <= last.submitted_at <= last.started_at <= last.ending.ended_at <= time.time() + 2
    assert len(running.nodes) == 1
    assert last.ending.nodes == running.nodes
    assert running.ends_at == pytest.approx(running.started_at + 600, abs=1)
    assert all(one.started_at is None and one.ends_at is None for one in seen if one.state is JobState.PENDING)
    assert (bed.directory / f"scalable-{RUN}-a0001.out").read_text().splitlines()[-1] == "done"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("exit 3", (ExitReason.FAILED, 3, None)),
        ("exit 200", (ExitReason.FAILED, 200, None)),
        ("kill -SEGV $$", (ExitReason.FAILED, None, 11)),
    ],
)
def test_that_a_failure_tells_exit_code_or_signal(bed, body, expected):
    """The judge needs to know which."""
    if expected[2] and not bed.keeps_history:
        pytest.skip("this PBS keeps no history (job_history_enable): of a script that was killed it tells nothing")
    ending = bed.wait_for_end(bed.submit(body))

    assert (ending.reason, ending.exit_code, ending.signal) == expected


def test_that_a_script_that_could_not_be_started_is_told_apart(bed):
    """The script never ran."""
    if not bed.keeps_history:
        pytest.skip("this PBS keeps no history (job_history_enable): of a script that never ran it tells nothing")
    job_id = asyncio.run(bed.backend.submit(bed.unstartable()))

    assert bed.wait_for_end(job_id).reason is ExitReason.LAUNCH_FAILED


def test_that_a_running_job_can_be_cancelled(bed):
    """It ends CANCELLED, and a child of it that is deaf to signals, and set apart, is gone too."""
    if not bed.finds_orphans:
        pytest.skip("this Slurm has no cgroups: it loses sight of children whose parent has ended")
    alive = bed.directory / "alive"
    deaf = f"trap '' TERM HUP; while :; do echo $EPOCHREALTIME > {alive}; sleep 0.1; done"
    job_id = bed.submit(f"{bed.detached}bash -c {shlex.quote(deaf)} & {FOREVER}")
    wait_until("it runs", alive.exists, timeout=bed.patience_s)
    bed.cancel(job_id)

    assert bed.wait_for_end(job_id).reason is ExitReason.CANCELLED
    alive.unlink()
    time.sleep(0.5)  # five times its breath; there is no event for what does not happen
    assert not alive.exists()


def test_that_a_waiting_job_can_be_cancelled(bed):
    """It never ran: no node, no start."""
    bed.wait_for(bed.fill(), JobState.RUNNING)
    job_id = bed.submit(f"touch {bed.directory}/ran")
    waiting = bed.wait_for(job_id, JobState.PENDING)
    bed.cancel(job_id)
    ending = bed.wait_for_end(job_id)

    assert waiting.ending is None
    assert (ending.reason, ending.nodes) == (ExitReason.CANCELLED, ())
    assert not (bed.directory / "ran").exists()


def test_that_a_waiting_job_says_why(bed):
    """The batch system's own word, once its scheduler has looked."""
    bed.wait_for(bed.fill(), JobState.RUNNING)
    job_id = bed.submit("true")

    seen = wait_until("a reason", lambda: bed.look(job_id)[0].because and bed.look(job_id)[0], timeout=20)
    assert bed.reasons.fullmatch(seen.because)


def test_that_an_unknown_job_is_unknown_and_no_error(bed):
    """Alone and among others; cancelling it neither."""
    stranger = bed.stranger
    known = bed.submit(FOREVER)
    bed.cancel(stranger)

    assert bed.look(stranger)[0].state is JobState.UNKNOWN
    assert [one.job_id for one in bed.look(known, stranger)] == [known, stranger]
    assert bed.look(known, stranger)[1].ending is None


def test_that_the_jobs_of_a_run_are_found_while_they_are_not_over(bed):
    """Those that wait and those that run, not the ended, not another run's."""
    over = bed.submit("true", f"scalable-{RUN}-a0001")
    bed.wait_for_end(over)
    other = bed.submit(FOREVER, f"scalable-{RUN}x-a0001")
    runs = bed.submit(FOREVER, f"scalable-{RUN}-a0002")
    for job_id in (other, runs):
        bed.wait_for(job_id, JobState.RUNNING)
    bed.fill()
    waits = bed.submit(FOREVER, f"scalable-{RUN}-a0003")
    found = asyncio.run(bed.backend.find(RUN))

    assert sorted(one.job_id for one in found) == sorted([runs, waits])
    assert {one.name for one in found} == {f"scalable-{RUN}-a0002", f"scalable-{RUN}-a0003"}
    assert asyncio.run(bed.backend.find("nobodys")) == []


@pytest.mark.timeout(240)
def test_that_walltime_ends_a_job(bed):
    """TIMEOUT, whatever its processes did about it."""
    job_id = bed.submit_to_expire()
    bed.wait_for(job_id, JobState.RUNNING, JobState.ENDING, JobState.ENDED)
    bed.expire(job_id)

    assert bed.wait_for_end(job_id).reason is ExitReason.TIMEOUT


def test_that_a_lost_node_ends_its_jobs(bed):
    """NODE_FAIL, on the node that was lost."""
    job_id = bed.submit(FOREVER)
    nodes = bed.wait_for(job_id, JobState.RUNNING).nodes
    bed.lose_node(job_id)
    ending = bed.wait_for_end(job_id)

    assert (ending.reason, ending.nodes) == (ExitReason.NODE_FAIL, nodes)


def test_that_too_much_is_refused_at_once_or_known_to_wait_for_ever(bed):
    """A request that no node can ever satisfy is an error with the words; or, as PBS has it, a job that says so."""
    try:
        job_id = bed.submit("true", cpus=999)
    except LimitRefused:
        return
    assert not bed.refuses_at_once
    wait_until("a word", lambda: never_runs(bed.look(job_id)[0].because), timeout=bed.patience_s)


def test_that_a_script_without_an_interpreter_is_refused(bed):
    """It is no batch script."""
    script = bed.directory / "plain.txt"
    script.write_text("echo\n")

    with pytest.raises(SubmissionError):
        asyncio.run(bed.backend.submit(script))


def test_that_many_jobs_have_many_ids(bed):
    """Submitted together, each is itself."""

    async def submit_all() -> list[str]:
        scripts = [bed.script(FOREVER, f"scalable-x-a{number}") for number in range(8)]
        return await asyncio.gather(*(bed.backend.submit(script) for script in scripts))

    job_ids = asyncio.run(submit_all())
    bed.submitted += job_ids

    assert len(set(job_ids)) == 8
    assert [seen.name for seen in bed.look(*job_ids)] == [f"scalable-x-a{number}" for number in range(8)]


def _program(path: Path, text: str) -> str:
    path.write_text("#!/bin/bash\n" + text + "\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slurm
def test_that_a_sites_banner_hides_no_job_id(slurm_bed):
    """Sites wrap sbatch to greet their users."""
    banner = "echo '==== 3 nodes are down ===='; echo 12; sbatch \"$@\"; rc=$?; echo; exit $rc"
    slurm_bed.backend.commands = SlurmCommands(sbatch=_program(slurm_bed.directory / "greeting", banner))
    job_id = slurm_bed.submit("exit 4")

    assert slurm_bed.wait_for_end(job_id).exit_code == 4


@pytest.mark.slurm
def test_that_accounting_tells_the_end_once_the_controller_forgot(slurm_bed):
    """As after MinJobAge: here squeue says nothing from the start."""
    job_id = slurm_bed.submit("exit 5")
    slurm_bed.wait_for_end(job_id)
    slurm_bed.backend.commands = SlurmCommands(squeue=_program(slurm_bed.directory / "silent", "exit 0"))
    ending = slurm_bed.wait_for_end(job_id)

    assert (ending.reason, ending.exit_code, slurm_bed.backend.accounting) == (ExitReason.FAILED, 5, "on")


@pytest.mark.slurm
@pytest.mark.slow
def test_that_accounting_that_comes_late_ends_a_job_when_it_comes(slurm_bed):
    """Until then the job is unknown: the controller has forgotten it, as after MinJobAge, and slurmdbd is away."""
    slurm_bed.rig.daemon("kill", "slurmdbd")
    try:
        job_id = slurm_bed.submit("exit 5")
        slurm_bed.wait_for_end(job_id)
        slurm_bed.backend.commands = SlurmCommands(squeue=_program(slurm_bed.directory / "silent", "exit 0"))
        late = slurm_bed.look(job_id)[0]
    finally:
        slurm_bed.rig.daemon("start", "slurmdbd")
    first = slurm_bed.wait_for_end(job_id)
    told = wait_until("the exit code is told too", lambda: slurm_bed.look(job_id)[0].ending.exit_code, timeout=30)

    assert (late.state, late.because) == (
        JobState.UNKNOWN, "the controller does not know the job; accounting is silent",
    )  # fmt: skip
    assert (first.reason, told) == (ExitReason.FAILED, 5)


@pytest.mark.slurm
def test_that_a_cluster_without_accounting_tells_ends_too(slurm_bed):
    """squeue and scontrol do, while the controller remembers."""
    slurm_bed.backend.commands = SlurmCommands(sacct="no-such-sacct")
    job_id = slurm_bed.submit("exit 6")
    ending = slurm_bed.wait_for_end(job_id)

    assert (ending.reason, ending.exit_code) == (ExitReason.FAILED, 6)
    assert slurm_bed.look("99999999")[0].state is JobState.UNKNOWN
    assert slurm_bed.backend.accounting == "off"


@pytest.mark.slurm
def test_that_refusals_are_told_apart(slurm_bed):
    """Partition, limit, for good, not now: with Slurm's own words."""
    with pytest.raises(PartitionRefused, match="nosuch"):
        slurm_bed.submit("true", more=["--partition=nosuch"])
    with pytest.raises(LimitRefused, match="time limit"):
        slurm_bed.submit("true", walltime_s=864000, more=["--partition=debug"])
    with pytest.raises(SubmissionError, match="--no-such-option"):
        slurm_bed.submit("true", more=["--no-such-option"])
    for number in range(3):
        slurm_bed.submit(FOREVER, f"scalable-x-a{number}", more=["--qos=limited"])
    with pytest.raises(SubmissionDeferred, match="QOSMaxSubmitJobPerUserLimit"):
        slurm_bed.submit(FOREVER, "scalable-x-a3", more=["--qos=limited"])


@pytest.mark.slurm
@pytest.mark.timeout(120)
def test_that_a_controller_that_hangs_or_is_gone_is_silence(slurm_bed):
    """Nothing ends by it, and afterwards everything is known again."""
    job_id = slurm_bed.submit(FOREVER)
    slurm_bed.wait_for(job_id, JobState.RUNNING)
    other = slurm_bed.submit(FOREVER, "scalable-x-a2")
    slurm_bed.backend.commands = replace(SlurmCommands(), query_timeout_s=3, cancel_timeout_s=3)
    slurm_bed.rig.daemon("hang", "slurmctld")
    with pytest.raises(BatchSilent):
        slurm_bed.look(job_id)
    with pytest.raises(BatchSilent):
        slurm_bed.cancel(other)  # which may still be obeyed later: the request is on its way
    slurm_bed.rig.daemon("unhang", "slurmctld")
    wait_until("it answers", lambda: _answers(slurm_bed, job_id), timeout=30)
    slurm_bed.backend.commands = SlurmCommands()
    slurm_bed.rig.daemon("kill", "slurmctld")
    with pytest.raises(SubmissionDeferred, match="contact slurm controller"):
        slurm_bed.submit("true", "scalable-x-a3")
    slurm_bed.rig.daemon("start", "slurmctld")

    assert wait_until("it answers", lambda: _answers(slurm_bed, job_id), timeout=30)


def _answers(bed: Bed, job_id: str) -> bool:
    try:
        return bed.look(job_id)[0].state is JobState.RUNNING
    except BatchSilent:
        return False


@pytest.mark.slurm
def test_that_a_requeued_job_waits_again_and_counts_it(slurm_bed):
    """The same id, not ended, one restart more."""
    script = slurm_bed.script(FOREVER)
    script.write_text(script.read_text().replace("--no-requeue", "--requeue"))
    job_id = asyncio.run(slurm_bed.backend.submit(script))
    slurm_bed.wait_for(job_id, JobState.RUNNING)
    slurm_bed.rig.run(["scontrol", "requeue", job_id])
    waiting = slurm_bed.wait_for(job_id, JobState.PENDING)
    again = slurm_bed.wait_for(job_id, JobState.RUNNING)

    assert (waiting.restarts, again.restarts) == (1, 1)
    assert (waiting.ending, waiting.started_at) == (None, None)


@pytest.mark.slurm
def test_that_an_extended_job_tells_its_new_end(slurm_bed):
    """Admins lengthen jobs while they run."""
    job_id = slurm_bed.submit(FOREVER, walltime_s=600)
    before = slurm_bed.wait_for(job_id, JobState.RUNNING)
    slurm_bed.rig.run(["scontrol", "update", f"jobid={job_id}", "TimeLimit=20"])

    assert asyncio.run(slurm_bed.backend.end_time(job_id)) == pytest.approx(before.ends_at + 600, abs=2)


@pytest.mark.slurm
def test_that_members_of_an_array_live_and_end_each_by_itself(slurm_bed):
    """One runs and is requeued under its id, one that waits is cancelled, one is found by the run; no more is said."""
    bed = slurm_bed
    name = f"scalable-{RUN}-a0998+"
    script = bed.script(FOREVER, name, more=["--array=998-1000%1"])
    script.write_text(script.read_text().replace("--no-requeue", "--requeue"))
    array = asyncio.run(bed.backend.submit(script))
    first, second, third = (f"{array}_{index}" for index in (998, 999, 1000))
    running = bed.wait_for(first, JobState.RUNNING)
    bed.cancel(second)
    cancelled = bed.wait_for_end(second)
    waiting = bed.look(third)[0]
    bed.rig.run(["scontrol", "requeue", first])
    again = bed.wait_for(first, JobState.PENDING)
    found = asyncio.run(bed.backend.find(RUN))

    assert (running.name, running.job_id) == (f"scalable-{RUN}-a0998", first)
    assert (cancelled.reason, cancelled.nodes) == (ExitReason.CANCELLED, ())
    assert (waiting.state, waiting.because) == (JobState.PENDING, "JobArrayTaskLimit")
    assert (again.restarts, again.ending) == (1, None)
    assert {first, third} >= {one.job_id for one in found} >= {first}
    with pytest.raises(SubmissionError, match="Invalid job array specification") as caught:
        bed.submit("true", "scalable-x-a1", more=["--array=1-5000"])
    assert "MaxArraySize" in caught.value.hint
