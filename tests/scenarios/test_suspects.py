"""Calls that bring down more than their own process, among innocent ones: found, convicted, nobody else charged."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from scalable_hpc import ScalableSession, context
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.errors import TaskKilled
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.text import render_report
from tests.ensembles import AllocationChanged, AttemptFailed, AttemptPlaced, of_kind
from tests.waiting import wait_until

MANIFEST = """\
version: 1
project: {name: suspects}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 2, walltime: "00:20:00"}
components:
  model: {cpus: 2}
"""


def ancestors():
    """This slot's parent, grandparent, ... as pids: its minder, the nursery, the courier, the launcher."""
    line, pid = [], os.getpid()
    for _ in range(4):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        line.append(pid)
    return line


def kill_above(generation, together):
    """Kill an ancestor once the others are at work too."""
    for stream in (1, 2):
        os.write(stream, b"about to kill\n")
    deadline = time.monotonic() + 3
    while len(list(Path(together).iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(ancestors()[generation], signal.SIGKILL)
    time.sleep(60)


def work(number, together):
    (Path(together) / f"{number}").touch()
    time.sleep(1.5)
    return number


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("generation", "jobs"),
    [(1, 0), (2, 0), (3, 2)],
    ids=["the nursery", "the courier", "the launcher"],
)
def test_that_what_kills_a_worker_is_convicted_alone(tmp_path, generation, jobs):
    """Of all that ran there it alone fails, with what it did in words; whoever was beside it is right and uncharged."""
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    together = tmp_path / "together"
    together.mkdir()
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    with session as client:
        innocents = [client.submit(work, number, str(together)) for number in range(2)]
        killer = client.submit(kill_above, generation, str(together))
        innocents += [client.submit(work, number, str(together)) for number in range(2, 6)]
        with pytest.raises(TaskKilled) as raised:
            killer.result(timeout=60)
        assert [future.result(timeout=60) for future in innocents] == list(range(6))
        events = list(read_events(session.run_directory.journal))

    failed = of_kind(events, AttemptFailed)
    assert {event.task_id for event in failed if event.charged} == {killer.task_id}
    own = [event for event in failed if event.task_id == killer.task_id]
    assert [(event.ending, event.verdict, event.charged) for event in own] == [
        ("worker_lost", "killer", False),
        ("worker_lost", "killer", True),
    ]
    assert own[-1].together == 1
    told = str(raised.value)
    assert "under it alone" in told
    assert told.count(f"on {own[0].node}") == 2, "here, and the one before"
    if generation < 3:  # else nobody was left to say anything
        assert "the end of its job's output:" in told
        assert "about to kill" in told
        assert "about to kill" in own[-1].traceback
    assert [event.alone for event in of_kind(events, AttemptPlaced) if event.task_id == killer.task_id] == [False, True]
    shown = render_report(build_report(events))
    assert "Workers that died running it: 2\n" in shown
    assert "ended with a worker's death, run again alone\n" in shown
    assert len({event.name for event in of_kind(events, AllocationChanged) if event.reason == "failed"}) == jobs


def kill_parent():
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def wait_for_release(number, together):
    """Work until told that the killer has been convicted."""
    (Path(together) / f"{number}").touch()
    while not (Path(together) / "release").exists():
        time.sleep(0.02)
    return number


@pytest.mark.timeout(120)
@pytest.mark.parametrize("slots", [1, 8])
def test_that_what_kills_its_parent_costs_its_own_slot_twice_and_nothing_else(tmp_path, slots):
    """Convicted at the second death; no worker is lost, and what runs beside it is neither disturbed nor charged."""
    (tmp_path / "scalable.yaml").write_text(
        MANIFEST.replace("{cpus: 4}", f"{{cpus: {slots}}}")
        .replace("max: 2", "max: 1")
        .replace("{cpus: 2}", f"{{cpus: {slots}}}")
    )
    together = tmp_path / "together"
    together.mkdir()
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    with session as client:
        beside = [client.submit(wait_for_release, number, str(together)) for number in range(slots - 1)]
        wait_until("the others run", lambda: len(list(together.iterdir())) == slots - 1, timeout=60)
        killer = client.submit(kill_parent)
        with pytest.raises(TaskKilled) as raised:
            killer.result(timeout=60)
        (together / "release").touch()
        assert [future.result(timeout=60) for future in beside] == list(range(slots - 1))
        events = list(read_events(session.run_directory.journal))

    failed = of_kind(events, AttemptFailed)
    assert [(event.task_id, event.ending, event.verdict, event.charged) for event in failed] == [
        (killer.task_id, "slot_died", "killer", False),
        (killer.task_id, "slot_died", "killer", True),
    ]
    assert all("its parent process was killed first (SIGKILL)" in event.traceback for event in failed)
    assert "SIGKILL" in str(raised.value)
    assert len(of_kind(events, AttemptPlaced)) == slots + 1
    couriers = list((session.run_directory.journal.parent / "recorders").iterdir())
    assert len(couriers) == 1, "each courier writes a file of its own"


@pytest.mark.timeout(180)
def test_that_what_runs_a_whole_job_out_of_memory_is_found_by_running_alone(tmp_path):
    """Where nobody has said how much there is: of two that ran there one comes through alone, the other does not."""
    (tmp_path / "scalable.yaml").write_text(MANIFEST.replace("max: 2", "max: 1"))
    together = tmp_path / "together"
    together.mkdir()
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")

    def events():
        return list(read_events(session.run_directory.journal))

    def job_of(attempt):
        """The batch job that an attempt of the guilty task is executing in; it waits until it is ended with its job."""
        placed = [each for each in of_kind(events(), AttemptPlaced) if each.task_id == guilty.task_id]
        if len(placed) < attempt or not (together / f"guilty-{attempt}").exists():
            return None
        jobs = {each.name: each.job_id for each in of_kind(events(), AllocationChanged) if each.job_id}
        return jobs[placed[attempt - 1].allocation]

    with session as client:
        innocent = client.submit(wait_for_release, 0, str(together))
        guilty = client.submit(fill_the_node, str(together))
        backend = LocalBackend(session.run_directory.spool)
        wait_until("they run beside each other", (together / "0").exists, timeout=60)
        backend.run_out_of_memory(wait_until("the guilty runs", lambda: job_of(1), timeout=60))
        (together / "release").touch()
        for attempt in range(2, 6):
            next_job = partial(lambda number: guilty.done() or job_of(number), attempt)
            if (job := wait_until("it runs alone, or is over", next_job, timeout=90)) is True:
                break
            backend.run_out_of_memory(job)
        assert innocent.result(timeout=60) == 0
        assert guilty.exception(timeout=60) is not None
        told = events()

    own = [each for each in of_kind(told, AttemptFailed) if each.task_id == guilty.task_id]
    in_time = [each for each in own if each.allocation_reason == "out_of_memory"]  # on a busy machine it may come late
    assert {each.verdict for each in in_time} == {"resource"}
    assert [each.charged for each in own] == [False] * (len(own) - 1) + [True]
    assert "it ran alone, and the whole allocation ran out of memory" in own[-1].because
    placed = [each.alone for each in of_kind(told, AttemptPlaced) if each.task_id == guilty.task_id]
    assert placed == [False] + [True] * (len(own) - 1)
    assert {each.task_id for each in of_kind(told, AttemptFailed) if each.charged} == {guilty.task_id}


def fill_the_node(together):
    """Say that it runs, once for each attempt, and stay."""
    (Path(together) / f"guilty-{context().attempt}").touch()
    time.sleep(120)
