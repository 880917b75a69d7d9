"""Results that are damaged on disk before their dependents come, on real allocations of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scalable_hpc import ScalableSession, cacheable
from scalable_hpc.errors import AncestorFailed
from scalable_hpc.future import ScalableFuture
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import AttemptFailed, ReceiptTaken, ResultDropped, TaskRecalled
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.text import render_report
from tests.waiting import wait_until

MANIFEST = """\
version: 1
project: {name: damaged}
targets:
  here:
    provider: local
    capacity: {cpus: 2}
    allocations: {max: 1, walltime: "00:20:00"}
components:
  model: {cpus: 2}
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


def length(place: str, name: str, *parts: bytes) -> int:
    mark(place, name)
    return sum(map(len, parts))


def small(place: str, name: str) -> str:
    mark(place, name)
    return name * 10


def gate(place: str) -> str:
    mark(place, "gate")
    until = time.monotonic() + 120
    while not (Path(place) / "open").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return ""


@cacheable
def kept(place: str, name: str, scale: int) -> bytes:
    mark(place, name)
    return name.encode() * scale


class Stage:
    """A session, its client, and what was executed."""

    def __init__(self, place: Path) -> None:
        (place / "scalable.yaml").write_text(MANIFEST)
        self.place = place
        self.session = ScalableSession.from_yaml(place / "scalable.yaml")
        self.client = self.session.start()
        self.run = self.session.run_directory

    def submit(self, fn, name, *args, **options):
        return self.client.submit(fn, str(self.place), name, *args, **options)

    def executions(self) -> dict[str, int]:
        names = (self.place / "executions").read_text().split()
        return {name: names.count(name) for name in sorted(set(names))}

    def events(self, *kinds) -> list:
        return [event for event in read_events(self.run.journal) if isinstance(event, kinds)]

    def found_in_cache(self, name: str, scale: int) -> ScalableFuture:
        """Return the future of a call that was made elsewhere before."""
        kept(str(self.place), name, scale)
        future = self.submit(kept, name, scale)
        assert future.done()
        return future

    def blob_of(self, future) -> Path:
        (digest,) = {event.digest for event in self.events(ReceiptTaken) if event.task_id == future.task_id}
        return self.run.results / "v1" / "blobs" / digest[:2] / digest


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.session.close()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, at: int = 1000) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["truncated", "flipped", "deleted"])
def test_that_a_damaged_result_is_computed_again_for_its_dependent(stage, damage):
    """It, and nothing above or beside it; the dependent is not charged for having met it."""
    above, beside = stage.submit(part, "above"), stage.submit(part, "beside")
    first = stage.submit(joined, "first", above, beside)
    stage.client.collect([first])
    damage(stage.blob_of(first))

    second, third = (stage.submit(length, name, first) for name in ("second", "third"))

    assert [second.result(timeout=60), third.result(timeout=60)] == [11 * LARGE] * 2
    assert stage.executions() == {"above": 1, "beside": 1, "first": 2, "second": 1, "third": 1}
    (dropped,), (recalled,) = stage.events(ResultDropped), stage.events(TaskRecalled)
    assert (dropped.task_id, recalled.task_id) == (first.task_id, first.task_id)
    assert "damaged or gone" in dropped.because
    assert "needs its result" in recalled.because
    assert not any(failed.charged for failed in stage.events(AttemptFailed))
    report = build_report(stage.events(object))
    assert (report.upkeep.recalled, report.upkeep.done_twice, report.tasks.done) == (1, 0, 5)
    assert "1 result lost with a worker or damaged on disk, computed again" in render_report(report)


def test_that_a_whole_lineage_that_is_damaged_is_computed_again(stage):
    """Each before what needs it; and ``result()`` has the same done, once."""
    first = stage.submit(part, "first")
    second = stage.submit(joined, "second", first, b"!")
    stage.client.collect([second])
    for future in (first, second):
        stage.blob_of(future).unlink()

    assert second.result(timeout=60) == b"first" * LARGE + b"!"
    assert first.result(timeout=60) == b"first" * LARGE
    assert stage.submit(length, "third", second).result(timeout=60) == 5 * LARGE + 1
    assert stage.executions() == {"first": 2, "second": 2, "third": 1}
    assert [event.task_id for event in stage.events(TaskRecalled)] == [second.task_id, first.task_id]
    assert [event.because for event in stage.events(TaskRecalled)] == [
        "its value is asked for", f"{second.task_id!r} needs its result",
    ]  # fmt: skip


def test_that_the_first_result_of_an_impure_call_is_not_replaced(stage):
    """Another one would be another result: what needs it fails, and says what to do."""
    first = stage.submit(part, "first", pure=False)
    stage.client.collect([first])
    stage.blob_of(first).unlink()

    with pytest.raises(AncestorFailed, match="submit that call again"):
        stage.submit(length, "second", first).result(timeout=60)
    assert stage.executions() == {"first": 1}


def flip_blobs(cache: Path) -> None:
    for blob in (cache / "v1" / "blobs").glob("*/*"):
        flip(blob)


def remove_packs(cache: Path) -> None:
    for pack in (cache / "v1" / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()


@pytest.mark.parametrize(("scale", "damage"), [(LARGE, flip_blobs), (1, remove_packs)], ids=["flipped", "removed"])
def test_that_a_result_from_the_cache_that_is_damaged_is_computed_again_for_its_dependents(stage, scale, damage):
    """No task of this run had made it; it is one now, and nobody is charged."""
    first = stage.found_in_cache("first", scale)
    damage(stage.place / ".scalable" / "cache")

    lengths = [stage.submit(length, name, first).result(timeout=60) for name in ("second", "third")]

    assert lengths == [len("first") * scale] * 2
    assert stage.executions() == {"first": 2, "second": 1, "third": 1}
    assert [event.task_id for event in stage.events(TaskRecalled)] == [first.task_id]
    assert not any(failed.charged for failed in stage.events(AttemptFailed))
    report = build_report(stage.events(object))
    assert (report.tasks.done, report.tasks.hits, report.tasks.failed, report.upkeep.done_twice) == (3, 0, 0, 0)


def resume(stage: Stage) -> int:
    words = [sys.executable, "-m", "scalable_hpc.cli", "resume", stage.run.run_id]
    return subprocess.run(words, cwd=stage.place, timeout=120, check=False).returncode


def test_that_it_is_computed_again_after_its_driver_is_gone(stage):
    """What it was called with is in the journal; a small one in a pack is no other case."""
    first = stage.submit(small, "first")
    door = stage.client.submit(gate, str(stage.place))
    second = stage.submit(length, "second", first, door)
    assert first.result(timeout=60) == "first" * 10
    wait_until("the gate", lambda: "gate" in stage.executions(), timeout=60)
    stage.session.close()
    assert not second.done() or second.cancelled()
    for pack in (stage.run.results / "v1" / "packs").glob("*.pack"):
        flip(pack, pack.read_bytes().index(b"firstfirst"))
    (stage.place / "open").touch()

    assert resume(stage) == 0

    assert stage.executions() == {"first": 2, "gate": 2, "second": 1}
    (ended,) = [failed for failed in stage.events(AttemptFailed) if failed.task_id == door.task_id]
    assert (ended.verdict, ended.charged) == ("expected", False), "the driver that ended had asked for it"
    assert [event.task_id for event in stage.events(TaskRecalled)] == [first.task_id]
    assert resume(stage) == 0
    assert stage.executions() == {"first": 2, "gate": 2, "second": 1}


def test_that_resume_has_a_damaged_result_from_the_cache_computed_again(stage):
    """No driver had found it out, and no script is there: what the call was is in the journal since it was needed."""
    first = stage.found_in_cache("first", LARGE)
    door = stage.client.submit(gate, str(stage.place))
    stage.submit(length, "second", first, door)
    wait_until("the gate", lambda: "gate" in stage.executions(), timeout=60)
    stage.session.close()
    flip_blobs(stage.place / ".scalable" / "cache")
    (stage.place / "open").touch()

    assert resume(stage) == 0

    assert stage.executions() == {"first": 2, "gate": 2, "second": 1}
    report = build_report(stage.events(object))
    assert (report.tasks.submitted, report.tasks.done, report.tasks.hits) == (3, 3, 0)
    assert not any(failed.charged for failed in stage.events(AttemptFailed))
