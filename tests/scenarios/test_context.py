"""What a task learns about itself, with real allocations of this machine."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import scalable_hpc
from scalable_hpc import ScalableSession

MANIFEST = """\
version: 1
project: {name: context}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 1, walltime: "00:20:00"}
components:
  model: {cpus: 2}
tasks:
  second_time: {retry: {retries: 1, base_s: 0.05}}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    place = tmp_path_factory.mktemp("context")
    (place / "scalable.yaml").write_text(MANIFEST)
    with ScalableSession.from_yaml(place / "scalable.yaml") as client:
        yield client


def describe():
    here = scalable_hpc.context()
    return here.task_id, here.attempt, here.time_left, here.should_stop


def second_time():
    here = scalable_hpc.context()
    saved = here.checkpoint_dir / "state"
    (here.scratch / f"{here.attempt}").touch()
    if here.attempt == 1:
        saved.write_text("from the first")
        raise ConnectionError("not yet")
    return saved.read_text(), sorted(path.name for path in here.scratch.iterdir()), str(here.checkpoint_dir)


def test_that_a_task_knows_its_name_and_its_time(client):
    """The name is the future's; the time is what is left of the walltime."""
    future = client.submit(describe)
    task_id, attempt, time_left, should_stop = future.result(timeout=60)

    assert (task_id, attempt, should_stop) == (future.task_id, 1, False)
    assert 600 < time_left < 1200


def test_that_what_an_attempt_saved_is_there_for_the_next(client):
    """Scratch is not."""
    text, scratch, directory = client.submit(second_time).result(timeout=60)

    assert text == "from the first"
    assert scratch == ["2"]
    assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(directory).parent.stat().st_mode) == 0o700
