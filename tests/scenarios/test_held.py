"""Results that are held by the worker that computed them, on real allocations of this machine."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest

from scalable_hpc import ScalableSession
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import ReceiptTaken, ResultDropped, TaskRecalled
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.text import render_report
from tests.waiting import wait_until

MANIFEST = """\
version: 1
project: {name: held}
targets:
  here:
    provider: local
    capacity: {cpus: 2}
    allocations: {max: 1, walltime: "00:20:00"}
components:
  model: {cpus: 2}
tasks:
  near: {persist: false}
"""
LARGE = 300_000


def mark(place: str, name: str) -> None:
    with (Path(place) / "executions").open("a") as file:
        print(name, file=file, flush=True)


def part(place: str, name: str) -> bytes:
    mark(place, name)
    return name.encode() * LARGE


def joined(place: str, name: str, *parts: bytes) -> bytes:
    mark(place, name)
    return b"".join(parts)


def length(place: str, name: str, data: bytes) -> int:
    mark(place, name)
    return len(data)


class Stage:
    """A session, its client, and what was executed."""

    def __init__(self, place: Path) -> None:
        (place / "scalable.yaml").write_text(MANIFEST)
        self.place = place
        self.session = ScalableSession.from_yaml(place / "scalable.yaml")
        self.client = self.session.start()

    def submit(self, fn, name, *args, **options):
        return self.client.submit(fn, str(self.place), name, *args, **options)

    def executions(self) -> dict[str, int]:
        names = (self.place / "executions").read_text().split()
        return {name: names.count(name) for name in sorted(set(names))}

    def events(self, *kinds) -> list:
        return [event for event in read_events(self.session.run_directory.journal) if isinstance(event, kinds)]

    def blobs(self) -> int:
        return sum(path.is_file() for path in (self.session.run_directory.results / "v1" / "blobs").rglob("*"))

    def held(self) -> set[str]:
        """Keys of what the workers of this run hold: the names of the files."""
        keys = {event.held_by and self.key_of(event.task_id) for event in self.events(ReceiptTaken)}
        return {path.name for path in Path("/dev/shm").glob("scalable-hpc-held-*/*") if path.name in keys}

    def key_of(self, task_id: str) -> str:
        return self.keys[task_id]

    def lose_the_worker(self) -> None:
        (worker,) = self.session.workers()
        os.kill(worker.pid, signal.SIGKILL)
        wait_until("it to be noticed", lambda: worker.pid not in {w.pid for w in self.session.workers()}, timeout=60)


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.session.close()


def test_that_exactly_the_lost_lineage_is_computed_again(stage):
    """What a task that is open needs of what was lost, and not what nobody needs, nor what was stored."""
    one, two, unneeded = (stage.submit(part, name, persist=False) for name in ("one", "two", "unneeded"))
    stored = stage.submit(part, "stored")
    both = stage.submit(joined, "both", one, two, persist=False)
    stage.client.collect([one, two, unneeded, stored, both])
    assert stage.blobs() == 1  # of the stored one

    stage.lose_the_worker()
    asked = stage.submit(length, "length", both)
    again = stage.submit(joined, "again", stored, persist=False)

    assert asked.result(timeout=120) == 6 * LARGE
    again.exception(timeout=60)
    assert stage.executions() == {
        "one": 2, "two": 2, "both": 2, "unneeded": 1, "stored": 1, "length": 1, "again": 1,
    }  # fmt: skip
    recalled = stage.events(TaskRecalled)
    assert [event.task_id for event in recalled][-1:] == [both.task_id]
    assert {event.task_id for event in recalled} == {one.task_id, two.task_id, both.task_id}
    assert all("needs its result" in event.because for event in recalled)
    lost = [event for event in stage.events(ResultDropped) if "is gone" in event.because]
    assert {event.task_id for event in lost} >= {one.task_id, two.task_id, both.task_id, unneeded.task_id}
    report = build_report(stage.events(object))
    assert (report.upkeep.recalled, report.upkeep.done_twice, report.tasks.done) == (3, 0, 7)
    assert "3 results lost with a worker or damaged on disk, computed again" in render_report(report)


def test_that_the_value_is_had_from_the_worker_and_again_if_that_is_lost(stage):
    """``result()`` has it stored; one that was lost before is computed for it."""
    first, second = stage.submit(part, "first", task="near"), stage.submit(part, "second", persist=False)
    stage.client.collect([first, second])
    assert stage.blobs() == 0, "the manifest's word counts as much as the call's"

    assert first.result(timeout=60) == b"first" * LARGE
    assert (stage.blobs(), stage.executions()) == (1, {"first": 1, "second": 1})

    stage.lose_the_worker()
    assert second.result(timeout=120) == b"second" * LARGE
    assert first.result() == b"first" * LARGE
    assert stage.executions() == {"first": 1, "second": 2}


def test_that_memory_is_given_back_when_nobody_needs_it(stage):
    """Its future is gone, and the task that wanted it is over; a retry of that one brings it back."""
    needed = stage.submit(part, "needed", persist=False)
    asked = stage.submit(length, "length", needed)
    stage.keys = {needed.task_id: needed.key, asked.task_id: asked.key}
    assert asked.result(timeout=60) == 6 * LARGE
    assert stage.held() == {needed.key}

    del needed
    gc.collect()
    stage.submit(length, "nudge", b"").result(timeout=60)
    wait_until("the file to be removed", lambda: not stage.held(), timeout=30)

    assert [event.because for event in stage.events(ResultDropped)] == ["nobody needs its result any more"]
    assert stage.executions()["needed"] == 1


def test_that_a_worker_that_leaves_in_time_stores_what_it_holds(stage):
    """Nothing is computed again when an allocation ends as planned."""
    held = stage.submit(part, "held", persist=False)
    held.exception(timeout=60)
    (worker,) = stage.session.workers()
    stage.client.dask.run(leave, workers=[worker.address])
    wait_until("it to be stored", lambda: stage.blobs() == 1, timeout=60)

    assert stage.submit(length, "length", held).result(timeout=120) == 4 * LARGE
    assert stage.executions() == {"held": 1, "length": 1}


def leave(dask_worker) -> None:
    dask_worker.courier.drain("it was asked to")
