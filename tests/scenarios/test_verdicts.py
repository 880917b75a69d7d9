"""Rows of the judge's table, each brought about by real processes on this machine; one session for all.

Rows that need a worker to die are in ``test_suspects``, those of memory in ``test_memory``, users' own rules in
``test_retry_rules``, what a batch system does in ``test_verdicts_slurm`` and ``test_node_loss``; what a driver that
ended had asked for is in ``test_damaged_results``.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from scalable_hpc import Checkpointed, ScalableSession
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.faults.judge import ROWS
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import AllocationChanged, AttemptExplained, AttemptFailed, AttemptPlaced
from scalable_hpc.worker import kin
from scalable_hpc.worker.recorder import read_recorder
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

MANIFEST = """\
version: 1
project: {name: verdicts}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 2, walltime: "00:20:00"}
components:
  model: {cpus: 2, memory: 1G}
tasks:
  in_vain: {retry: {retries: 1, base_s: 0.05}}
"""


def first_time(path):
    """Whether this is the first execution that asks for this path."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def hands_back(path):
    if first_time(path):
        raise Checkpointed("saved")
    return "done"


def is_told_to_end(path):
    if first_time(path):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return "done"


def dies(path):
    if first_time(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def in_vain(how):
    if how == "stale":
        raise OSError(errno.ESTALE, "Stale file handle")
    raise {"value": ValueError, "own": RuntimeError}[how](how)


def naps(seconds):
    time.sleep(seconds)


def dies_always():
    os._exit(3)


def long_the_first_time(path):
    if first_time(path):
        time.sleep(90)
    return "done"


def freeze_the_other(frozen, release):
    """Stop the slot beside this one, and kill it when told to."""
    parents = {process.pid: process.parent for process in kin.process_table()}
    nursery = parents[os.getppid()]
    others = [pid for pid, parent in parents.items() if parents.get(parent) == nursery and pid != os.getpid()]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    Path(frozen).touch()
    while not Path(release).exists():
        time.sleep(0.02)
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    return len(others)


def waits_the_first_time(path, go):
    if first_time(path):
        while not Path(go).exists():
            time.sleep(0.02)
    return "done"


def tiny(number):
    if number == 40:
        os.abort()
    return number


def large():
    return bytes(200_000)


def uses(data):
    return "done" if len(data) == 200_000 else "wrong"


def what_cannot_be_read(session, client):
    """Submit a call whose argument is gone from the store."""
    future = client.submit(large)
    assert future.exception(timeout=60) is None
    (blob,) = [path for path in (session.run_directory.results / "v1" / "blobs").rglob("*") if path.is_file()]
    blob.unlink()
    return client.submit(uses, future)


def lose_the_node_of(session, future):
    """Cut the power of the allocation where it runs."""

    def placed():
        events = list(read_events(session.run_directory.journal))
        mine = [event for event in events if isinstance(event, AttemptPlaced) and event.task_id == future.task_id]
        return mine and [
            event.job_id
            for event in events
            if isinstance(event, AllocationChanged) and event.name == mine[0].allocation and event.job_id
        ]

    jobs = wait_until("it is placed", placed, timeout=60)
    LocalBackend(session.run_directory.spool).lose_node(jobs[-1])


def lose_a_slot_before_it_begins(session, client, place):
    """Give work to a slot that is frozen, and have it killed when it has it in hand."""
    killer = client.submit(freeze_the_other, str(place / "frozen"), str(place / "release"))
    wait_until("a slot is frozen", (place / "frozen").exists, timeout=60)
    future = client.submit(waits_the_first_time, str(place / "unbegun"), str(place))

    def is_in_hand():
        recorders = [read_recorder(path) for path in (session.run_directory.path / "recorders").iterdir()]
        return any(attempt.task_id == future.task_id for seen in recorders for attempt in seen.running)

    wait_until("it is in hand", is_in_hand, timeout=60)
    (place / "release").touch()
    assert killer.result(timeout=60) == 1
    return future


def run_out_of_memory_together(session, client, place):
    """Have a batch system end a job over its memory while two attempts run there; return what ran there."""
    futures = {}
    for number in range(3):
        path = place / f"beside-{number}"
        future = client.submit(waits_the_first_time, str(path), str(place / "go"))
        futures[future.task_id] = future, path

    def full():
        events = list(read_events(session.run_directory.journal))
        jobs = {event.name: event.job_id for event in events if isinstance(event, AllocationChanged) and event.job_id}
        there = {}
        for event in events:
            if isinstance(event, AttemptPlaced) and event.task_id in futures and futures[event.task_id][1].exists():
                there.setdefault(event.allocation, set()).add(event.task_id)
        return [(jobs[name], tasks) for name, tasks in there.items() if len(tasks) == 2]

    [(job, tasks), *_] = wait_until("two run beside each other", full, timeout=60)
    LocalBackend(session.run_directory.spool).run_out_of_memory(job)

    def told():
        events = read_events(session.run_directory.journal)
        return tasks <= {event.task_id for event in events if isinstance(event, AttemptFailed)}

    wait_until("both have ended", told, timeout=60)
    (place / "go").touch()
    assert [future.result(timeout=60) for future, _ in futures.values()] == ["done"] * 3
    return [futures[task_id][0] for task_id in sorted(tasks)]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """What became of each task, and the journal's attempts that failed."""
    place = tmp_path_factory.mktemp("verdicts")
    (place / "scalable.yaml").write_text(MANIFEST)
    session = ScalableSession.from_yaml(place / "scalable.yaml")
    with session as client:
        unbegun = lose_a_slot_before_it_begins(session, client, place)
        one, other = run_out_of_memory_together(session, client, place)
        lost = client.submit(long_the_first_time, str(place / "lost"))
        wait_until("it runs", (place / "lost").exists, timeout=60)
        lose_the_node_of(session, lost)
        client.gather(client.map(tiny, range(30)))
        futures = {
            "allocation ended": lost,
            "slot died before it began": unbegun,
            "allocation out of memory": one,
            "allocation out of memory, beside it": other,
            "refused": what_cannot_be_read(session, client),
            "handed back by the task": client.submit(hands_back, str(place / "back")),
            "slot ended from outside": client.submit(is_told_to_end, str(place / "told")),
            "first death": client.submit(dies, str(place / "dies")),
            "second death": client.submit(dies_always),
            "ran into its timeout": client.submit(naps, 60, timeout=1.0),
            "transient exception": client.submit(in_vain, "stale"),
            "permanent exception": client.submit(in_vain, "value", retries=5),
            "other exception": client.submit(in_vain, "own"),
        }
        tinies = client.map(tiny, range(30, 90))
        batch = client.collect([*futures.values(), *tinies])
        assert len(batch.ok) == 59 + 8
    events = list(read_events(session.run_directory.journal))
    failed = [event for event in events if isinstance(event, AttemptFailed)]
    return futures, failed, [event for event in events if isinstance(event, AttemptExplained)]


ROW_OF = {row.name: row for row in ROWS}
EXPECTED = [
    ("allocation ended", 1, "done"),
    ("slot died before it began", 1, "done"),
    ("allocation out of memory", 1, "done"),
    ("allocation out of memory, beside it", 1, "done"),
    ("refused", 1, "done"),
    ("handed back by the task", 1, "done"),
    ("slot ended from outside", 1, "done"),
    ("first death", 1, "done"),
    ("second death", 1, "TaskKilled"),
    ("ran into its timeout", 1, "TaskTimeout"),
    ("transient exception", 2, "OSError"),
    ("permanent exception", 1, "ValueError"),
    ("other exception", 2, "RuntimeError"),
]

SAID_LATER = {"allocation ended": "node_fail", "allocation out of memory": "out_of_memory"}
"""What the journal is told of an attempt that was judged before the batch system had said anything."""


@pytest.mark.parametrize(("name", "times", "outcome"), EXPECTED, ids=[name for name, _, _ in EXPECTED])
def test_that_a_row_is_what_real_processes_bring_about(lived, name, times, outcome):
    """Its words, its verdict, its price; and the task goes on or ends as it says."""
    futures, failed, explained = lived
    row, future = ROW_OF[name.partition(",")[0]], futures[name]
    reasons = [event.allocation_reason for event in explained if event.task_id == future.task_id]
    if reasons:  # on a busy machine the batch system's word may come later than an attempt waits for it
        assert reasons == [SAID_LATER[row.name]]
        row = ROW_OF["batch system silent"]
    mine = [event for event in failed if event.task_id == future.task_id and row.because in event.because]

    assert [(event.verdict, event.charged) for event in mine] == [(row.verdict.value, row.charged)] * times
    error = future.exception()
    assert (future.result() if error is None else type(error).__name__) == outcome


def test_that_those_behind_a_killer_in_its_bundle_never_started(lived):
    """Tiny tasks share a trip to a slot: what came after the one that killed it has not begun, and costs nothing."""
    _, failed, _ = lived
    row = ROW_OF["never started"]
    behind = [event for event in failed if event.ending == "never_started"]

    assert behind
    assert all(row.because in event.because and not event.charged for event in behind)


def test_that_nobody_else_is_charged(lived):
    """All that was charged were the guilty, as often as they failed."""
    futures, failed, _ = lived
    guilty = {futures[name].task_id for name, _, _ in EXPECTED if ROW_OF[name.partition(",")[0]].charged}
    charged = {event.task_id for event in failed if event.charged}

    assert {task_id for task_id in charged if not task_id.startswith("tiny")} == guilty
