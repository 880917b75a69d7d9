"""What happened to a task, in words."""

from __future__ import annotations

from scalable_hpc.lineage.account import account_of
from scalable_hpc.model.events import (
    AttemptExplained,
    AttemptFailed,
    ReceiptTaken,
    RunOpened,
    TaskGivenUp,
    TaskRecalled,
)
from tests.unit.lineage.support import NOW, placed, submitted

LOST = AttemptFailed(
    NOW, "t", 1, "worker_lost", "infrastructure", False, "again", "the node went", allocation="a0001", node="n1"
)


def test_that_every_event_of_the_task_is_told_and_no_other():
    """In the journal's order, with what was decided and why."""
    journal = [
        RunOpened(NOW, "r", "here", 7, "login", "0"),
        submitted("t"),
        submitted("other"),
        placed("t"),
        placed("other"),
        LOST,
        AttemptExplained(NOW, "t", 1, "a0001", "node_fail", "allocation node_fail: NODE_FAIL"),
        placed("t", 2),
        ReceiptTaken(NOW, "t", 2, "d" * 64, 1, NOW - 2, NOW, 1, "n2", "a0002"),
        TaskRecalled(NOW, "t", "its result was lost"),
        TaskGivenUp(NOW, "t", "ValueError", "x", "its retries are used up"),
    ]

    words = [said for _, said in account_of("t", journal)]
    assert len(words) == 9
    assert words[0] == "a driver opened the run (process 7 on login)"
    assert words[2] == "attempt 1 was sent to a0001"
    assert "worker lost, taken by the infrastructure, costs it no try; run again at once, because the node" in words[3]
    assert "said later: allocation node_fail: NODE_FAIL" in words[4]
    assert words[6] == "attempt 2 was done in 2.0 s on n2"
    assert "run again: its result was lost" in words[7]
    assert words[8] == "failed for good: ValueError: its retries are used up"
