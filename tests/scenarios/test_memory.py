"""Tasks that need more memory than they are given, with real processes that hold it."""

from __future__ import annotations

import os
import time

import pytest

from scalable_hpc import RetryPolicy, ScalableSession, context
from scalable_hpc.errors import TaskOutOfMemory
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import AllocationChanged, AttemptPlaced
from tests.ensembles import AttemptFailed, of_kind

MIB = 1 << 20
MANIFEST = """\
version: 1
project: {name: memory}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 1, walltime: "00:10:00"}
    poll: 0.2
components:
  small: {cpus: 2, memory: 300M, max_memory: 300M}
  large: {cpus: 1, memory: 900M, max_memory: 900M}
  other: {cpus: 1, memory: 4G, env: {SOFTWARE: other}}
tasks:
  hold: {component: small}
"""


@pytest.fixture
def session(tmp_path):
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    yield session
    session.close()


def hold(mebibytes, seconds=1.5):
    """Hold so much until the guard has had its look."""
    held = bytearray(os.urandom(MIB)) * mebibytes
    time.sleep(seconds)
    return len(held) // MIB


def events_of(session):
    session.close()
    return list(read_events(session.run_directory.journal))


def test_that_a_task_that_needs_more_gets_more_on_a_larger_worker_type(session):
    """It costs no retry, the journal says how much, and the next of its name starts with what the first one held."""
    client = session.start()
    first = client.submit(hold, 500)

    assert first.result(timeout=90) == 500
    second = client.submit(hold, 490)
    assert second.result(timeout=60) == 490

    events = events_of(session)
    failed, placed = of_kind(events, AttemptFailed), of_kind(events, AttemptPlaced)
    types = {event.name: event.worker_type for event in of_kind(events, AllocationChanged) if event.worker_type}
    assert failed
    assert {(event.task_id, event.verdict, event.charged) for event in failed} == {(first.task_id, "resource", False)}
    assert all(event.next_memory and "of memory" in event.because for event in failed)
    assert [types[event.allocation] for event in placed if event.task_id == first.task_id][-1] == "large"
    given = [event.memory for event in placed if event.task_id == first.task_id]
    assert given == sorted(set(given))
    assert [(event.attempt, types[event.allocation]) for event in placed if event.task_id == second.task_id] == [
        (1, "large")
    ]


def test_that_a_task_that_needs_more_than_there_is_fails_with_what_it_needed(session):
    """As a MemoryError; a component of other software is none that it could run on."""
    future = session.start().submit(hold, 1200, tag="large")

    with pytest.raises(MemoryError) as caught:
        future.result(timeout=90)

    assert isinstance(caught.value, TaskOutOfMemory)
    assert "the largest worker that could run it has 900 MiB" in str(caught.value)
    assert isinstance(caught.value.__cause__, MemoryError)


GROWING = """\
version: 1
project: {name: memory}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 1, walltime: "00:10:00"}
    poll: 0.2
components:
  small: {cpus: 2, memory: 250M, max_memory: 800M}
"""


def hold_until_stopped(mebibytes, attempts):
    """Hold so much, in so many attempts until somebody has looked and stopped it."""
    held = bytearray(os.urandom(MIB)) * mebibytes
    if context().attempt <= attempts:
        time.sleep(120)
    return len(held) // MIB


def test_that_a_component_is_asked_for_with_more_memory_for_a_task_that_needs_it(tmp_path):
    """Where no other has enough: up to its bound, journalled, uncharged; what needs more than that fails, alone."""
    (tmp_path / "scalable.yaml").write_text(GROWING)
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    try:
        client = session.start()
        neighbours = [client.submit(hold, 10, 1.0) for _ in range(2)]
        fits, too_large = client.submit(hold_until_stopped, 350, 1), client.submit(hold_until_stopped, 900, 9)
        assert fits.result(timeout=90) == 350
        with pytest.raises(TaskOutOfMemory, match="the largest worker that could run it has 800 MiB"):
            too_large.result(timeout=90)
        assert [each.result(timeout=60) for each in neighbours] == [10, 10]
    finally:
        events = events_of(session)

    failed = of_kind(events, AttemptFailed)
    opened = {event.name: event.worker_type for event in of_kind(events, AllocationChanged) if event.worker_type}
    assert set(opened.values()) <= {"small", "small-500M", "small-720M", "small-800M"}
    assert {"small-720M", "small-800M"} & set(opened.values())
    assert {event.task_id for event in failed} == {fits.task_id, too_large.task_id}
    assert {event.task_id for event in failed if event.charged} == {too_large.task_id}
    assert all(event.next_memory and "of memory" in event.because for event in failed if not event.charged)
    assert not [event for event in of_kind(events, AllocationChanged) if event.reason == "failed"]


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def test_that_a_timeout_is_tried_again_with_more_time_where_the_policy_says_so(session):
    """Twice as much, as often as the limit says; the attempts that were killed cost no retry of another kind."""
    client = session.start()
    policy = RetryPolicy(base_s=0.01, limits={"RESOURCE": 2})
    enough = client.submit(sleep, 2.0, timeout=1.5, retry=policy)
    never = client.submit(sleep, 60, timeout=0.2, retry=policy)

    assert enough.result(timeout=60) == 2.0
    with pytest.raises(TimeoutError, match=r"its timeout of 0\.8 s"):
        never.result(timeout=60)

    failed = of_kind(events_of(session), AttemptFailed)
    assert [event.next_timeout_s for event in failed if event.task_id == enough.task_id][:1] == [3.0]
    assert [event.next_timeout_s for event in failed if event.task_id == never.task_id] == [0.4, 0.8, None]


SLURM = """\
version: 1
project: {{name: memory}}
targets:
  cluster:
    provider: slurm
    partition: {partition}
    interface: {interface}
    poll: 1s
    allocations: {{max: 1, walltime: "00:10:00"}}
components:
  small: {{cpus: 1, memory: 600M, max_memory: 1800M}}
"""


def fill(mebibytes):
    """Take it faster than anybody looks, so that on Slurm the job's own limit may be the first to be felt."""
    return len(bytearray(os.urandom(MIB)) * mebibytes) // MIB


@pytest.mark.slurm
def test_that_a_task_that_its_slurm_job_has_no_room_for_is_run_in_a_larger_one(slurm, tmp_path):
    """Stopped by us or killed by the kernel, it goes on in a job that asks for more; no retry is used up."""
    text = SLURM.format(partition="batch", interface=slurm.interface)
    (tmp_path / "scalable.yaml").write_text(text)
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    try:
        future = session.start().submit(fill, 900)
        assert future.result(timeout=120) == 900
        [larger] = [name for name in session.run_directory.scripts.iterdir() if "--mem=1200M" in name.read_text()]
        script = larger.read_text()
        events = events_of(session)
    finally:
        session.close()

    types = {event.name: event.worker_type for event in of_kind(events, AllocationChanged) if event.worker_type}
    failed = of_kind(events, AttemptFailed)
    assert {(event.verdict, event.charged) for event in failed} == {("resource", False)}
    assert [types[event.allocation] for event in of_kind(events, AttemptPlaced)][-1] == "small-1200M"
    assert "#SBATCH --mem=1200M\n" in script
