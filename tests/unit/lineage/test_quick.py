"""The quick fold of a journal: the same ledger as event by event, and the same damage found."""

from __future__ import annotations

import json
import random

import pytest

from scalable_hpc.errors import JournalError
from scalable_hpc.lineage.codec import encode_event
from scalable_hpc.lineage.journal import Journal, JournalReader, fold_journal, read_events
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.quick import OnlyAllocations, QuickFold
from scalable_hpc.lineage.replay import replay
from scalable_hpc.model.events import (
    AllocationChanged,
    AttemptFailed,
    CallKept,
    Event,
    ReceiptTaken,
    ResultDropped,
    TaskCancelled,
    TaskGivenUp,
    TaskRecalled,
    TaskRevived,
)
from scalable_hpc.model.tasks import RetryPolicy
from tests.unit.lineage.support import NOW, placed, submitted


def taken(task_id: str, attempt: int = 1, **changes: object) -> ReceiptTaken:
    facts = {"started_at": NOW, "ended_at": NOW + 2.5, "peak_memory": 5, "node": "n1", "allocation": "a0001"}
    return ReceiptTaken(NOW + 3, task_id, attempt, "ab" * 32, 7, **{**facts, **changes})


def failed(task_id: str, decision: str = "again") -> AttemptFailed:
    return AttemptFailed(NOW, task_id, 1, "exception", "transient", True, decision, "because")


def folded(events: list[Event]) -> Ledger:
    ledger = Ledger()
    fold = QuickFold(ledger)
    for event in events:
        fold.take(json.dumps(encode_event(event), separators=(",", ":")))
    fold.finish()
    return ledger


def alike(ledger: Ledger) -> list[object]:
    """All that one may observe, and the order of the tasks."""
    records = ledger.tasks.values()
    fields = [(one.task_id, one.name, one.key, one.store, one.order, one.result, one.pending) for one in records]
    return [fields, list(ledger.views().items()), ledger.learned, ledger.ready.size, ledger.unfinished]


STORIES = {
    "done in another order": [
        submitted("a"), submitted("b"), submitted("c"), placed("c"), placed("a"), taken("c"), taken("a", cold=True),
    ],
    "found, late and told twice": [
        submitted("a"), taken("a", 0, reused=True), submitted("b"), placed("b"), taken("b"), taken("b", late=True),
    ],
    "a retry": [submitted("a"), placed("a"), failed("a"), placed("a", 2), taken("a", 2)],
    "an early attempt delivers": [submitted("a"), placed("a"), failed("a"), taken("a", 1)],
    "a dependent": [submitted("a"), submitted("b", "a"), placed("a"), taken("a"), placed("b"), taken("b")],
    "a dependent that is open": [submitted("a"), submitted("b", "a"), submitted("c", "b"), placed("a"), taken("a")],
    "a dependent whose ancestor waits": [submitted("a"), submitted("b", "a"), submitted("c", "a"), placed("a")],
    "a dependent that falls": [
        submitted("a"), submitted("b", "a"), placed("a"), failed("a", "give_up"),
        TaskGivenUp(NOW, "a", "E", "e", ""), TaskGivenUp(NOW, "b", "AncestorFailed", "x", ""), submitted("c", "b"),
    ],
    "equal calls": [
        submitted("a"), submitted("b", key="11" * 32), submitted("c", key="11" * 32), placed("b"), taken("b"),
        taken("c", 0, reused=True), submitted("d", key="11" * 32), placed("d"),
    ],
    "an odd name": [submitted('a"\\\n'), placed('a"\\\n'), submitted("ü"), placed("ü"), taken("ü")],
    "a result that is damaged": [
        submitted("a"), placed("a"), taken("a"), submitted("b", "a"), submitted("c", "a"), placed("b"), placed("c"),
        failed("b"), ResultDropped(NOW, "a", "damaged", submitted("a", policy=RetryPolicy(retries=7))),
        TaskRecalled(NOW, "a", "b needs it"), placed("a", 2), failed("c"), submitted("d", "a"),
    ],
    "a result that is damaged and made again": [
        submitted("a"), placed("a"), taken("a"), submitted("b", "a"), placed("b"), failed("b"), submitted("e", "b"),
        ResultDropped(NOW, "a", "damaged", submitted("a")), TaskRecalled(NOW, "a", "b needs it"), placed("a", 2),
        taken("a", 2), placed("b", 2), taken("b", 2), submitted("d", "a"),
    ],
    "a held result that is lost under its dependent": [
        submitted("a", persist=False), placed("a"), taken("a", held_by="w1"), submitted("b", "a"), placed("b"),
        ResultDropped(NOW, "a", "lost"), TaskRecalled(NOW, "a", "b needs it"), failed("b"), placed("a", 2),
    ],
    "a lost hit of a call that is open": [
        submitted("a"), CallKept(NOW, submitted("h", "a")), submitted("b", "h"), submitted("c"), placed("b"),
        failed("b"), ResultDropped(NOW, "h", "lost", submitted("h", "a")), TaskRecalled(NOW, "h", "b needs it"),
        submitted("d", "h"), placed("a"), taken("a"), placed("h"), taken("h"), submitted("e"),
    ],
    "a lost hit with a twin": [
        submitted("t", key="11" * 32), submitted("b", "h"),
        ResultDropped(NOW, "h", "lost", submitted("h", key="11" * 32)), TaskRecalled(NOW, "h", "b needs it"),
        placed("t"), taken("t"), taken("h", 0, reused=True), placed("b"),
    ],
    "a failure that is submitted again": [
        submitted("x"), submitted("a"), placed("a"), failed("a", "give_up"), TaskGivenUp(NOW, "a", "E", "e", ""),
        submitted("y"), TaskRevived(NOW, "a", "again", submitted("a", "y", policy=RetryPolicy(retries=7))),
        placed("y"), taken("y"),
    ],
    "a cancelled call that is submitted again": [
        submitted("a"), submitted("y"), TaskCancelled(NOW, "a", "because"),
        TaskRevived(NOW, "a", "again", submitted("a", "y")), placed("y"),
    ],
    "sent when the driver died": [submitted("b"), submitted("a"), placed("a")],
}  # fmt: skip


@pytest.mark.parametrize("events", STORIES.values(), ids=STORIES)
def test_that_it_comes_to_the_same_ledger(events):
    """Whatever was put off, and in whatever order it came."""
    assert alike(folded(events)) == alike(replay(events))


@pytest.mark.parametrize(
    "events", [[placed("a")], [taken("a")], [submitted("a"), placed("a"), placed("a")], [submitted("a")] * 2]
)
def test_that_an_event_that_cannot_follow_is_an_error(events):
    """As it is event by event."""
    with pytest.raises(ValueError, match="'a'"):
        folded(events)


def many(count: int) -> list[Event]:
    """A run's events, a turn's submissions together, results in another order."""
    rng = random.Random(1)
    events: list[Event] = []
    for first in range(0, count, 100):
        names = [f"t{number}" for number in range(first, first + 100)]
        events += [submitted(name) for name in names]
        events += [placed(name) for name in names]
        rng.shuffle(names)
        events += [taken(name) for name in names]
        events.append(AllocationChanged(NOW, f"a{first:04d}", "live", "because"))
    return events


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, "r", fsync=False)
    for event in many(1000):
        journal.append(event)
    journal.close()
    return path


def test_that_a_journal_is_folded_and_the_rest_is_told(journal):
    """Allocations reach whoever asks for them; position and chain are those of the long way."""
    ledger, told = Ledger(), []
    fold_journal(journal, ledger, told.append)
    reader, slow = JournalReader(journal), JournalReader(journal)
    reader.fold(QuickFold(Ledger()))

    assert alike(ledger) == alike(replay(read_events(journal)))
    assert [event.name for event in told if isinstance(event, AllocationChanged)] == [
        f"a{first:04d}" for first in range(0, 1000, 100)
    ]
    list(slow)
    assert (reader.end, reader.chain, reader.run_id) == (slow.end, slow.chain, slow.run_id)


def test_that_allocations_alone_are_told_from_a_sound_journal(journal):
    """Whoever asks for them waits for nothing else, and hears of damage all the same."""
    told = []
    JournalReader(journal).fold(OnlyAllocations(told.append))
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b'"t500"', b'"t5O0"', 1))

    assert [event.name for event in told] == [f"a{first:04d}" for first in range(0, 1000, 100)]
    with pytest.raises(JournalError, match="checksum"):
        JournalReader(journal).fold(OnlyAllocations(told.append))


def test_that_a_torn_tail_is_ignored_and_the_writer_goes_on_after_it(journal):
    """Cut at any byte of its last lines."""
    whole = journal.read_bytes()
    for cut in range(1, 400, 13):
        journal.write_bytes(whole[:-cut])
        ledger = Ledger()
        again = Journal(journal, "r", into=QuickFold(ledger), fsync=False)
        again.append(submitted("more"))
        again.close()

        assert again.torn_bytes == len(whole[:-cut]) - whole[:-cut].rfind(b"\n") - 1
        assert "more" in replay(read_events(journal)).tasks


def test_that_a_changed_byte_is_found_with_its_line(journal):
    """Wherever in what a line says it is."""
    whole = journal.read_bytes()
    rng = random.Random(2)
    for _ in range(40):
        place = rng.randrange(len(whole))
        end = whole.index(b"\n", place)
        if end - place <= 18:  # in the checksum of a line whose content is sound
            continue
        line = whole.count(b"\n", 0, place) + 1
        journal.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])

        with pytest.raises(JournalError, match=f"line {line}[^0-9]"):
            fold_journal(journal, Ledger())


def test_that_a_line_lost_or_moved_is_found(journal):
    """Each is chained to the one before it."""
    lines = journal.read_bytes().splitlines(keepends=True)
    lost, doubled = lines[:50] + lines[51:], lines[:51] + lines[50:]
    for changed in (lost, doubled, [*lines[:50], lines[51], lines[50], *lines[52:]]):
        journal.write_bytes(b"".join(changed))
        with pytest.raises(JournalError, match=r"line 5[12]:"):
            fold_journal(journal, Ledger())


@pytest.mark.parametrize("content", [b"", b'{"format"', b'{"format":"x","version":1,"run_id":"r","c":"00000000"}\n'])
def test_that_a_journal_without_a_header_is_empty_or_damaged(tmp_path, content):
    """As it is line by line."""
    path = tmp_path / "j"
    path.write_bytes(content)
    ledger = Ledger()
    if content.endswith(b"\n"):
        with pytest.raises(JournalError, match="line 1"):
            fold_journal(path, ledger)
    else:
        fold_journal(path, ledger)
        assert ledger.tasks == {}
