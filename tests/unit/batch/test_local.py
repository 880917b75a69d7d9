"""Laws of the local batch system, with real jobs: real process trees, killed for real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scalable_hpc.batch import spool
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.errors import BatchSilent, LimitRefused, RunDirectoryError, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobState
from tests.waiting import wait_until

# A runaway: its own session, no parent of ours, deaf to polite signals, environment wiped.
RUNAWAY = (
    "(setsid env -i /bin/bash -c 'trap \"\" TERM HUP INT USR1; echo $$ >> {pids}; while :; do sleep 0.1; done' "
    "</dev/null >/dev/null 2>&1 &)\n"
)


class Bench:
    """A local batch system in a directory of the test, and scripts for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pids = directory / "pids"
        self.backends: list[LocalBackend] = []

    def backend(self, **options) -> LocalBackend:
        backend = LocalBackend(self.directory / "spool", **{"cpus": 4, "kill_wait_s": 0.3, **options})
        self.backends.append(backend)
        return backend

    def script(self, body: str, **directives: object) -> Path:
        path = self.directory / "script.sh"
        lines = [f"#LOCAL {name.replace('_', '-')}={value}" for name, value in directives.items()]
        path.write_text("\n".join(["#!/bin/bash", *lines, body.replace("{pids}", str(self.pids)), ""]))
        return path

    def submit(self, backend: LocalBackend, body: str, **directives: object) -> str:
        return asyncio.run(backend.submit(self.script(body, **directives)))

    def runaways(self) -> list[int]:
        return [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []

    def close(self) -> None:
        for backend in self.backends:
            asyncio.run(backend.cancel([f"local-{number}" for number in range(1, 60)]))
            backend.close()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def look(backend, job_id):
    return asyncio.run(backend.status([job_id]))[job_id]


def wait_for(backend, job_id, *states, timeout=15):
    return wait_until(
        f"{job_id} is {states}",
        lambda: (seen := look(backend, job_id)).state in states and seen,
        timeout=timeout,
        every=0.01,
    )


def wait_for_end(backend, job_id):
    return wait_for(backend, job_id, JobState.ENDED).ending


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def assert_all_gone(bench):
    """What the job's end promises, looked at the moment it is told."""
    assert bench.runaways()
    assert [pid for pid in bench.runaways() if not is_gone(pid)] == []


def test_that_a_job_runs_and_tells_its_whole_life(bench):
    """Name, comment, times, node, exit code; its output where it was asked for."""
    backend = bench.backend()
    before = time.time()
    job_id = bench.submit(
        backend,
        "echo out; echo err >&2",
        job_name="scalable-r1-a0001",
        comment="c",
        output="%j.txt",
        chdir=bench.directory,
    )
    ending = wait_for_end(backend, job_id)
    seen = look(backend, job_id)

    assert (ending.reason, ending.exit_code, ending.signal) == (ExitReason.COMPLETED, 0, None)
    assert (seen.name, seen.comment, seen.nodes) == ("scalable-r1-a0001", "c", (os.uname().nodename,))
    assert before <= seen.submitted_at <= seen.started_at <= ending.ended_at <= time.time()
    assert (bench.directory / f"{job_id}.txt").read_text() == "out\nerr\n"


def test_that_a_job_knows_who_it_is_and_when_it_ends(bench):
    """The launcher in it plans by these."""
    backend = bench.backend(environ={"PATH": os.environ["PATH"], "FROM_DRIVER": "yes"})
    job_id = bench.submit(backend, "env", walltime=3600, output=bench.directory / "env")
    wait_for_end(backend, job_id)
    seen = dict(line.split("=", 1) for line in (bench.directory / "env").read_text().splitlines())
    started = look(backend, job_id).started_at

    assert (seen["SCALABLE_HPC_JOB_ID"], seen["FROM_DRIVER"]) == (job_id, "yes")
    assert int(seen["SCALABLE_HPC_JOB_START_TIME"]) == int(started)
    assert int(seen["SCALABLE_HPC_JOB_END_TIME"]) == int(started + 3600)


def test_that_a_job_starts_clean(bench):
    """No descriptor of the driver, no ignored or blocked signal, its own session: as a batch system starts it."""
    mine = bench.directory / "mine"
    mine.touch()
    left_open = os.open(mine, os.O_RDONLY)
    os.set_inheritable(left_open, True)
    backend = bench.backend()
    body = "ls -l /proc/$$/fd; echo session $(ps -o sid= -p $$) of $$; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"
    job_id = bench.submit(backend, body, output=bench.directory / "out")
    wait_for_end(backend, job_id)
    os.close(left_open)
    out = (bench.directory / "out").read_text()
    session = next(line.split() for line in out.splitlines() if line.startswith("session"))

    assert str(mine) not in out
    assert session[1] == session[3]
    masks = [int(line.split()[1], 16) for line in out.splitlines() if line.startswith("Sig")]
    assert [mask & 0x7FFFFFFF for mask in masks] == [0, 0]  # 1 to 31; of the others some are the C library's own


def test_that_a_job_starts_at_once_where_there_is_room(bench):
    """Within 150 ms at best of five; on a machine so busy that a bare Python is slow, within 15 of those."""
    backend = bench.backend()
    took, bare = [], []
    for _ in range(5):
        before = time.time()
        job_id = bench.submit(backend, "echo $EPOCHREALTIME", output=bench.directory / "at")
        wait_for_end(backend, job_id)
        took.append(float((bench.directory / "at").read_text()) - before)
        before = time.time()
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        bare.append(time.time() - before)

    assert min(took) < max(0.15, 15 * min(bare))


@pytest.mark.parametrize(
    ("body", "expected"),
    [("exit 3", (ExitReason.FAILED, 3, None)), ("kill -9 $$", (ExitReason.FAILED, None, 9))],
)
def test_that_a_failure_tells_exit_code_or_signal(bench, body, expected):
    """As the judge of attempts wants it."""
    backend = bench.backend()
    ending = wait_for_end(backend, bench.submit(backend, body))

    assert (ending.reason, ending.exit_code, ending.signal) == expected


@pytest.mark.parametrize(
    ("directives", "words"),
    [
        ({"chdir": "/no/such/place"}, "/no/such/place"),
        ({"output": "/no/such/place/out"}, "/no/such/place/out"),
    ],
)
def test_that_a_script_that_cannot_be_started_says_why(bench, directives, words):
    """Not a failure of the script: it never ran."""
    backend = bench.backend()
    ending = wait_for_end(backend, bench.submit(backend, "true", **directives))

    assert ending.reason is ExitReason.LAUNCH_FAILED
    assert words in ending.raw


def test_that_a_missing_interpreter_is_a_failed_launch(bench):
    """Its name is in the words."""
    backend = bench.backend()
    script = bench.directory / "odd"
    script.write_text("#!/no/such/python -u\n")
    ending = wait_for_end(backend, asyncio.run(backend.submit(script)))

    assert ending.reason is ExitReason.LAUNCH_FAILED
    assert "/no/such/python" in ending.raw


def test_that_walltime_warns_asks_and_kills(bench):
    """SIGUSR1 to the script alone, SIGTERM to every process, SIGKILL to what is left; nothing survives."""
    backend = bench.backend(kill_wait_s=1.0)
    said = bench.directory / "said"
    body = (
        f"trap 'echo script USR1 $EPOCHREALTIME >> {said}' USR1\n"
        f"trap 'echo script TERM $EPOCHREALTIME >> {said}' TERM\n"
        f'bash -c \'trap "echo child USR1 >> {said}" USR1; trap "echo child TERM >> {said}; exit" TERM; '
        "while :; do sleep 0.05; done' &\n" + RUNAWAY + "while :; do sleep 0.05; done"
    )
    job_id = bench.submit(backend, body, walltime=1.2, signal_lead=0.6)
    ending = wait_for_end(backend, job_id)
    lines = [line.split() for line in said.read_text().splitlines()]
    times = {line[1]: float(line[2]) for line in lines if line[0] == "script"}
    started = look(backend, job_id).started_at

    assert ending.reason is ExitReason.TIMEOUT
    assert_all_gone(bench)
    assert sorted(" ".join(line[:2]) for line in lines) == ["child TERM", "script TERM", "script USR1"]
    assert 0.6 <= times["USR1"] - started < 1.2 <= times["TERM"] - started < 2.2
    assert 2.2 <= ending.ended_at - started < 6


def test_that_a_job_that_ends_on_the_warning_completes(bench):
    """What the launcher does: drain, and leave before the end."""
    backend = bench.backend()
    body = "trap 'exit 0' USR1; while :; do sleep 0.02; done"
    ending = wait_for_end(backend, bench.submit(backend, body, walltime=20, signal_lead=19.2))

    assert (ending.reason, ending.exit_code) == (ExitReason.COMPLETED, 0)


def test_that_a_job_that_leaves_in_its_grace_still_ran_out_of_time(bench):
    """Its exit code does not make it a success."""
    backend = bench.backend(kill_wait_s=30)
    body = "trap 'exit 0' TERM; while :; do sleep 0.02; done"
    ending = wait_for_end(backend, bench.submit(backend, body, walltime=0.8))

    assert (ending.reason, ending.exit_code) == (ExitReason.TIMEOUT, 0)


def test_that_nothing_outlives_its_script(bench):
    """What a script leaves in the background is gone before its end is told."""
    backend = bench.backend()
    ending = wait_for_end(
        backend, bench.submit(backend, RUNAWAY + "while [ ! -s {pids} ]; do sleep 0.01; done; exit 5")
    )

    assert (ending.reason, ending.exit_code) == (ExitReason.FAILED, 5)
    assert_all_gone(bench)


def _running_with_runaway(bench, backend, **directives) -> str:
    job_id = bench.submit(backend, RUNAWAY + "while :; do sleep 0.05; done", **directives)
    wait_until("the runaway runs", bench.runaways, timeout=10, every=0.01)
    return job_id


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda backend, job_id: asyncio.run(backend.cancel([job_id])), ExitReason.CANCELLED),
        (lambda backend, job_id: backend.lose_node(job_id), ExitReason.NODE_FAIL),
        (lambda backend, job_id: backend.preempt(job_id), ExitReason.PREEMPTED),
        (lambda backend, job_id: backend.end_walltime(job_id), ExitReason.TIMEOUT),
        (lambda backend, job_id: backend.run_out_of_memory(job_id), ExitReason.OUT_OF_MEMORY),
    ],
    ids=["cancel", "lose_node", "preempt", "end_walltime", "run_out_of_memory"],
)
def test_that_every_way_out_has_its_reason_and_leaves_nothing(bench, fault, reason):
    """Whatever the processes do against it."""
    backend = bench.backend()
    job_id = _running_with_runaway(bench, backend)
    fault(backend, job_id)

    assert wait_for_end(backend, job_id).reason is reason
    assert_all_gone(bench)


def test_that_a_lost_node_has_no_last_word(bench):
    """A power cut sends no SIGTERM."""
    backend = bench.backend(kill_wait_s=30)
    said = bench.directory / "said"
    job_id = bench.submit(
        backend, f"trap 'echo TERM > {said}' TERM; echo up > {bench.pids}; while :; do sleep 0.02; done"
    )
    wait_until("it runs", bench.pids.exists, timeout=10, every=0.01)
    backend.lose_node(job_id)

    assert wait_for_end(backend, job_id).reason is ExitReason.NODE_FAIL
    assert not said.exists()


def test_that_a_stopped_job_can_be_cancelled_politely(bench):
    """SIGCONT follows SIGTERM, else a stopped process would never read it."""
    backend = bench.backend(kill_wait_s=30)
    body = "trap 'exit 7' TERM; echo $$ > {pids}; while :; do sleep 0.02; done"
    job_id = bench.submit(backend, body)
    (pid,) = wait_until("it runs", bench.runaways, timeout=10, every=0.01)
    os.kill(pid, signal.SIGSTOP)
    asyncio.run(backend.cancel([job_id]))
    ending = wait_for_end(backend, job_id)

    assert (ending.reason, ending.exit_code) == (ExitReason.CANCELLED, 7)


def test_that_the_queue_is_first_come_first_served_within_capacity(bench):
    """A small job does not overtake a large one; each says why it waits."""
    backend = bench.backend(cpus=4)
    gate = bench.directory / "gate"
    hold = f"until [ -e {gate} ]; do sleep 0.01; done"
    first, second = (bench.submit(backend, hold, cpus=2) for _ in range(2))
    large = bench.submit(backend, "true", cpus=4)
    small = bench.submit(backend, "true", cpus=1)
    for job_id in (first, second):
        wait_for(backend, job_id, JobState.RUNNING)

    assert [(look(backend, job).state, look(backend, job).because) for job in (large, small)] == [
        (JobState.PENDING, "Resources"),
        (JobState.PENDING, "Priority"),
    ]
    gate.touch()
    for job_id in (large, small):
        wait_for_end(backend, job_id)
    ends = sorted(look(backend, job).ending.ended_at for job in (first, second))
    assert look(backend, large).started_at >= ends[-1]
    assert look(backend, small).started_at >= look(backend, large).ending.ended_at


def test_that_memory_is_capacity_where_it_is_given(bench):
    """Two jobs of 60 bytes do not run together on 100."""
    backend = bench.backend(cpus=8, memory=100)
    first, second = (bench.submit(backend, "sleep 0.2", memory=60) for _ in range(2))
    ended, started = wait_for_end(backend, first).ended_at, wait_for(backend, second, JobState.RUNNING).started_at

    assert started >= ended


def test_that_a_queued_job_starts_without_anybody_asking(bench):
    """No poll between the end of one and the start of the next, and little time."""
    backend = bench.backend(cpus=1)
    marks = [bench.directory / name for name in "ab"]
    for mark in marks:
        job_id = bench.submit(backend, f"echo $EPOCHREALTIME > {mark}; sleep 0.2; echo $EPOCHREALTIME >> {mark}")
    wait_until("the second ran", lambda: marks[1].exists() and marks[1].read_text(), timeout=15, every=0.02)
    ended, started = float(marks[0].read_text().split()[1]), float(marks[1].read_text().split()[0])

    assert 0 < started - ended < 2
    wait_for_end(backend, job_id)


def test_that_every_job_waits_as_long_as_the_machine_is_said_to_be_busy(bench):
    """For showing what a queue does."""
    backend = bench.backend(queue_wait_s=0.5)
    job_id = bench.submit(backend, "true")

    assert (look(backend, job_id).state, look(backend, job_id).because) == (JobState.PENDING, "BeginTime")
    wait_for_end(backend, job_id)
    seen = look(backend, job_id)
    assert seen.started_at - seen.submitted_at >= 0.5


def test_that_a_waiting_job_that_is_cancelled_never_runs(bench):
    """And those behind it move up."""
    backend = bench.backend(cpus=1)
    gate, ran = bench.directory / "gate", bench.directory / "ran"
    first = bench.submit(backend, f"until [ -e {gate} ]; do sleep 0.01; done")
    second = bench.submit(backend, f"touch {ran}")
    third = bench.submit(backend, "true")
    asyncio.run(backend.cancel([second]))

    assert look(backend, second).ending.reason is ExitReason.CANCELLED
    gate.touch()
    for job_id in (first, third):
        assert wait_for_end(backend, job_id).reason is ExitReason.COMPLETED
    assert not ran.exists()


def test_that_a_cancel_right_behind_the_submission_always_wins(bench):
    """Whether it comes before the shepherd, during its start or after."""
    backend = bench.backend()
    for _ in range(10):
        job_id = bench.submit(backend, "trap '' TERM; while :; do sleep 0.05; done")
        asyncio.run(backend.cancel([job_id]))

        assert wait_for_end(backend, job_id).reason is ExitReason.CANCELLED


def test_that_orders_to_unknown_or_finished_jobs_are_no_error(bench):
    """And change nothing."""
    backend = bench.backend()
    job_id = bench.submit(backend, "true")
    ending = wait_for_end(backend, job_id)
    asyncio.run(backend.cancel([job_id, "local-999", "4711", "../x"]))
    backend.lose_node(job_id)

    assert look(backend, job_id).ending == ending
    assert look(backend, "local-999").state is JobState.UNKNOWN
    assert look(backend, "../x").state is JobState.UNKNOWN


DRIVER = """
import asyncio, sys, time
from pathlib import Path
from scalable_hpc.batch.local import LocalBackend
backend = LocalBackend(Path(sys.argv[1]), cpus=1, kill_wait_s=0.3)
for script in sys.argv[2:]:
    asyncio.run(backend.submit(Path(script)))
print("submitted", flush=True)
time.sleep(600)
"""


def test_that_a_dead_drivers_jobs_are_the_next_ones_to_find_and_end(bench):
    """What ran runs on under its shepherd; what waited never starts, and is told as cancelled."""
    running = bench.directory / "running.sh"
    running.write_text(
        bench.script(RUNAWAY + "while :; do sleep 0.05; done", job_name="scalable-r1-a1", walltime=600).read_text()
    )
    waiting = bench.directory / "waiting.sh"
    waiting.write_text("#!/bin/bash\n#LOCAL job-name=scalable-r1-a2\ntrue\n")
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(bench.directory / "spool"), str(running), str(waiting)],
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdout.readline() == "submitted\n"
        wait_until("the first runs", bench.runaways, timeout=10, every=0.01)
        driver.send_signal(signal.SIGKILL)
    backend = bench.backend(cpus=1)

    assert [(job.name, job.state) for job in asyncio.run(backend.find("r1"))] == [("scalable-r1-a1", JobState.RUNNING)]
    assert look(backend, "local-1").ends_at == pytest.approx(time.time() + 600, abs=60)
    assert look(backend, "local-2").ending.reason is ExitReason.CANCELLED
    third = bench.submit(backend, "true")
    assert third == "local-3"
    assert look(backend, third).state is JobState.PENDING  # the dead driver's job holds the only CPU
    asyncio.run(backend.cancel(["local-1"]))
    assert wait_for_end(backend, "local-1").reason is ExitReason.CANCELLED
    assert_all_gone(bench)
    assert wait_for_end(backend, third).reason is ExitReason.COMPLETED


def _shepherd_and_guard_of(bench, job_id) -> tuple[int, int]:
    by = json.loads((bench.directory / "spool" / job_id / "claim" / "by.json").read_text())
    return by["pid"], by["guard"]["pid"]


@pytest.mark.parametrize("noticed_by", ["its driver", "another driver"])
def test_that_a_job_does_not_outlive_its_shepherd(bench, noticed_by):
    """Its guard ends what is left, also what no marker betrays; whoever looks says NODE_FAIL."""
    backend = bench.backend()
    job_id = _running_with_runaway(bench, backend)
    if noticed_by == "another driver":
        backend.close()
        backend = bench.backend()
    os.kill(_shepherd_and_guard_of(bench, job_id)[0], signal.SIGKILL)
    ending = wait_for_end(backend, job_id)

    assert ending.reason is ExitReason.NODE_FAIL
    assert "shepherd" in ending.raw
    assert_all_gone(bench)


def test_that_a_job_does_not_outlive_shepherd_and_guard(bench):
    """Then whoever finds both dead ends it: by its marker, and its script even without one."""
    backend = bench.backend()
    marked = "(setsid bash -c 'echo $$ >> {pids}; sleep 600' &)"
    job_id = bench.submit(backend, f"{marked}; echo $$ >> {{pids}}; exec env -i sleep 600")
    wait_until("both run", lambda: len(bench.runaways()) == 2, timeout=10, every=0.01)
    for pid in reversed(_shepherd_and_guard_of(bench, job_id)):
        os.kill(pid, signal.SIGKILL)

    assert wait_for_end(backend, job_id).reason is ExitReason.NODE_FAIL
    assert_all_gone(bench)


def test_that_a_job_does_not_need_its_guard(bench):
    """The shepherd alone ends it as ordered."""
    backend = bench.backend()
    job_id = _running_with_runaway(bench, backend)
    os.kill(_shepherd_and_guard_of(bench, job_id)[1], signal.SIGKILL)
    backend.preempt(job_id)

    assert wait_for_end(backend, job_id).reason is ExitReason.PREEMPTED
    assert_all_gone(bench)


def test_that_a_full_disk_loses_no_job(bench):
    """The shepherd watches on without being able to say so, and says how it ended once it can."""
    backend = bench.backend()
    gate = bench.directory / "gate"
    job_id = bench.submit(backend, f"echo $$ > {{pids}}; until [ -e {gate} ]; do sleep 0.02; done; exit 9")
    wait_for(backend, job_id, JobState.RUNNING)
    (pid,) = wait_until("it runs", bench.runaways, timeout=10, every=0.01)
    state = bench.directory / "spool" / job_id / "state.json"
    state.unlink()
    state.mkdir()  # nothing can be renamed onto it: writing fails, for root too
    gate.touch()

    assert look(backend, job_id).state is JobState.PENDING
    wait_until("it is over", lambda: is_gone(pid), timeout=10, every=0.01)
    state.rmdir()
    assert wait_for_end(backend, job_id).exit_code == 9
    assert sorted(path.name for path in state.parent.iterdir()) == [
        "claim", "output.txt", "request.json", "script", "state.json",
    ]  # fmt: skip


def test_that_a_job_on_another_host_is_left_alone(bench):
    """Two login nodes may share the run's directory: what cannot be looked at is not called dead, nor killed."""
    backend = bench.backend()
    job_id = _running_with_runaway(bench, backend)
    by = bench.directory / "spool" / job_id / "claim" / "by.json"
    here = by.read_text()
    by.write_text(json.dumps({**json.loads(here), "host": "login02"}))

    assert look(backend, job_id).state is JobState.RUNNING
    with pytest.raises(BatchSilent, match="login02"):
        asyncio.run(backend.cancel([job_id]))
    by.write_text(here)


def test_that_a_closed_backend_cancels_what_waits_and_leaves_what_runs(bench):
    """The driver goes on without its local batch system."""
    backend = bench.backend(cpus=1)
    running = bench.submit(backend, "sleep 600")
    wait_for(backend, running, JobState.RUNNING)
    waiting = bench.submit(backend, "true")
    backend.close()

    assert look(backend, waiting).ending.reason is ExitReason.CANCELLED
    assert look(backend, running).state is JobState.RUNNING
    with pytest.raises(SubmissionError, match="closed"):
        bench.submit(backend, "true")
    asyncio.run(backend.cancel([running]))
    assert wait_for_end(backend, running).reason is ExitReason.CANCELLED
    backend.close()


def test_that_a_closed_backend_touches_no_descriptor_that_is_not_its_own(bench):
    """Its pipes are closed, and their numbers soon somebody else's; cancelling still works."""
    backend, other = bench.backend(), bench.backend(queue_wait_s=600)
    wait_for_end(backend, bench.submit(backend, "true"))
    waiting = bench.submit(other, "true")
    backend.close()
    files = [os.open(bench.directory / f"file-{number}", os.O_RDWR | os.O_CREAT) for number in range(32)]
    asyncio.run(backend.cancel([waiting]))

    assert look(backend, waiting).ending.reason is ExitReason.CANCELLED
    assert {os.fstat(file).st_size for file in files} == {0}
    for file in files:
        os.close(file)


def test_that_what_never_fits_or_cannot_be_read_is_refused(bench):
    """And leaves no job behind."""
    backend = bench.backend(cpus=2)
    with pytest.raises(LimitRefused, match="3 cpus"):
        bench.submit(backend, "true", cpus=3)
    with pytest.raises(SubmissionError, match=r"nowhere\.sh"):
        asyncio.run(backend.submit(bench.directory / "nowhere.sh"))

    assert asyncio.run(backend.find("r1")) == []
    assert not (bench.directory / "spool").exists()


def test_that_a_spool_that_cannot_be_made_is_named(tmp_path):
    """The disk's fault, in words."""
    (tmp_path / "file").write_text("")
    script = tmp_path / "s.sh"
    script.write_text("#!/bin/sh\n")

    with pytest.raises(RunDirectoryError, match="file/spool"):
        asyncio.run(LocalBackend(tmp_path / "file" / "spool").submit(script))


def test_that_the_spool_is_private_and_keeps_the_script_as_submitted(bench):
    """Later edits of the file change nothing; nobody else looks in."""
    backend = bench.backend(queue_wait_s=0.2)
    job_id = bench.submit(backend, "exit 4")
    bench.script("exit 5")

    assert (bench.directory / "spool").stat().st_mode & 0o777 == 0o700
    assert (bench.directory / "spool" / job_id).stat().st_mode & 0o777 == 0o700
    assert wait_for_end(backend, job_id).exit_code == 4


def test_that_a_shepherd_starts_as_a_module_too(bench):
    """``python -m scalable_hpc.batch.shepherd SPOOL/<job id>``, as its header says."""
    directory = bench.directory / "spool" / "local-1"
    directory.mkdir(parents=True)
    (directory / spool.SCRIPT).write_text("#!/bin/sh\nexit 6\n")
    asked = {"chdir": str(bench.directory), "output": str(directory / "out"), "kill_wait_s": 1.0}
    spool.write_json(str(directory / spool.REQUEST), asked)
    subprocess.run([sys.executable, "-m", "scalable_hpc.batch.shepherd", str(directory)], check=True, timeout=30)

    assert look(bench.backend(), "local-1").ending.exit_code == 6


def test_that_the_machine_is_checked_before_use(bench):
    """Nothing is missing on Linux."""
    bench.backend().check()
