"""Stored results that turn out to be damaged: what is made again, how often, and what is not."""

from __future__ import annotations

from dataclasses import replace

from scalable_hpc.lineage.calls import read_calls
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.model.events import AttemptFailed, ResultDropped, TaskRecalled
from scalable_hpc.model.tasks import Ending, Locator, RetryPolicy
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
        assert recalled(s) == ["a"]


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
