"""Why a task waits, and where it could run: told from the journal's events and the worker types on offer."""

from __future__ import annotations

import pytest

from scalable_hpc.lineage.lanes import lane_key
from scalable_hpc.lineage.need import Offer
from scalable_hpc.lineage.reasons import reasons
from scalable_hpc.lineage.replay import replay
from scalable_hpc.lineage.standing import Fleet, Standing, fleet_of, groups, stand
from scalable_hpc.model.events import AllocationChanged, AttemptFailed, ReceiptTaken, TaskCancelled, TaskGivenUp
from scalable_hpc.model.resources import Needs, WorkerType
from tests.unit.lineage.support import NOW, key_of, placed, submitted

CPU, BIG = WorkerType("cpu", cpus=4, slots=2, memory=2**32), WorkerType("big", cpus=64, gpus=4, memory=2**36)
OFFERS = (Offer(CPU, 600.0), Offer(BIG, 3600.0))


def allocation(state: str, because: str = "x", name: str = "a0001", **more) -> AllocationChanged:
    facts = {"worker_type": "cpu", "job_id": "7", "nodes": ("n1",), "ends_at": NOW + 100} | more
    return AllocationChanged(NOW - 30, name, state, because, **facts)


def standing(
    task_id: str, *journal, words: dict[str, str] | None = None, told: dict[str, str] | None = None, placing: str = ""
) -> Standing:
    ledger = replay(journal)
    unplaced = {lane_key(ledger.tasks[task_id]): placing} if placing else {}
    said = None if told is None else reasons(1, NOW, unplaced, told)
    fleet = fleet_of([each for each in journal if isinstance(each, AllocationChanged)], ledger, 1, words, said)
    return stand(ledger.tasks[task_id], ledger, OFFERS, fleet, NOW)


LIVE, PENDING = allocation("live"), allocation("pending", "Priority")
FAILED = AttemptFailed(NOW, "t", 1, "exception", "transient", True, "wait", "x", retry_at=NOW + 9)
LOST = AttemptFailed(NOW, "t", 1, "slot_died", "killer", False, "again", "x", node="n1", allocation="a0001")
DONE = ReceiptTaken(NOW, "t", 1, "d" * 64, 1, NOW - 2, NOW, 1, "n1", "a0001")
REASONS = {
    "no allocation": ((submitted("t"),), "there is no allocation of worker type 'cpu' or 'big'"),
    "pending": ((submitted("t"), PENDING), "a0001 (job 7) is pending for 30 s: Priority"),
    "taken": ((submitted("u"), submitted("v"), submitted("t"), LIVE, placed("u"), placed("v")), "no allocation"),
    "free": ((submitted("t"), LIVE), "it is about to be placed"),
    "sent": ((submitted("t"), LIVE, placed("t")), "attempt 1 is on a0001"),
    "ancestor": ((submitted("u"), submitted("t", "u")), "it waits for u (ready)"),
    "same call": ((submitted("u"), submitted("t", key=key_of("u"))), "it is the same call as u"),
    "backoff": ((submitted("t"), placed("t"), FAILED), "attempt 1 failed; the next one is due in 9.0 s"),
    "too large": ((submitted("t", needs=Needs(cpus=99)),), "no worker type offers that"),
    "too long": ((submitted("t", expected_runtime_s=9999.0),), "it needs a walltime of"),
    "done": ((submitted("t"), placed("t"), DONE), "its result is kept"),
    "failed": ((submitted("t"), TaskGivenUp(NOW, "t", "ValueError", "bad", "x")), "ValueError: bad"),
    "cancelled": ((submitted("t"), TaskCancelled(NOW, "t", "x")), "it is no longer wanted"),
}


@pytest.mark.parametrize(("journal", "words"), REASONS.values(), ids=REASONS.keys())
def test_that_each_state_says_why(journal, words):
    """In words that name what is waited for."""
    assert words in standing("t", *journal).because


def test_that_what_a_living_driver_says_goes_before_what_the_journal_lets_one_guess():
    """Why the last round of placement left it, and why the fleet asks for no more of a type that would do."""
    told = {"cpu": "allocations.max is 1", "other": "it pauses"}
    taken = standing("t", submitted("t"), LIVE, told=told, placing="every slot is taken")
    missing = standing("t", submitted("t"), told=told)

    assert taken.because == "every slot is taken; no more of 'cpu' is asked for: allocations.max is 1"
    assert missing.because.endswith(
        "of worker type 'cpu' or 'big'; no more of 'cpu' is asked for: allocations.max is 1"
    )
    assert standing("t", submitted("t"), LIVE, told={}).because == "it is about to be placed"


def places(found: Standing) -> dict[str, tuple[bool, str]]:
    return {place.place: (place.fits, place.because) for place in found.places}


def test_that_what_is_too_small_or_too_short_says_so():
    """Of each worker type that cannot take the task, every reason."""
    asked = submitted("t", needs=Needs(cpus=8, gpus=1, memory=2**35), expected_runtime_s=1200.0)

    found = places(standing("t", asked))
    fits, because = found["worker type 'cpu'"]
    assert not fits
    for reason in (
        "8 cpus are more than 4",
        "1 gpus are more than 0",
        "32 GiB are more than 4 GiB",
        "walltime 00:10:00",
    ):
        assert reason in because
    assert found["worker type 'big'"] == (True, "large enough")


@pytest.mark.parametrize(
    ("seen", "others", "asked", "fits", "because"),
    [
        pytest.param(LIVE, 1, {}, True, "1 of 2 slots are free, 95 s left", id="a slot is free"),
        pytest.param(LIVE, 2, {}, False, "its slots are taken: 2 attempts on 2", id="full"),
        pytest.param(LIVE, 0, {"expected_runtime_s": 99.0}, False, "it needs 99.0 s, 95.0 s are left", id="too late"),
        pytest.param(allocation("draining", "its end is near"), 0, {}, False, "draining: its end is near", id="drains"),
        pytest.param(PENDING, 0, {}, False, "is pending for 30 s: Priority", id="pending"),
    ],
)
def test_that_an_allocation_says_whether_it_has_room(seen, others, asked, fits, because):
    """By slots, by the time that is left, and by its own state."""
    before = [submitted(f"o{n}") for n in range(others)] + [placed(f"o{n}") for n in range(others)]

    found = places(standing("t", seen, *before, submitted("t", **asked)))["a0001"]
    assert found[0] is fits
    assert because in found[1]


def test_that_a_task_that_killed_its_slot_is_told_where_not_to_go():
    """The node where it happened is named."""
    found = places(standing("t", submitted("t"), LIVE, placed("t"), LOST))

    assert found["a0001"] == (False, "it had better go elsewhere than n1, where it failed")


def test_that_the_newest_word_of_the_batch_system_is_taken():
    """The journal has what it said when the job was submitted; it may wait for something else now."""
    assert "QOSMaxJobs" in standing("t", submitted("t"), PENDING, words={"a0001": "PENDING (QOSMaxJobs)"}).because


def test_that_an_ended_allocation_is_none():
    """It is neither a place nor a reason."""
    assert "a0001" not in places(standing("t", submitted("t"), LIVE, allocation("ended")))


def test_that_tasks_that_wait_for_the_same_are_told_together():
    """By name and reason, the most numerous first, with an example."""
    ledger = replay([*(submitted(f"t{n}") for n in range(3)), submitted("after", "t0", name="g")])

    first, second = groups(ledger, OFFERS, Fleet({}), NOW)
    assert (first.count, first.name, first.state, first.example) == (3, "f", "ready", "t0")
    assert (second.count, second.name, second.because) == (1, "g", "for results of f")
