"""Stored results that turn out to be damaged: what is made again, how often, and what is not."""

from __future__ import annotations

from dataclasses import replace

from scalable_hpc.lineage.calls import read_calls
from scalable_hpc.lineage.journal import Journal, read_events
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.quick import QuickFold
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.replay import replay
from scalable_hpc.model.events import AttemptFailed, ResultDropped, TaskRecalled
from scalable_hpc.model.tasks import Ending, Hit, Locator, ResultRef, RetryPolicy, unkept
from scalable_hpc.telemetry.report import build_report
from tests.unit.lineage.support import STORE, attempt, hello, key_of, law, raised, receipt, spec, stage

DAMAGED = raised("scalable_hpc.cache.verify.Damaged", message="the result is damaged or gone")
CACHE = "/cache"


async def finish(s, task: str, number: int = 1) -> None:
    """Run an attempt; its result is in the store only."""
    await s.transport.until(lambda transport: f"{task}.{number}" in transport.attempts)
    s.done(attempt(task, number), inline=None)


async def meet_damage(s, task: str, number: int = 1) -> None:
    """An attempt cannot read what it needs."""
    await s.transport.until(lambda transport: f"{task}.{number}" in transport.attempts)
    s.ended(attempt(task, number), Ending.REFUSED, exception=DAMAGED)


def recalled(s) -> list[str]:
    return [event.task_id for event in s.journal() if isinstance(event, TaskRecalled)]


@law
async def test_that_only_what_is_damaged_is_run_again(tmp_path):
    """Its dependents wait for it, also those that were sent already; nobody is charged."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=8))
        s.submit(spec("above"), spec("a", "above"), spec("beside"), spec("b", "a", "beside"), spec("c", "a"))
        for name in ("above", "beside", "a"):
            await finish(s, name)
        s.store.results[key_of("beside")] = receipt(attempt("beside"), inline=None).result
        await meet_damage(s, "b")
        await finish(s, "a", 2)
        await meet_damage(s, "c")
        s.store.results[key_of("a")] = receipt(attempt("a", 2), inline=None).result
        await finish(s, "b", 2)
        await finish(s, "c", 2)
        for name in "bc":
            assert (await s.outcome(name)).result is not None

        assert recalled(s) == ["a"]
        assert s.transport.attempts.count("above.2") + s.transport.attempts.count("beside.2") == 0
        (again,) = [envelope for _, envelope in s.transport.sent if str(envelope.attempt) == "a.2"]
        assert again.refresh, "what lies under its key is not to be taken for it"
        assert not any(failed.charged for failed in s.events(AttemptFailed))


@law
async def test_that_another_result_than_the_damaged_one_is_not_taken_from_elsewhere(tmp_path):
    """The very same is; what lies in another store under that key may be a stray one."""
    for digest, expected in ((receipt(attempt("a")).result.digest, []), ("ff" * 32, ["a"])):
        place = tmp_path / digest
        place.mkdir()
        async with stage(place, stores=[STORE, CACHE]) as s:
            elsewhere = Locator(CACHE, key_of("a"), digest, 1)
            s.store.confirm = lambda store, _, found=elsewhere: found if store == CACHE else None
            s.keeper.receive(hello(1, slots=8))
            s.submit(spec("a"), spec("b", "a"))
            await finish(s, "a")
            await meet_damage(s, "b")
            await s.transport.until_sent(3)

            assert recalled(s) == expected
            envelope = s.transport.sent[-1][1]
            assert expected or envelope.inputs[key_of("a")].store == CACHE


@law
async def test_that_a_result_that_is_damaged_time_and_again_is_given_up(tmp_path):
    """As often as its policy bears with infrastructure."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=8))
        s.submit(spec("a", policy=RetryPolicy(infrastructure_limit=2)), spec("b", "a"))
        for number in (1, 2, 3):
            await finish(s, "a", number)
            await meet_damage(s, "b", number)
        outcome = await s.outcome("b")

        assert type(outcome.error).__name__ == "AncestorFailed"
        assert "its result was lost 3 times" in str(outcome.error)
        assert recalled(s) == ["a", "a"]


@law
async def test_that_a_reader_has_a_damaged_result_made_again_once(tmp_path):
    """Whoever comes second, with the old digest, is told where the new one lies; a call from the cache is run."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=8))
        s.submit(spec("a"))
        await finish(s, "a")
        old = (await s.outcome("a")).result
        told = []
        s.keeper.renew(spec("a"), old.digest, told.append)
        await finish(s, "a", 2)
        await s.transport.until(lambda _: told)
        s.keeper.renew(spec("a"), old.digest, told.append)
        s.keeper.renew(spec("hit"), "00" * 32, told.append)
        await finish(s, "hit")
        await s.transport.until(lambda _: len(told) == 3)

        assert [one.result.digest != old.digest for one in told] == [True] * 3
        assert {str(one) for one in s.transport.attempts} == {"a.1", "a.2", "hit.1"}
        assert recalled(s) == ["a", "hit"]


@law
async def test_that_a_lost_hit_is_made_again_with_what_it_needs_that_is_lost_too(tmp_path):
    """Once for all that want it, before any of them; a journal that is read quickly says the same."""
    above = Hit(spec("above"))
    hits = {"h": Hit(spec("h", "above"), (above,)), "gone": Hit(spec("gone"))}
    async with stage(tmp_path, hit_of=lambda _, task_id: hits.get(task_id)) as s:
        s.keeper.count_hits("f", [key_of(name) for name in ("above", "h", "gone")])
        s.store.publish("h")
        s.keeper.receive(hello(1, slots=8))
        s.submit(spec("b", "h"), spec("c", "h"), spec("d", "gone"))
        await s.transport.until(lambda transport: {"b.1", "c.1"} <= set(transport.attempts))
        assert s.transport.attempts.count("d.1") == 0, "where its result lies nobody knows"
        s.store.results.clear()
        s.store.seen.clear()
        for name in "bc":
            s.ended(attempt(name), Ending.REFUSED, exception=DAMAGED)
        for name in ("gone", "above", "h"):
            await finish(s, name)
        for name in "bc":
            await finish(s, name, 2)
        await finish(s, "d")
        for name in "bcd":
            assert (await s.outcome(name)).result is not None

        assert recalled(s) == ["gone", "h", "above"], "each when it is found to be lost"
        assert s.transport.attempts.index("above.1") < s.transport.attempts.index("h.1")
        assert not any(failed.charged for failed in s.events(AttemptFailed))
    slow, quick = replay(s.journal()), Ledger()
    Journal(tmp_path / "journal.jsonl", "r", into=QuickFold(quick)).close()
    assert slow.views() == quick.views()
    report = build_report(s.journal())
    assert (slow.hits.total, quick.hits.total, report.tasks.hits) == (0, 0, 0), "they are tasks now"
    assert (report.tasks.submitted, report.tasks.done, report.upkeep.recalled) == (6, 6, 3)


@law
async def test_that_equal_hits_that_are_lost_are_made_again_once(tmp_path):
    """Whichever of them a call names."""
    hits = {name: Hit(spec(name, key=key_of("h"))) for name in ("h", "h2")}
    async with stage(tmp_path, hit_of=lambda _, task_id: hits.get(task_id)) as s:
        s.keeper.receive(hello(1, slots=8))
        second = replace(spec("c"), ancestors=(ResultRef("h2", key_of("h")),))
        s.submit(spec("b", "h"), second)
        await finish(s, "h")
        for name in "bc":
            await finish(s, name)
            assert (await s.outcome(name)).result is not None

        assert s.transport.attempts == ["h.1", *sorted(s.transport.attempts[1:])]
        assert sorted(s.transport.attempts[1:]) == ["b.1", "c.1"]


@law
async def test_that_a_lost_hit_of_an_earlier_driver_is_made_again_from_the_journal(tmp_path):
    """Nobody remembers it but the journal, which was told when another call needed it; so was what it needs itself."""
    async with stage(tmp_path) as s:
        s.keeper.count_hits("f", [key_of("above"), key_of("h")])
        s.keeper.keep([spec("above"), spec("h", "above", refresh=True)])
        s.submit(spec("b", "h"))
    assert build_report(read_events(tmp_path / "journal.jsonl")).tasks.hits == 2, "it is no task yet"

    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=8))
        for name in ("above", "h", "b"):
            await finish(s, name)
        await s.transport.until(lambda _: s.keeper.progress().done == 3)

        assert s.transport.attempts == ["above.1", "h.1", "b.1"]
        assert (s.keeper.progress().done, s.keeper.progress().hits) == (3, 0)


def test_that_a_hit_is_told_of_once_with_all_that_it_is_made_from():
    """However many calls need it; chains may be longer than Python's stack."""
    hit = Hit(spec("0"))
    for number in range(1, 3000):
        hit = Hit(spec(str(number)), (hit,))

    assert len(unkept([hit, hit])) == 3000
    assert unkept([Hit(spec("a"), (hit,))])[0].spec.task_id == "a"
    assert unkept([hit]) == []


@law
async def test_that_a_lost_hit_of_an_earlier_driver_that_nobody_remembers_fails_what_needs_it(tmp_path):
    """By its name, with a word on what to do."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=8))
        s.submit(spec("b", "h"))
        outcome = await s.outcome("b")

        assert type(outcome.error).__name__ == "AncestorFailed"
        assert "the result of 'h' is damaged or gone" in str(outcome.error)


@law
async def test_that_what_was_called_is_found_in_the_journal(tmp_path):
    """By any driver, in whole; of a task that the journal does not know nothing is told."""
    first = replace(spec("a", "x", policy=RetryPolicy(retries=3)), label='f("ü")')
    async with stage(tmp_path) as s:
        s.submit(first, spec('odd"\\'))
    journal = tmp_path / "journal.jsonl"

    found = read_calls(journal, ["a", 'odd"\\', "b"])

    assert set(found) == {"a", 'odd"\\'}
    assert (found["a"].policy, found["a"].label, found["a"].ancestors) == (
        first.policy, first.label, (("x", key_of("x")),),
    )  # fmt: skip
    ledger = Ledger()
    for event in (*found.values(), ResultDropped(1.0, "a", "damaged", found["a"])):
        ledger.apply(event)
    assert ledger.tasks["a"].state is TaskState.READY, "one that is not done has lost nothing"
