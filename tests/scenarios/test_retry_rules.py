"""Users' own rules about exceptions, with real slots, and with a driver that died in between."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scalable_hpc import RetryPolicy, ScalableSession
from scalable_hpc.lineage.journal import read_events
from tests.ensembles import AttemptFailed, of_kind

MANIFEST = """\
version: 1
project: {name: rules}
targets:
  here:
    provider: local
    capacity: {cpus: 2}
    allocations: {max: 1, walltime: "00:10:00"}
components:
  model: {cpus: 2}
tasks:
  "*": {retry: {base: 0.01}}
  flood: {retry: {attempts: 3, transient: __main__.Flooded}}
"""


class Flooded(ValueError):
    """A user's own error, derived from one that is permanent."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def flood(code):
    raise Flooded(code)


def is_even(error):
    return None if error.code == 0 else error.code % 2 == 0


@pytest.fixture
def session(tmp_path):
    (tmp_path / "scalable.yaml").write_text(MANIFEST.replace("__main__", Flooded.__module__))
    session = ScalableSession.from_yaml(tmp_path / "scalable.yaml")
    yield session
    session.close()


def test_that_the_users_word_decides_about_the_users_exceptions(session):
    """By list in the manifest and in code, and by a function that is asked in the slot."""
    client = session.start()
    asked = RetryPolicy(retries=1, base_s=0.01, worth_retrying=is_even)
    futures = {
        "listed in the manifest": client.submit(flood, 0),
        "listed in code": client.submit(flood, 0, retry=RetryPolicy(retries=9, permanent=Flooded)),
        "asked: yes": client.submit(flood, 2, retry=asked),
        "asked: no": client.submit(flood, 3, retry=asked),
        "asked: nothing": client.submit(flood, 0, retry=asked),
        "a bad rule": client.submit(flood, "x", retry=asked),
        "a limit": client.submit(flood, 0, retry=RetryPolicy(base_s=0.01, limits={"PERMANENT": 1}, permanent=Flooded)),
    }

    batch = client.collect(futures.values())
    session.close()
    failed = of_kind(read_events(session.run_directory.journal), AttemptFailed)
    said = {
        name: [event.verdict for event in failed if event.task_id == future.task_id] for name, future in futures.items()
    }

    assert {type(error).__name__ for error in batch.errors().values()} == {"Flooded"}
    assert said == {
        "listed in the manifest": ["transient"] * 3,
        "listed in code": ["permanent"],
        "asked: yes": ["transient"] * 2,
        "asked: no": ["permanent"],
        "asked: nothing": ["transient"] * 2,
        "a bad rule": ["transient"] * 2,
        "a limit": ["permanent"] * 2,
    }
    assert any("worth_retrying raised TypeError" in event.because for event in failed)


def test_that_a_rule_outlives_its_driver(session, tmp_path):
    """``resume`` has it from the journal alone: the driver that submitted it is gone."""
    client = session.start()
    gate = tmp_path / "gate"

    def waits_then_floods():
        while not Path(gate).exists():
            time.sleep(0.02)
        raise Flooded(2)

    policy = RetryPolicy(retries=2, base_s=0.01, worth_retrying=is_even)
    future = client.submit(waits_then_floods, retry=policy)
    while not future.running():
        time.sleep(0.02)
    session.close()
    gate.touch()

    progress = ScalableSession.resume(session.run_directory)
    failed = [event for event in of_kind(read_events(session.run_directory.journal), AttemptFailed) if event.error_type]

    assert progress.failed == 1
    assert [event.verdict for event in failed] == ["transient"] * 3
    assert all("worth_retrying says" in event.because for event in failed)
