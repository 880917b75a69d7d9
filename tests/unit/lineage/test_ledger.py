"""The ledger as a fold."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from scalable_hpc.errors import JournalError
from scalable_hpc.lineage import rulings, succession
from scalable_hpc.lineage.codec import decode_event, encode_event
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.replay import left_to_do, replay
from scalable_hpc.model.events import (
    AttemptFailed,
    ReceiptTaken,
    RunClosed,
    RunOpened,
    TaskCancelled,
    TaskGivenUp,
    TasksHit,
)
from scalable_hpc.model.tasks import RetryPolicy
from tests.unit.lineage.support import NOW, key_of, placed, submitted

S = TaskState


def taken(task_id: str, attempt: int = 1, **changes: object) -> ReceiptTaken:
    event = ReceiptTaken(NOW, task_id, attempt, f"digest of {task_id}", 3, NOW - 2, NOW, 0, "n1", "a0001")
    return replace(event, **changes)  # type: ignore[arg-type]


def failed(task_id: str, attempt: int = 1, decision: str = "again", **changes: object) -> AttemptFailed:
    event = AttemptFailed(NOW, task_id, attempt, "worker_lost", "infrastructure", False, decision, "x", worker="w1")
    return replace(event, **changes)  # type: ignore[arg-type]


def state_of(*events: object) -> dict[str, TaskState]:
    return {task_id: view.state for task_id, view in replay(events).views().items()}


def test_that_a_task_waits_for_all_its_ancestors():
    """It is ready with the last receipt, not before."""
    events = [submitted("a"), submitted("b"), submitted("c", "a", "b"), placed("a"), placed("b"), taken("a")]

    assert state_of(*events)["c"] is S.WAITING
    assert state_of(*events, taken("b"))["c"] is S.READY


def test_that_an_ancestor_that_was_never_submitted_is_done():
    """It was answered from the store."""
    assert state_of(submitted("c", "hit"))["c"] is S.READY


def test_that_an_ancestor_that_is_done_is_no_reason_to_wait():
    """A dependent may be submitted long after."""
    assert state_of(submitted("a"), placed("a"), taken("a"), submitted("c", "a"))["c"] is S.READY


@pytest.mark.parametrize(
    ("decision", "retry_at", "state"),
    [("again", None, S.READY), ("wait", NOW + 5, S.BACKOFF), ("give_up", None, S.FAILED)],
)
def test_that_a_failed_attempt_moves_its_task_as_decided(decision, retry_at, state):
    """Ready, in backoff until its time, or failed."""
    events = [submitted("a"), placed("a"), failed("a", decision=decision, retry_at=retry_at)]

    assert state_of(*events)["a"] is state


def test_that_backoff_ends_at_its_time():
    """Not a moment before."""
    ledger = replay([submitted("a"), placed("a"), failed("a", decision="wait", retry_at=NOW + 5)])

    assert ledger.next_due() == NOW + 5
    assert ledger.release_due(NOW + 4.9) == 0
    assert ledger.release_due(NOW + 5) == 1
    assert ledger.tasks["a"].state is S.READY
    assert ledger.next_due() is None


def test_that_only_own_failures_are_charged():
    """Charged, uncharged and our own endings are counted apart, and so are deaths."""
    events = [
        submitted("a"),
        placed("a", 1),
        failed("a", 1),
        placed("a", 2),
        failed("a", 2, verdict="expected"),
        placed("a", 3),
        failed("a", 3, verdict="killer", ending="slot_died", node="n3"),
        placed("a", 4),
        failed("a", 4, verdict="transient", ending="exception", charged=True),
    ]
    history = replay(events).tasks["a"].history

    assert (history.charged, history.uncharged, history.deaths) == (1, 2, 1)


def test_that_a_cut_off_attempt_teaches_a_lower_bound():
    """For the task itself, and for its name; a checkpoint does not, nor a node that may have stood still."""
    cut = replay([submitted("a"), placed("a"), failed("a", ran_s=50.0)])
    handed_back = replay([submitted("a"), placed("a"), failed("a", ran_s=50.0, ending="exception", verdict="expected")])
    node_died = replay([submitted("a"), placed("a"), failed("a", ran_s=50.0, allocation_reason="node_fail")])

    assert cut.tasks["a"].bound_s == 50.0
    assert cut.learned.need("f").warm_s > 50.0
    assert handed_back.tasks["a"].bound_s == 0.0
    assert node_died.tasks["a"].bound_s == 0.0


def test_that_a_task_remembers_where_it_had_better_not_go():
    """The worker that was lost or refused it, the node where its slot died; the last three."""
    events = [submitted("a")]
    for number in range(1, 6):
        events += [placed("a", number), failed("a", number, worker=f"w{number}")]

    assert replay(events).tasks["a"].avoid == ("w3", "w4", "w5")


def test_that_late_receipts_change_nothing():
    """The first one stands, and so does a failure or a cancellation."""
    done = [submitted("a"), placed("a"), taken("a")]
    ledger = replay([*done, taken("a", late=True, digest="another")])
    cancelled = replay([submitted("a"), placed("a"), TaskCancelled(NOW, "a", "x"), taken("a", late=True)])

    assert ledger.tasks["a"].result.digest == "digest of a"
    assert cancelled.tasks["a"].state is S.CANCELLED


def test_that_a_receipt_of_an_earlier_attempt_is_taken():
    """It was given up too soon: the task is done, whatever attempt is on its way."""
    events = [submitted("a"), placed("a", 1), failed("a", 1), placed("a", 2), taken("a", 1)]

    assert state_of(*events)["a"] is S.DONE


def test_that_equal_calls_attach_to_the_one_in_flight():
    """And stand for themselves once it failed or was cancelled; after a failure a new call leads."""
    twin = submitted("b", key=key_of("a"))
    gone = [submitted("a"), TaskGivenUp(NOW, "a", "TaskError", "x", "x")]

    assert state_of(submitted("a"), twin)["b"] is S.ATTACHED
    assert state_of(submitted("a"), twin, TaskCancelled(NOW, "a", "x"))["b"] is S.READY
    assert state_of(*gone, twin)["b"] is S.READY
    assert replay([*gone, twin]).tasks["b"].ask_first


def test_that_another_store_is_another_call():
    """The same key in a run's own store and in the shared cache are two results."""
    events = [submitted("a"), submitted("b", key=key_of("a"), store="/cache")]

    assert state_of(*events)["b"] is S.READY


def test_that_all_attached_calls_follow_the_new_leader():
    """Cancelling the leader leaves one running, not all."""
    ledger = replay(
        [
            submitted("a"),
            *(submitted(name, key=key_of("a")) for name in "bcd"),
            TaskCancelled(NOW, "a", "x"),
        ]
    )

    assert {name: ledger.tasks[name].state for name in "bcd"} == {"b": S.READY, "c": S.ATTACHED, "d": S.ATTACHED}
    assert ledger.followers("b") == ("c", "d")


def test_that_a_cancelled_call_is_not_succeeded_by_one_that_falls_with_it():
    """Of two attached calls, the one that also waits for the cancelled call's result fails, the other stands."""
    ledger = replay([submitted("a"), submitted("b", "a", key=key_of("a")), submitted("c", key=key_of("a"))])
    for event in rulings.cancel(ledger, "a", "x", NOW):
        ledger.apply(event)

    assert ledger.tasks["b"].state is S.FAILED
    assert ledger.tasks["c"].state is S.READY


@pytest.mark.parametrize(
    "event",
    [
        submitted("a"),
        placed("nobody"),
        placed("a", 1),
        placed("a", 3),
        failed("a", 2),
        failed("b", 1),
        taken("nobody"),
        TaskCancelled(NOW, "nobody", "x"),
    ],
)
def test_that_an_event_that_cannot_follow_changes_nothing(event):
    """It is an error, and the ledger is as it was before."""
    ledger = replay([submitted("a"), submitted("b"), placed("a")])
    before = ledger.views()

    with pytest.raises(ValueError, match=r"a|b|nobody"):
        ledger.apply(event)
    assert ledger.views() == before
    with pytest.raises(JournalError, match="event 1"):
        replay([event], ledger)


def test_that_a_run_tells_what_is_left_to_do():
    """By what has to happen next."""
    ledger = replay(
        [
            RunOpened(NOW, "r", "local", 1, "h", "0"),
            *(submitted(name) for name in "abcde"),
            submitted("f", "c"),
            TasksHit(NOW, "f", 7),
            placed("a"),
            taken("a"),
            placed("b"),
            TaskGivenUp(NOW, "d", "TaskTooLong", "x", "x"),
            TaskCancelled(NOW, "e", "x"),
        ]
    )
    left = left_to_do(ledger)

    assert (left.interrupted, left.ready, left.waiting) == (("b",), ("c",), ("f",))
    assert (left.failed, left.cancelled, left.done) == (("d",), ("e",), 1)
    assert not left.is_nothing
    assert ledger.hits.total == 7
    assert ledger.closed is None
    ledger.apply(RunClosed(NOW, "x"))
    assert ledger.closed is not None


def test_that_a_finished_run_has_nothing_left():
    """So that resuming it can say so."""
    assert left_to_do(replay([submitted("a"), placed("a"), taken("a")])).is_nothing


def test_that_a_waiting_task_is_small():
    """Less than 2 kB each, so that a million wait in the driver's memory."""
    lines = [
        encode_event(submitted(f"run_simulation-{number:06d}", label=f"run_simulation(scenario_id={number})"))
        for number in range(2_000)
    ]
    ledger = Ledger()
    tracemalloc.start()
    try:
        for line in lines:
            ledger.apply(decode_event({**line, "arguments": {**line["arguments"]}}))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert ledger.unfinished == 2_000
    assert size / 2_000 < 1_500


def test_that_the_tasks_of_a_dead_driver_are_settled():
    """Interrupted ones are ready again uncharged, attached ones share what their leader came to, orphans fail."""
    ledger = replay(
        [
            submitted("sent", policy=RetryPolicy()),
            placed("sent"),
            submitted("led"),
            submitted("twin", key=key_of("led")),
            placed("led"),
            taken("led"),
            submitted("bad"),
            submitted("orphan", "bad"),
            submitted("bad twin", key=key_of("bad")),
            TaskGivenUp(NOW, "bad", "TaskKilled", "it died", "x"),
        ]
    )
    for events in succession.on_new_driver(ledger, NOW, None):
        for event in events:
            ledger.apply(event)

    assert {name: view.state for name, view in ledger.views().items()} == {
        "sent": S.READY,
        "led": S.DONE,
        "twin": S.DONE,
        "bad": S.FAILED,
        "orphan": S.FAILED,
        "bad twin": S.FAILED,
    }
    assert ledger.tasks["sent"].charged == 0
    assert ledger.tasks["bad twin"].error == "TaskKilled: it died"
    assert "bad" in ledger.tasks["orphan"].error


def test_that_a_long_chain_of_descendants_is_named_by_its_ends():
    """A thousand generations fail with a message that fits a line."""
    events = [submitted("t0")] + [submitted(f"t{number}", f"t{number - 1}") for number in range(1, 1000)]
    ledger = replay(events)
    fallen = rulings.give_up(ledger, ledger.tasks["t0"], "ValueError", "bad input", "x", NOW)

    assert len(fallen) == 1000
    assert fallen[-1].error.startswith("'t999' was not run: t999 <- t998")
    assert "... <- t0 failed: ValueError: bad input" in fallen[-1].error
    assert len(fallen[-1].error) < 200
