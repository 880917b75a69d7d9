"""When a loss comes, and whom it hits."""

from __future__ import annotations

from scalable_hpc.lineage.replay import replay
from scalable_hpc.rehearsal.cues import Cue, busiest, due, in_order
from tests.unit.lineage.support import placed, submitted


def test_that_losses_come_in_order_and_none_before_its_time():
    """By the number of tasks that are done."""
    cues = in_order([Cue("oom", 9), Cue("preempt", 2), Cue("lose_node", 9)])

    assert [cue.after for cue in cues] == [2, 9, 9]
    assert due(cues, 1) is None
    assert due(cues, 5) == Cue("preempt", 2)
    assert due([], 5) is None


def test_that_a_loss_hits_the_allocation_that_has_most_to_lose():
    """One with nothing in hand, or whose job does not run, is not worth it."""
    journal = [submitted(name) for name in "abc"]
    journal += [placed("a", allocation="a0001"), placed("b", allocation="a0002"), placed("c", allocation="a0002")]
    ledger = replay(journal)

    assert busiest(ledger, ["a0001", "a0002", "a0003"]) == "a0002"
    assert busiest(ledger, ["a0001"]) == "a0001"
    assert busiest(ledger, ["a0003"]) is None
