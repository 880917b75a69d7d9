"""What our PBS backend makes of each way in which a PBS ends, loses, holds and forgets jobs; on the stand-ins."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from scalable_hpc.batch.commands import CommandRunner
from scalable_hpc.batch.pbs import IDS_PER_COMMAND, PbsBackend, PbsCommands
from scalable_hpc.batch.pbs_text import never_runs
from scalable_hpc.errors import (
    BatchSilent,
    LimitRefused,
    MissingCommandError,
    PartitionRefused,
    SubmissionDeferred,
    SubmissionError,
)
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState
from tests.waiting import wait_until

FOREVER = "while :; do sleep 0.1; done"
DEAF = f"trap '' TERM; {FOREVER}"
HOG = "exec python3 -c 'x = bytearray(200_000_000); import time; time.sleep(60)'"
PATIENCE_S = 20.0


class Desk:
    """The backend and a directory, at a stand-in PBS."""

    def __init__(self, rig, directory: Path) -> None:
        self.rig, self.directory = rig, directory
        self.backend = PbsBackend(endings=directory / "endings")

    def submit(self, body: str, *more: str, name: str = "scalable-x-a1", rerun: str = "n") -> str:
        lines = ["#!/bin/bash", f"#PBS -N {name}", f"#PBS -r {rerun}", "#PBS -j oe", f"#PBS -o {self.directory}/out"]
        script = self.directory / f"{name}.sh"
        script.write_text("\n".join([*lines, *(f"#PBS {line}" for line in more), body, ""]))
        return asyncio.run(self.backend.submit(script))

    @property
    def gate(self) -> str:
        """Shell code that waits until ``open_gate``."""
        return f"while [ ! -e {self.directory}/go ]; do sleep 0.05; done"

    def open_gate(self) -> None:
        (self.directory / "go").touch()

    def look(self, job_id: str) -> JobObservation:
        return asyncio.run(self.backend.status([job_id]))[job_id]

    def cancel(self, *job_ids: str) -> None:
        asyncio.run(self.backend.cancel(job_ids))

    def wait_for(self, job_id: str, *states: JobState) -> JobObservation:
        return wait_until(
            f"{job_id} is {states}",
            lambda: (seen := self.look(job_id)).state in states and seen,
            timeout=PATIENCE_S,
            every=0.05,
        )

    def end_of(self, job_id: str):
        return self.wait_for(job_id, JobState.ENDED).ending


@pytest.fixture
def desk(pbs, tmp_path):
    return Desk(pbs, tmp_path)


@pytest.mark.parametrize(
    ("settings", "body", "more", "reason", "signal_of"),
    [
        pytest.param({}, FOREVER, ["-l walltime=1"], "TIMEOUT", None, id="walltime"),
        pytest.param({}, DEAF, ["-l walltime=1"], "TIMEOUT", None, id="walltime of a deaf script"),
        pytest.param({"walltime_status": 271}, FOREVER, ["-l walltime=1"], "TIMEOUT", 15, id="walltime of an old PBS"),
        pytest.param({"memory": "enforce"}, HOG, ["-l select=1:mem=50mb"], "OUT_OF_MEMORY", None, id="memory by mom"),
        pytest.param({"memory": "cgroup"}, HOG, ["-l select=1:mem=50mb"], "OUT_OF_MEMORY", 9, id="memory by cgroup"),
        pytest.param({"memory": "none"}, "exit 4", ["-l select=1:mem=1mb"], "FAILED", None, id="memory not enforced"),
        pytest.param({}, "kill -9 $PPID", [], "FAILED", 9, id="its shell killed"),
        pytest.param({}, "kill -USR1 $PPID", [], "FAILED", 10, id="its shell signalled"),
        pytest.param({}, "kill -SEGV $$", [], "FAILED", 11, id="its script killed"),
        pytest.param({}, "exit 254", ["-S /no/such/shell"], "LAUNCH_FAILED", None, id="no such shell"),
        pytest.param({}, "true", ["-W depend=afterok:77"], "CANCELLED", None, id="dependency that cannot be"),
        pytest.param({}, "true", [], "COMPLETED", None, id="exit code 0"),
    ],
)
def test_that_each_end_has_its_reason(desk, settings, body, more, reason, signal_of):
    """As the tables say, of real processes."""
    desk.rig.configure(**settings)
    end = desk.end_of(desk.submit(body, *more))

    assert (end.reason, end.signal) == (ExitReason[reason], signal_of)


def test_that_a_walltime_leaves_pbs_own_words_in_the_output(desk):
    """The line that people look for."""
    desk.end_of(desk.submit(FOREVER, "-l walltime=1"))

    assert "=>> PBS: job killed: walltime" in (desk.directory / "out").read_text()


def test_that_a_deaf_job_is_cancelled_in_the_end(desk):
    """It stays there until SIGKILL, and is told as ending at no time before."""
    desk.rig.configure(kill_delay_s=4)
    job_id = desk.submit(DEAF)
    desk.wait_for(job_id, JobState.RUNNING)
    desk.cancel(job_id)
    first = desk.look(job_id)
    end = desk.end_of(job_id)

    assert (first.state, first.ending) == (JobState.RUNNING, None)
    assert end.reason is ExitReason.CANCELLED


def test_that_a_node_that_goes_down_ends_what_must_not_run_again(desk):
    """NODE_FAIL, after PBS has given the node some time; silence about it until then."""
    desk.rig.configure(node_fail_requeue_s=300)
    job_id = desk.submit(FOREVER)
    nodes = desk.wait_for(job_id, JobState.RUNNING).nodes
    desk.rig.control("lose-node", nodes[0])
    first = desk.look(job_id)
    desk.rig.configure(node_fail_requeue_s=0.1)
    end = desk.end_of(job_id)

    assert (first.state, first.ending) == (JobState.RUNNING, None)
    assert (end.reason, end.nodes) == (ExitReason.NODE_FAIL, nodes)


def test_that_a_node_that_goes_down_requeues_the_others_under_their_id(desk):
    """It runs again, elsewhere; nothing has ended."""
    job_id = desk.submit(FOREVER, rerun="y")
    nodes = desk.wait_for(job_id, JobState.RUNNING).nodes
    desk.rig.control("lose-node", nodes[0])
    again = wait_until(
        "its second start", lambda: (seen := desk.look(job_id)).restarts and seen.nodes and seen, timeout=PATIENCE_S
    )
    assert again.nodes != nodes
    assert (again.restarts, again.ending) == (1, None)
    desk.cancel(job_id)
    assert desk.end_of(job_id).reason is ExitReason.CANCELLED


def test_that_a_job_waiting_again_has_no_start_and_no_node(desk):
    """After a requeue with no node left for it: as if it had never run, but for the count."""
    job_id = desk.submit(FOREVER, rerun="y")
    seen = desk.wait_for(job_id, JobState.RUNNING)
    desk.rig.configure(node_fail_requeue_s=0.2, scheduling=False)
    desk.rig.control("lose-node", seen.nodes[0])
    waits = desk.wait_for(job_id, JobState.PENDING)

    assert (waits.started_at, waits.ends_at, waits.nodes, waits.restarts) == (None, None, (), 1)


def test_that_a_job_on_a_node_that_is_down_is_removed_by_force(desk):
    """qdel alone is refused; and what it ends with is the node's loss, not a wish of ours."""
    desk.rig.configure(node_fail_requeue_s=300)
    job_id = desk.submit(FOREVER)
    desk.rig.control("lose-node", desk.wait_for(job_id, JobState.RUNNING).nodes[0])
    assert desk.rig.run("qdel", job_id).returncode == 222
    desk.cancel(job_id)
    end = desk.end_of(job_id)

    assert end.reason is ExitReason.NODE_FAIL
    assert "node was down" in end.raw


def test_that_a_lost_sister_node_makes_no_success(desk):
    """PBS tells exit status 0 of a job of two nodes, one of which has gone."""
    job_id = desk.submit(desk.gate, "-l select=2:ncpus=1", "-l place=scatter")
    desk.rig.control("lose-node", desk.wait_for(job_id, JobState.RUNNING).nodes[1])
    desk.open_gate()

    assert desk.end_of(job_id).reason is ExitReason.NODE_FAIL


def test_that_a_server_that_is_down_is_silence_and_tells_the_end_afterwards(desk):
    """Jobs run on without it; nothing ends by its silence, and no submission is lost in it."""
    job_id = desk.submit(f"{desk.gate}; touch {desk.directory}/over; exit 4")
    desk.wait_for(job_id, JobState.RUNNING)
    desk.rig.configure(server="down")
    for ask in (lambda: desk.look(job_id), lambda: desk.cancel(job_id), lambda: asyncio.run(desk.backend.find("x"))):
        with pytest.raises(BatchSilent, match="Connection refused"):
            ask()
    with pytest.raises(SubmissionDeferred, match="the server does not answer"):
        desk.submit("true")
    desk.open_gate()
    wait_until("its end, with nobody to tell", (desk.directory / "over").exists, timeout=PATIENCE_S)
    desk.rig.configure()
    end = desk.end_of(job_id)

    assert (end.reason, end.exit_code) == (ExitReason.FAILED, 4)
    assert desk.submit("true") == "1000.pbshead"  # ids are handed out in blocks


def test_that_a_server_that_hangs_is_silence_in_time(desk):
    """Nothing waits for it for ever."""
    job_id = desk.submit(FOREVER)
    desk.rig.configure(hang=["qstat", "qdel"])
    desk.backend.commands = PbsCommands(query_timeout_s=0.7, cancel_timeout_s=0.7)
    for ask in (desk.look, desk.cancel):
        with pytest.raises(BatchSilent, match=r"no answer within 0\.7 s"):
            ask(job_id)


def test_that_a_submission_whose_answer_was_lost_is_found_by_its_name(desk):
    """qsub took longer than we wait, and the server had made the job."""
    desk.rig.configure(delay_s={"qsub": 5.0})
    desk.backend.commands = PbsCommands(submit_timeout_s=1.0)
    job_id = desk.submit(FOREVER, name="scalable-r1-a0001")

    assert [job_id] == desk.rig.jobs()
    assert [seen.name for seen in asyncio.run(desk.backend.find("r1"))] == ["scalable-r1-a0001"]


def test_that_without_history_an_end_is_told_by_the_script_itself(desk):
    """A job that the server took and knows no more is over; its trailer has the exit code, else nobody has."""
    desk.rig.configure(history=False)
    trailer = f"mkdir -p {desk.directory}/endings; trap 'echo \"exit $?\" >{desk.directory}/endings/$PBS_JOBID' EXIT"
    running = desk.submit(FOREVER, name="scalable-x-a0")
    told = desk.submit(f"{trailer}\nexit 3", name="scalable-x-a1")
    untold = desk.submit("exit 3", name="scalable-x-a2")
    cut = desk.submit(FOREVER, "-l walltime=4", name="scalable-x-a3")
    desk.wait_for(cut, JobState.RUNNING)
    ends = [desk.end_of(job_id) for job_id in (told, untold, cut)]

    assert [(end.reason, end.exit_code) for end in ends] == [
        (ExitReason.FAILED, 3),
        (ExitReason.UNKNOWN, None),
        (ExitReason.TIMEOUT, None),
    ]
    assert desk.look(running).state is JobState.RUNNING
    assert desk.look("99999999.pbshead").state is JobState.UNKNOWN
    assert desk.backend.history == "off"
    desk.cancel(running)
    assert desk.end_of(running).reason is ExitReason.CANCELLED


def test_that_history_that_is_switched_on_is_used_at_once(desk):
    """An administrator heard us."""
    desk.rig.configure(history=False)
    job_id = desk.submit(f"{desk.gate}; exit 5")
    desk.wait_for(job_id, JobState.RUNNING)
    desk.rig.configure(history=True)
    desk.open_gate()

    assert desk.end_of(job_id).exit_code == 5
    assert desk.backend.history == "on"


def test_that_a_held_job_is_held_with_pbs_words(desk):
    """And runs when it is released."""
    job_id = desk.submit("exit 6", "-h")
    held = desk.look(job_id)
    desk.rig.control("release", job_id)

    assert held.state is JobState.HELD
    assert held.because.startswith("Job held by ")
    assert desk.end_of(job_id).exit_code == 6


def test_that_a_held_job_can_be_cancelled(desk):
    """PBS then leaves no comment and no exit status: it never ran."""
    job_id = desk.submit("true", "-h")
    desk.cancel(job_id)
    end = desk.end_of(job_id)

    assert (end.reason, end.exit_code, end.nodes) == (ExitReason.CANCELLED, None, ())


def test_that_a_job_whose_starts_all_fail_is_known_to_run_never(desk):
    """The server holds it after the 21st, with these words."""
    desk.rig.configure(start_fails=True)
    held = desk.wait_for(desk.submit("true"), JobState.HELD)

    assert held.because == "job held, too many failed attempts to run"
    assert never_runs(held.because) is not None
    assert (held.restarts, held.started_at, held.nodes) == (21, None, ())


def test_that_a_waiting_job_tells_when_it_is_expected_to_start(desk):
    """Where the scheduler foresees it (``estimated.start_time``): after the walltime of what is in its way."""
    desk.rig.configure(estimates=True)
    blocks = desk.wait_for(desk.submit(FOREVER, "-l walltime=600", "-l select=2:ncpus=4"), JobState.RUNNING)
    job_id = desk.submit("true")
    seen = wait_until("a forecast", lambda: (one := desk.look(job_id)).expected_start and one, timeout=PATIENCE_S)

    assert seen.state is JobState.PENDING
    assert seen.expected_start == pytest.approx(blocks.ends_at, abs=1)
    assert blocks.expected_start is None


def test_that_a_suspended_job_is_suspended(desk):
    """And runs on afterwards."""
    job_id = desk.submit(f"{desk.gate}; exit 7")
    desk.wait_for(job_id, JobState.RUNNING)
    desk.rig.control("suspend", job_id)
    assert desk.look(job_id).state is JobState.SUSPENDED
    desk.rig.control("resume", job_id)
    desk.open_gate()

    assert desk.end_of(job_id).exit_code == 7


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-q stopped"], "Not Running: Queue not started."),
        (["-l select=1:ncpus=1000"], "Can Never Run: Insufficient amount of resource: ncpus (R: 1000"),
    ],
)
def test_that_a_waiting_job_says_why_in_pbs_words(desk, more, words):
    """And whether that is for ever."""
    job_id = desk.submit("true", *more)
    seen = wait_until("a comment", lambda: (one := desk.look(job_id)).because and one, timeout=PATIENCE_S)

    assert seen.state is JobState.PENDING
    assert seen.because.startswith(words)
    assert (never_runs(seen.because) is not None) == words.startswith("Can Never")
    desk.cancel(job_id)
    assert desk.end_of(job_id).reason is ExitReason.CANCELLED


def test_that_a_job_that_waits_for_its_time_waits(desk):
    """State W."""
    assert desk.look(desk.submit("true", "-a 2359")).state is JobState.PENDING


def test_that_a_requeue_by_hand_is_no_end(desk):
    """The same id, one start more."""
    job_id = desk.submit(FOREVER, rerun="y")
    desk.wait_for(job_id, JobState.RUNNING)
    desk.rig.control("rerun", job_id)

    again = wait_until("its second start", lambda: (seen := desk.look(job_id)).restarts and seen, timeout=PATIENCE_S)
    assert again.ending is None


@pytest.mark.parametrize(
    ("settings", "more", "error", "words"),
    [
        ({}, ["-q nosuch"], PartitionRefused, "Unknown queue"),
        ({}, ["-q off"], PartitionRefused, "Queue is not enabled"),
        ({}, ["-q closed"], PartitionRefused, "Unauthorized Request"),
        ({}, ["-q short", "-l walltime=01:00:00"], LimitRefused, "Job violates queue and/or server resource limits"),
        ({}, ["-q limited", "-l select=1:ncpus=8"], LimitRefused, "Job violates queue and/or server resource limits"),
        ({}, ["-l select=1:nosuch=3"], SubmissionError, "Unknown resource: nosuch"),
        ({}, ["-l walltime=soon"], SubmissionError, "Illegal attribute or resource value Resource_List.walltime"),
        ({}, ["--whatever=3"], SubmissionError, "directive error: --whatever=3"),
        ({"acl_roots": False}, [], SubmissionError, "PBS runs no jobs of this user"),
        ({"hook_says": "ask for a project first"}, [], SubmissionError, "ask for a project first"),
        ({"max_queued": 0}, [], SubmissionDeferred, "would exceed complex's per-user limit"),
        ({"server": "down"}, [], SubmissionDeferred, "Connection refused"),
    ],
)
def test_that_refusals_are_told_apart(desk, settings, more, error, words):
    """Queue, limit, for good, not now: with PBS's own words."""
    desk.rig.configure(**settings)
    with pytest.raises(error, match=words.replace("(", ".")) as caught:
        desk.submit("true", *more)

    assert type(caught.value) is error


def test_that_a_stale_text_misleads_nobody(desk):
    """The code is right; the words are of the refusal before, and it is said that they may be."""
    with pytest.raises(PartitionRefused):
        desk.submit("true", "-q nosuch")
    with pytest.raises(SubmissionError, match=r"may be of an earlier error.*Unknown queue") as caught:
        desk.submit("true", "-W foo=bar")

    assert type(caught.value) is SubmissionError


def test_that_a_sites_banner_hides_no_job_id(desk):
    """Numbers in it included."""
    desk.rig.configure(banner="==== 3 nodes are down ====\n12\n")

    assert desk.end_of(desk.submit("exit 4")).exit_code == 4


@pytest.mark.parametrize("dialect", ["first-only", "release"])
def test_that_many_jobs_are_observed_with_one_qstat(desk, dialect):
    """And very many in parts; good ids among bad ones; each under its own id; as text, whatever its JSON is like."""
    desk.rig.configure(json=dialect, delay_s={"qstat": 0.3})
    calls: list[list[str]] = []

    class Counting(CommandRunner):
        async def run(self, argv, **options):
            calls.append(list(argv))
            return await super().run(argv, **options)

    desk.backend.runner = Counting()
    ids = [desk.submit(FOREVER, name=f"scalable-x-a{number}") for number in range(6)]
    calls.clear()
    seen = asyncio.run(desk.backend.status([*ids, "77.pbshead", "nonsense"]))
    assert len(calls) == 1
    assert not any(word.startswith("-F") or "json" in word for word in calls[0])
    assert [seen[job_id].name for job_id in ids] == [f"scalable-x-a{number}" for number in range(6)]
    assert (seen["77.pbshead"].state, seen["nonsense"].state) == (JobState.UNKNOWN, JobState.UNKNOWN)

    calls.clear()
    asyncio.run(desk.backend.status([f"{number}.pbshead" for number in range(IDS_PER_COMMAND + 1)]))
    assert len(calls) == 2


def test_that_a_torque_is_refused_by_name(tmp_path, monkeypatch):
    """Its commands have the same names and other meanings: ``qstat -x`` is XML there."""
    for name in ("qsub", "qstat", "qselect", "qdel"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'Version: 6.1.2' >&2; echo 'Commit: 3a8f' >&2\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(MissingCommandError, match=r"it says 'Version: 6\.1\.2'.*Torque"):
        PbsBackend().check()


def test_that_a_pbs_is_recognised(desk):
    """Whatever its version, and without asking its server."""
    desk.rig.configure(server="down", version="14.1.2")

    desk.backend.check()


def test_that_a_missing_command_is_named(tmp_path, monkeypatch):
    """With what to do about it."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingCommandError, match="'qsub'"):
        PbsBackend().check()


def test_that_the_job_script_of_a_worker_runs_as_it_stands(desk):
    """Log written while it runs, the trailer at its end, SIGTERM outlived by the script until its worker has ended."""
    from scalable_hpc.scripts.render import render_worker
    from tests.script_contexts import context

    run = desk.directory / "a run's directory"
    (run / "logs").mkdir(parents=True)
    worker = desk.directory / "python"
    worker.write_text('#!/bin/bash\ntrap "echo bye; exit 5" TERM\necho "$PWD" "$@"\nwhile :; do sleep 0.05; done\n')
    worker.chmod(0o755)
    asked = context(cpus=1, memory=64 * 2**20, walltime_s=60, output=run / "logs" / "a0007.log", run_dir=run,
                    work_dir=run, python=(str(worker),), launcher=("--run-dir", str(run)))  # fmt: skip
    script = desk.directory / "a0007.sh"
    script.write_text(render_worker(asked, system="pbs"))
    desk.backend.endings = run / "endings"
    job_id = asyncio.run(desk.backend.submit(script))
    log = run / "logs" / "a0007.log"
    wait_until("its log", lambda: log.exists() and "--run-dir" in log.read_text(), timeout=PATIENCE_S)
    seen = desk.look(job_id)
    desk.cancel(job_id)
    end = desk.end_of(job_id)

    assert (seen.name, seen.ends_at - seen.started_at) == (asked.job_name, 60)
    assert log.read_text().replace("Terminated\n", "") == f"{run} -m scalable_hpc.worker --run-dir {run}\nbye\n"
    assert (end.reason, end.signal) == (ExitReason.CANCELLED, signal.SIGTERM)
    assert (run / "endings" / job_id).read_text() == "exit 5\n"


def test_that_a_job_of_two_nodes_has_a_worker_on_each(desk):
    """The script runs itself again on each node, once; the loss of one costs the other nothing."""
    from scalable_hpc.scripts.render import render_worker
    from tests.script_contexts import context

    run = desk.directory / "run"
    for name in ("logs", "scripts"):
        (run / name).mkdir(parents=True)
    worker = desk.directory / "python"
    worker.write_text(
        f'#!/bin/bash\necho "$PBS_NODENUM" > {run}/here-$SCALABLE_HPC_NODE_NUMBER\n'
        f"while [ ! -e {run}/enough ]; do sleep 0.05; done; touch {run}/left-$SCALABLE_HPC_NODE_NUMBER\n"
    )
    worker.chmod(0o755)
    asked = context(nodes=2, cpus=2, memory=None, walltime_s=60, output=run / "logs" / "a0007.log", run_dir=run,
                    work_dir=run, python=(str(worker),), launcher=(), select_extras=("mpiprocs=2",))  # fmt: skip
    script = run / "scripts" / "a0007.sh"
    script.write_text(render_worker(asked, system="pbs"))
    desk.rig.configure(resources=["mpiprocs"])
    job_id = asyncio.run(desk.backend.submit(script))
    wait_until("both", lambda: len(list(run.glob("here-*"))) == 2, timeout=PATIENCE_S)
    nodes = desk.look(job_id).nodes
    desk.rig.control("lose-node", nodes[1])
    (run / "enough").touch()
    end = desk.end_of(job_id)

    assert nodes == ("node1", "node2")
    assert (run / "here-0").read_text() == "0\n"
    assert [path.name for path in run.glob("left-*")] == ["left-0"]
    assert end.reason is ExitReason.NODE_FAIL
