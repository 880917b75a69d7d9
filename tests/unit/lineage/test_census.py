"""What others are told of the keeper's state."""

from __future__ import annotations

import pytest

from scalable_hpc.lineage.census import Progress, demand_of, progress_of
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Allowance, Offer
from scalable_hpc.lineage.replay import replay
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.model.events import AttemptFailed, TaskCancelled, TaskGivenUp, TasksHit
from scalable_hpc.model.fleet import Demand
from scalable_hpc.model.resources import Needs, WorkerType
from tests.unit.lineage.support import NOW, attempt, hello, placed, submitted

OFFERS = (Offer(WorkerType("cpu", cpus=4, slots=4), 3600), Offer(WorkerType("big", cpus=64, gpus=4), 3600))


def demand(ledger: Ledger, roster: Roster | None = None) -> dict[str, Demand]:
    found = demand_of(ledger, roster or Roster(), Allowance(OFFERS, ledger.learned, {}))
    return {one.worker_type: one for one in found}


def test_that_progress_counts_each_task_once():
    """By where it stands; hits are none of them."""
    ledger = replay(
        [
            *(submitted(name) for name in "abcdef"),
            submitted("g", "a"),
            TasksHit(NOW, "f", 5),
            placed("a"),
            placed("b"),
            AttemptFailed(NOW, "b", 1, "exception", "transient", True, "wait", "x", retry_at=NOW + 9),
            TaskGivenUp(NOW, "c", "TaskTooLong", "x", "x"),
            TaskCancelled(NOW, "d", "x"),
        ]
    )

    assert progress_of(ledger) == Progress(done=0, running=1, waiting=4, failed=1, cancelled=1, hits=5)


def test_that_demand_is_by_worker_type():
    """A task that several types could run counts for the first; one that needs a gpu for the one that has any."""
    ledger = replay([submitted("a"), submitted("b", needs=Needs(gpus=1)), submitted("c", needs=Needs(cpus=8))])

    assert {name: one.waiting for name, one in demand(ledger).items()} == {"cpu": 1, "big": 2}


def test_that_work_counts_for_the_stand_in_of_a_type_that_is_away():
    """And the type that is away is told how much that is; what nobody else is large enough for stays its own."""
    ledger = replay(
        [
            submitted("a", needs=Needs(worker_type="big")),
            submitted("b", needs=Needs(worker_type="big", gpus=1)),
            submitted("c"),
        ]
    )
    allowance = Allowance(OFFERS, ledger.learned, {}, {"big": ("cpu",)})

    found = {one.worker_type: (one.waiting, one.diverted) for one in demand_of(ledger, Roster(), allowance)}

    assert found == {"cpu": (2, 0), "big": (1, 1)}


def test_that_work_for_any_type_counts_for_one_that_can_be_had():
    """Nobody waits for a type that is away when another would do."""
    ledger = replay([submitted("a")])
    allowance = Allowance(OFFERS, ledger.learned, {}, {"cpu": ()})

    assert {one.worker_type: one.waiting for one in demand_of(ledger, Roster(), allowance)} == {"cpu": 0, "big": 1}


def test_that_backoff_is_demand_and_waiting_for_ancestors_is_not():
    """The first will want a slot whatever happens; the other may never."""
    ledger = replay(
        [
            submitted("a"),
            submitted("b", "a"),
            placed("a"),
            AttemptFailed(NOW, "a", 1, "exception", "transient", True, "wait", "x", retry_at=NOW + 9),
        ]
    )

    assert demand(ledger)["cpu"].waiting == 1


def test_that_demand_tells_the_longest_need_and_the_mean():
    """So that the fleet can tell whether what is left of an allocation is of any use."""
    ledger = replay([submitted("a", expected_runtime_s=50.0), submitted("b", expected_runtime_s=200.0)])
    ledger.learned.completed("f", 30.0)

    assert demand(ledger)["cpu"] == Demand("cpu", 2, 0, 200.0, 30.0, longest_s=200.0, work_s=250.0)


@pytest.mark.parametrize(
    "unknown",
    [
        submitted("x", name="never seen"),
        submitted("x", "a"),
        submitted("x", expected_runtime_s=9.0, checkpoints=True),
    ],
    ids=["of no known length", "waits for an ancestor", "goes on in another allocation"],
)
def test_that_one_task_of_which_nothing_is_known_makes_the_longest_unknown(unknown):
    """So that no allocation is asked for too short a time."""
    ledger = replay([submitted("a", expected_runtime_s=50.0)])

    assert demand(ledger)["cpu"].longest_s == 50.0
    assert demand(replay([submitted("a", expected_runtime_s=50.0), unknown]))["cpu"].longest_s is None


def test_that_the_longest_that_was_seen_is_allowed_for_and_the_mean_believed_after_some():
    """A p95 would cut the slowest one of twenty off."""
    few, many = replay([submitted("a")]), replay([submitted("a")])
    for ledger, count in ((few, 3), (many, 30)):
        for _ in range(count):
            ledger.learned.completed("f", 10.0)
    many.learned.completed("f", 400.0)

    [unsure, sure] = [demand(each)["cpu"] for each in (few, many)]

    assert unsure.work_s == unsure.need_s == unsure.longest_s
    assert sure.work_s == sure.mean_s < 30.0
    assert 400.0 <= (sure.longest_s or 0.0) <= 420.0


def test_that_a_task_counts_for_the_slots_that_it_leaves_no_room_for():
    """Three of four cpus, or all of the memory: nobody else works beside it."""
    needs = {"cpus": Needs(cpus=3), "gpu": Needs(cpus=1, gpus=2), "one": Needs()}
    offers = (Offer(WorkerType("cpu", cpus=4, gpus=4, slots=4), 3600),)

    worth = {}
    for name, need in needs.items():
        ledger = replay([submitted("a", expected_runtime_s=10.0, needs=need)])
        [found] = demand_of(ledger, Roster(), Allowance(offers, ledger.learned, {}))
        worth[name] = found.work_s / 10.0

    assert worth == {"cpus": 4.0, "gpu": 2.0, "one": 1.0}


def test_that_what_is_assigned_is_counted_where_it_is():
    """By the type of the worker that has it."""
    roster = Roster()
    roster.hello(hello(), NOW)
    roster.assign(hello().address, "k", [attempt("a"), attempt("b")], Needs())

    assert demand(Ledger(), roster)["cpu"].assigned == 2
    assert demand(Ledger())["cpu"] == Demand("cpu", 0, 0)
