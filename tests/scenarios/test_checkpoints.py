"""A task that outlasts the walltime of every allocation, because it saves its state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import scalable_hpc
from scalable_hpc import Checkpointed, RetryPolicy, ScalableSession
from scalable_hpc.errors import AttemptsExhausted, TaskTooLong
from scalable_hpc.lineage.journal import read_events
from tests.ensembles import AttemptFailed, AttemptPlaced, ReceiptTaken, of_kind

STEPS = 80
STEP_S = 0.1

MANIFEST = """\
version: 1
project: {name: checkpoints}
targets:
  here:
    provider: local
    margin: 1s
    capacity: {cpus: 2}
    allocations: {max: 2, walltime: "00:00:10"}
components:
  model: {cpus: 1}
"""


@pytest.fixture
def session(tmp_path):
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    yield session
    session.close()


def count(log):
    """Count to STEPS, from where the attempt before left off."""
    here = scalable_hpc.context()
    saved = here.checkpoint_dir / "count"
    done = int(saved.read_text()) if saved.exists() else 0
    while done < STEPS:
        time.sleep(STEP_S)
        done += 1
        with Path(log).open("a") as lines:
            lines.write(f"{here.attempt} {done}\n")
        if here.should_stop and done < STEPS:
            saved.write_text(str(done))
            raise Checkpointed(f"counted to {done}")
    return done


@pytest.mark.timeout(150)
def test_that_a_task_that_checkpoints_finishes_over_several_allocations(session, tmp_path):
    """No step is made twice, nothing is charged, and the journal says why it went on."""
    client = session.start()
    log = tmp_path / "steps"
    future = client.submit(count, str(log), checkpoints=True, expected_runtime=STEPS * STEP_S)

    assert future.result(timeout=120) == STEPS
    session.close()
    events = list(read_events(session.run_directory.journal))
    failed = of_kind(events, AttemptFailed)
    handed_back = [event for event in failed if event.error_type == "scalable_hpc.errors.Checkpointed"]
    placed = of_kind(events, AttemptPlaced)
    (receipt,) = of_kind(events, ReceiptTaken)
    steps = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert handed_back
    assert all("handed itself back" in event.because for event in handed_back)
    assert [event.charged for event in failed] == [False] * len(failed)
    assert len({event.allocation for event in placed}) >= 2
    assert receipt.attempt == len(placed)
    assert steps == list(range(1, STEPS + 1))


def test_that_a_task_that_does_not_checkpoint_fails_fast(session, tmp_path):
    """Before anything runs; it says what it needs and what would help."""
    future = session.start().submit(count, str(tmp_path / "steps"), expected_runtime=STEPS * STEP_S)

    with pytest.raises(TaskTooLong, match="needs a walltime of") as caught:
        future.result(timeout=60)

    assert "checkpoints=True" in str(caught.value)
    assert not (tmp_path / "steps").exists()


def never_gets_on(number):
    """Raise at once, whatever there is to save."""
    raise Checkpointed(f"nothing done of {number}")


def gets_on(legs):
    """Raise at once, but with a file that says how far it is."""
    saved = scalable_hpc.context().checkpoint_dir / "legs"
    done = int(saved.read_text()) if saved.exists() else 0
    if done < legs:
        saved.write_text(str(done + 1))
        raise Checkpointed(f"leg {done + 1}")
    return done


def test_that_handing_itself_back_without_getting_on_comes_to_an_end(session):
    """One that changes nothing fails after so many times, one that does may go on longer, and a limit is a limit."""
    client = session.start()
    policy = RetryPolicy(infrastructure_limit=3)
    stuck = client.submit(never_gets_on, 1, retry=policy)
    moving = client.submit(gets_on, 5, retry=policy)
    limited = client.submit(gets_on, 5, retry=RetryPolicy(limits={"EXPECTED": 2}))

    assert moving.result(timeout=60) == 5
    with pytest.raises(AttemptsExhausted, match="3 times in a row, and nothing in its checkpoint_dir changed"):
        stuck.result(timeout=60)
    with pytest.raises(AttemptsExhausted, match="limit for EXPECTED"):
        limited.result(timeout=60)

    session.close()
    failed = of_kind(read_events(session.run_directory.journal), AttemptFailed)
    decisions = [event.decision for event in failed if event.task_id == stuck.task_id]
    assert decisions == ["again", "again", "give_up"]
