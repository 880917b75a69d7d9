"""The ready queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.model.events import TaskCancelled
from scalable_hpc.model.resources import Needs
from tests.unit.lineage.support import NOW, placed, submitted


def in_order(ledger: Ledger) -> list[str]:
    """Take everything out of a ledger that has one lane."""
    taken = []
    while ledger.ready.size:
        (lane,) = ledger.ready.lanes()
        record = lane.head()
        ledger.ready.discard(record)
        taken.append(record.task_id)
    return taken


@given(st.lists(st.integers(-2, 2), max_size=50), st.sets(st.integers(0, 49)))
def test_that_a_lane_goes_by_priority_then_age(priorities, cancelled):
    """And forgets what was cancelled, wherever it stood."""
    ledger = Ledger()
    for number, priority in enumerate(priorities):
        ledger.apply(submitted(f"t{number}", priority=priority))
    for number in cancelled & set(range(len(priorities))):
        ledger.apply(TaskCancelled(NOW, f"t{number}", "x"))
    left = [number for number in range(len(priorities)) if number not in cancelled]
    expected = sorted(left, key=lambda number: (-priorities[number], number))

    assert ledger.ready.size == len(left)
    assert in_order(ledger) == [f"t{number}" for number in expected]


def test_that_tasks_with_different_wishes_have_lanes_of_their_own():
    """What differs in name, needs or run time is looked at apart; five percent of run time is no difference."""
    ledger = Ledger()
    ledger.apply(submitted("a", expected_runtime_s=99.0))
    ledger.apply(submitted("b", expected_runtime_s=100.0))
    ledger.apply(submitted("c", expected_runtime_s=150.0))
    ledger.apply(submitted("d", needs=Needs(cpus=2)))
    ledger.apply(submitted("e", name="g"))

    assert sorted(lane.live for lane in ledger.ready.lanes()) == [1, 1, 1, 2]


def test_that_replaying_a_million_placements_leaves_no_heap_behind():
    """Entries of tasks that were placed long ago are swept."""
    ledger = Ledger()
    ledger.apply(submitted("first"))
    for number in range(5_000):
        ledger.apply(submitted(f"t{number}"))
        ledger.apply(placed(f"t{number}"))
    (lane,) = ledger.ready.lanes()

    assert lane.live == 1
    assert len(lane.heap) < 2_000
