"""Calls that a driver makes which its predecessor had made: they are its tasks, and count once."""

from __future__ import annotations

from dataclasses import replace

from scalable_hpc.lineage.claims import Claims
from scalable_hpc.lineage.files import RunFiles
from scalable_hpc.lineage.journal import Journal, read_events
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.quick import QuickFold
from scalable_hpc.lineage.replay import replay
from scalable_hpc.lineage.submissions import submission_of
from scalable_hpc.model.events import (
    AttemptFailed,
    ReceiptTaken,
    ResultDropped,
    RunOpened,
    TaskCancelled,
    TaskGivenUp,
    TaskRevived,
    TasksHit,
    TaskSubmitted,
)
from scalable_hpc.model.hits import HitCount
from scalable_hpc.model.tasks import RetryPolicy, TaskSpec, Verdict
from scalable_hpc.telemetry.report import build_report
from tests.unit.lineage.support import NOW, STORE, attempt, hello, key_of, law, placed, spec, stage, submitted


def taken(task_id: str, digest: str = "ab" * 32) -> ReceiptTaken:
    return ReceiptTaken(NOW, task_id, 1, digest, 1, NOW - 1, NOW, 0, "n1", "a0001")


def given_up(task_id: str) -> TaskGivenUp:
    return TaskGivenUp(NOW, task_id, "ValueError", "no such site", "the same call would raise it again")


def opened() -> RunOpened:
    return RunOpened(NOW, "r", "here", 1, "login1", "0")


def again(task_id: str, *ancestors: str, **changes: object):
    return spec(task_id, *ancestors, is_resumed=True, **changes)


def left(run_dir, *happened) -> Ledger:
    """Write what an earlier driver left, its calls as they are submitted, and return a ledger for the next one."""
    journal, payloads = Journal(run_dir / "journal.jsonl", "r", fsync=False), PayloadPack(run_dir / "payloads.pack")
    journal.append(opened())
    for one in happened:
        journal.append(submission_of(one, payloads, NOW) if isinstance(one, TaskSpec) else one)
    RunFiles(journal, payloads).close()
    return Ledger()


def test_that_each_of_several_equal_calls_claims_a_task_of_its_own():
    """Once, whichever of them stands for the key; a task of this driver is not to be claimed."""
    ledger = replay([submitted("a"), submitted("b", key=key_of("a")), taken("a"), submitted("c", key=key_of("a"))])
    claims = Claims(ledger)
    ledger.apply(submitted("d", key=key_of("a")))

    found = [claims.take(STORE, key_of("a")) for _ in range(4)]

    assert sorted(filter(None, found)) == ["a", "b", "c"]
    assert found[3] is None
    assert claims.take("/elsewhere", key_of("a")) is None
    assert Claims(Ledger()).take(STORE, key_of("a")) is None


def test_that_hits_count_once_over_all_drivers():
    """As many of one key as the driver had that had most; those that became tasks no more."""

    def hit(*names: str) -> TasksHit:
        return TasksHit(NOW, "f", len(names), b"".join(bytes.fromhex(key_of(name))[:8] for name in names))

    count = HitCount()
    for event in (hit("a", "b", "b"), None, hit("a", "b"), hit("c", "a"), None, hit("a", "b", "b", "b"), hit("c")):
        count.begin_driver() if event is None else count.add(event)

    assert count.names == {"f": 6}, "a twice, b three times, c once"
    count.became_task("f")
    assert count.total == 5


@law
async def test_that_an_open_task_is_adopted(tmp_path):
    """Its call is told what becomes of it; no other task is made of it."""
    ledger = left(tmp_path, spec("a"), spec("b", "a"))
    async with stage(tmp_path, ledger=ledger) as s:
        s.submit(again("a"), again("b", "a"), spec("new", "b"))
        s.keeper.receive(hello(1, slots=8))
        for name in ("a", "b", "new"):
            await s.transport.until(lambda transport, name=name: f"{name}.1" in transport.attempts)
            s.done(attempt(name))
            assert (await s.outcome(name)).result is not None

        assert [event.task_id for event in s.events(TaskSubmitted)] == ["a", "b", "new"]
        assert build_report(s.journal()).tasks.submitted == 3


@law
async def test_that_a_task_that_failed_or_was_cancelled_is_tried_again_as_its_call_says_now(tmp_path):
    """What fell with it too; a journal that is read quickly says the same."""
    ledger = left(
        tmp_path,
        spec("a"), spec("b", "a"), spec("c"),
        given_up("a"), TaskGivenUp(NOW, "b", "AncestorFailed", "x", "x"), TaskCancelled(NOW, "c", "x"),
    )  # fmt: skip
    policy = RetryPolicy(retries=7)
    async with stage(tmp_path, ledger=ledger) as s:
        s.submit(again("a", policy=policy), again("b", "a"), again("c", timeout_s=5.0))
        assert s.keeper.progress().done == 0
        s.keeper.receive(hello(1, slots=8))
        await s.transport.until(lambda transport: {"a.1", "c.1"} <= set(transport.attempts))
        assert ledger.tasks["a"].policy == policy
        assert ledger.tasks["c"].timeout_s == 5.0
        s.done(attempt("a"))
        s.done(attempt("c"))
        await s.transport.until(lambda transport: "b.1" in transport.attempts)
        s.done(attempt("b"))
        for name in "abc":
            assert (await s.outcome(name)).result is not None

        assert [event.task_id for event in s.events(TaskRevived)] == ["a", "b", "c"]
        assert build_report(s.journal()).tasks.done == 3
    quick = Ledger()
    Journal(tmp_path / "journal.jsonl", "r", into=QuickFold(quick)).close()
    assert quick.views() == replay(read_events(tmp_path / "journal.jsonl")).views()


@law
async def test_that_a_convicted_call_fails_as_it_did(tmp_path):
    """It is not run, and no other task stands in the report."""
    death = AttemptFailed(
        NOW,
        "a",
        1,
        "slot_died",
        Verdict.KILLER.value,
        charged=True,
        decision="give_up",
        because="the second",
        signal=11,
    )
    end = TaskGivenUp(NOW, "a", "TaskKilled", "its slot died twice (SIGSEGV)", "quarantined")
    ledger = left(tmp_path, spec("a"), placed("a"), death, end)
    async with stage(tmp_path, ledger=ledger) as s:
        s.keeper.record(opened())
        s.submit(again("a"))
        s.keeper.receive(hello(1, slots=8))
        outcome = await s.outcome("a")

        assert type(outcome.error).__name__ == "TaskKilled"
        assert "its slot died twice (SIGSEGV)" in str(outcome.error)
        assert s.transport.sent == []
        assert build_report(s.journal()).tasks.submitted == 1


@law
async def test_that_a_task_that_is_done_answers_its_call(tmp_path):
    """With what it has; a result that was held is made again when it is asked for, and not before."""
    held = replace(taken("h"), held_by="w1")
    ledger = left(
        tmp_path, spec("a"), taken("a"),
        spec("h", persist=False), held, ResultDropped(NOW, "h", "nobody needs it"),
    )  # fmt: skip
    async with stage(tmp_path, ledger=ledger) as s:
        s.keeper.receive(hello(1, slots=8))
        s.submit(again("a"), again("h", persist=False))
        first, second = (await s.outcome("a")).result, (await s.outcome("h")).result

        assert (first.digest, first.held, second.held) == ("ab" * 32, False, True)
        assert s.transport.sent == []
        told = []
        s.keeper.read("h", told.append)
        await s.transport.until(lambda transport: "h.1" in transport.attempts or "h.2" in transport.attempts)


@law
async def test_that_a_result_that_only_the_store_knows_ends_the_task(tmp_path):
    """The driver had died before it heard of it; nothing is run for it."""
    ledger = left(tmp_path, spec("a"), spec("b"), given_up("b"), spec("c", "a"))
    async with stage(tmp_path, ledger=ledger) as s:
        s.keeper.found([(again(name), s.store.publish(name)) for name in "ab"])
        s.keeper.receive(hello(1, slots=8))
        await s.transport.until(lambda transport: "c.1" in transport.attempts)

        assert s.transport.attempts == ["c.1"]
        assert [event.task_id for event in s.events(ReceiptTaken) if event.reused] == ["a", "b"]
        tasks = build_report(s.journal()).tasks
        assert (tasks.submitted, tasks.done, tasks.failed) == (3, 2, 0)
