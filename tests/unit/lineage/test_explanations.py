"""Which of an allocation's attempts its end explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalable_hpc.lineage.explanations import Explanations
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import AttemptFailed
from tests.unit.lineage.support import NOW

LOST = AttemptFailed(NOW, "t1", 1, "worker_lost", "unknown", False, "again", "x", allocation="a0001")
R = ExitReason


def explained(failed: AttemptFailed, reason: ExitReason, after_s: float = 10.0) -> bool:
    explanations = Explanations()
    explanations.await_word(failed, NOW)
    found = explanations.explain("a0001", JobEnding(reason, reason.value, ended_at=NOW + after_s), NOW + after_s)
    return [event.attempt for event in found] == [1]


@pytest.mark.parametrize("reason", [R.TIMEOUT, R.NODE_FAIL, R.PREEMPTED, R.CANCELLED, R.OUT_OF_MEMORY, R.FAILED])
def test_that_an_end_that_takes_attempts_along_explains_them(reason):
    """A worker that was lost within two minutes of its allocation's bad end was lost to it."""
    assert explained(LOST, reason)


@pytest.mark.parametrize("reason", [R.COMPLETED, R.UNKNOWN])
def test_that_a_good_or_unknown_end_explains_nothing(reason):
    """An allocation that completed did not take its worker along."""
    assert not explained(LOST, reason)


def test_that_an_end_long_after_explains_nothing():
    """A courier that crashed an hour before the walltime had another reason."""
    assert not explained(LOST, R.TIMEOUT, after_s=3600)
    assert not explained(LOST, R.CANCELLED, after_s=130)


def test_that_slurm_may_take_its_time_to_declare_a_node_dead():
    """SlurmdTimeout is five minutes by default."""
    assert explained(LOST, R.NODE_FAIL, after_s=330)


@pytest.mark.parametrize(
    "failed",
    [
        replace(LOST, ending="refused"),
        replace(LOST, ending="exception"),
        replace(LOST, charged=True),
        replace(LOST, allocation_reason="node_fail"),
        replace(LOST, allocation="a0002"),
    ],
)
def test_that_what_has_another_cause_is_not_explained(failed):
    """Refusals, the task's own failures, what was explained before, and other allocations' attempts."""
    assert not explained(failed, R.NODE_FAIL)


def test_that_an_attempt_is_explained_once():
    """However often the fleet says it."""
    explanations = Explanations()
    explanations.await_word(LOST, NOW)
    ending = JobEnding(R.NODE_FAIL, "NODE_FAIL", ended_at=NOW)

    assert len(explanations.explain("a0001", ending, NOW)) == 1
    assert explanations.explain("a0001", ending, NOW) == []


def test_that_an_allocation_is_awaited_until_its_word_comes():
    """Whoever would cancel it should wait for the word."""
    explanations = Explanations()
    explanations.await_word(LOST, NOW)
    before = set(explanations.awaited())
    explanations.explain("a0001", JobEnding(R.COMPLETED, "COMPLETED", ended_at=NOW), NOW)
    assert (before, set(explanations.awaited())) == ({"a0001"}, set())


def test_that_a_word_that_came_first_explains_what_is_judged_after_it():
    """The inquiry had given up on the word a moment before, and was still reading the flight recorder."""
    explanations = Explanations()
    assert explanations.over("a0001", JobEnding(R.NODE_FAIL, "NODE_FAIL", ended_at=NOW), NOW) == []
    [event] = explanations.await_word(LOST, NOW)

    assert (event.task_id, event.attempt, event.allocation_reason) == ("t1", 1, "node_fail")
    assert explanations.await_word(replace(LOST, allocation="a0002"), NOW) == []
    assert set(explanations.awaited()) == {"a0002"}
