"""Quarantine outlives the driver: a convicted call is not run again unless its user says so."""

from __future__ import annotations

from scalable_hpc.lineage import rulings, succession
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.replay import replay
from scalable_hpc.model.events import AttemptFailed, Event, RunOpened, TaskRevived
from tests.unit.lineage.support import NOW, key_of, placed, submitted

OPENED = RunOpened(NOW, "r", "here", 1, "head", "0")


def convicted() -> list[Event]:
    """A run whose killer has a dependent, an equal call attached, and an innocent that failed by itself."""
    events: list[Event] = [
        OPENED,
        submitted("killer"),
        submitted("twin", key=key_of("killer")),
        submitted("child", "killer"),
        submitted("grandchild", "child"),
        submitted("wrong"),
        placed("killer"),
        placed("wrong"),
    ]
    ledger = replay(events)
    death = AttemptFailed(NOW, "killer", 1, "slot_died", "killer", True, "give_up", "convicted", signal=11)
    error = AttemptFailed(NOW, "wrong", 1, "exception", "permanent", True, "give_up", "no such site")
    for failed, kind in ((death, "TaskKilled"), (error, "ValueError")):
        ledger.apply(failed)
        follows = rulings.give_up(ledger, ledger.tasks[failed.task_id], kind, "it is bad", "it is bad", NOW)
        for event in follows:
            ledger.apply(event)
        events += [failed, *follows]
    return events


def next_driver() -> Ledger:
    return replay([*convicted(), OPENED])


def test_that_the_next_driver_does_not_run_a_convicted_call():
    """Neither its old task nor a new one of the same call; the error says what it did."""
    ledger = next_driver()
    assert {name: record.state for name, record in ledger.tasks.items()} == dict.fromkeys(
        ["killer", "twin", "child", "grandchild", "wrong"], TaskState.FAILED
    )
    ledger.apply(submitted("again", key=key_of("killer")))
    [given_up] = rulings.on_submitted(ledger, ledger.tasks["again"], NOW)

    assert given_up.error_type == "TaskKilled"
    assert "'killer', was quarantined under an earlier driver" in given_up.error
    assert "TaskKilled: it is bad" in given_up.because


def test_that_the_same_driver_runs_it_when_it_is_submitted_again():
    """Who submits a failed call again has a reason to."""
    ledger = replay(convicted())
    ledger.apply(submitted("again", key=key_of("killer")))

    assert rulings.on_submitted(ledger, ledger.tasks["again"], NOW) == []
    assert ledger.tasks["again"].state is TaskState.READY


def test_that_retrying_the_quarantined_revives_them_with_all_that_fell_with_them():
    """With a clean record; what had failed for a reason of its own stays failed."""
    ledger = next_driver()
    told = []
    for event in succession.on_retry_quarantined(ledger, NOW):
        ledger.apply(event)
        told.append(event)

    assert [event.task_id for event in told] == ["killer", "twin", "child", "grandchild"]
    assert {name: record.state for name, record in ledger.tasks.items()} == {
        "killer": TaskState.READY,
        "twin": TaskState.ATTACHED,
        "child": TaskState.WAITING,
        "grandchild": TaskState.WAITING,
        "wrong": TaskState.FAILED,
    }
    killer = ledger.tasks["killer"]
    assert (killer.deaths, killer.charged, killer.is_quarantined) == (0, 0, False)
    assert killer.function is not None
    ledger.apply(submitted("again", key=key_of("killer")))
    assert rulings.on_submitted(ledger, ledger.tasks["again"], NOW) == []
    assert ledger.tasks["again"].state is TaskState.ATTACHED


def test_that_a_revival_is_replayed():
    """The driver after the next sees the same."""
    events = [*convicted(), OPENED]
    ledger = replay(events)
    for event in succession.on_retry_quarantined(ledger, NOW):
        assert isinstance(event, TaskRevived)
        ledger.apply(event)
        events.append(event)

    assert replay(events).views() == ledger.views()
