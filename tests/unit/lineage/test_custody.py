"""Results that only workers hold: where their dependents go, when they are stored, run again, and let go."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from scalable_hpc.errors import AttemptsExhausted
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.model.events import ReceiptTaken, ResultDropped, TaskRecalled
from scalable_hpc.model.messages import AttemptDone, HeldGone, WorkerDraining, WorkerGone
from scalable_hpc.model.tasks import Ending, RetryPolicy
from tests.unit.lineage.support import NOW, attempt, hello, key_of, law, receipt, spec, stage

W1, W2 = "tls://10.0.0.1:1", "tls://10.0.0.2:1"


def held(s, task: str, number: int = 1, *, by: str = W1) -> None:
    """A worker says that it holds the result of an attempt."""
    made = receipt(attempt(task, number), inline=None)
    s.keeper.receive(AttemptDone(replace(made, worker=by, result=replace(made.result, held=True))))


def stored(s, task: str, number: int = 1, *, by: str = W1) -> None:
    """It says that it has stored one that it held."""
    s.keeper.receive(AttemptDone(replace(receipt(attempt(task, number), inline=None), worker=by)))


def lose(s, address: str = W1) -> None:
    s.keeper.receive(WorkerGone(address, NOW, expected=False, because="it is lost"))


def recalled(s) -> list[str]:
    return [event.task_id for event in s.journal() if isinstance(event, TaskRecalled)]


@law
async def test_that_dependents_go_where_the_result_is_held(tmp_path):
    """To that worker only, with word that it is held there; nothing is stored for them."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.submit(spec("a", persist=False))
        await s.transport.until_sent(1)
        s.keeper.receive(hello(2, slots=1))
        held(s, "a")
        assert (await s.outcome("a")).result.held
        s.submit(spec("b", "a"), spec("c"))
        await s.transport.until_sent(3)
        places = {str(envelope.attempt): (address, envelope) for address, envelope in s.transport.sent}

        assert places["a.1"][1].hold
        assert not places["b.1"][1].hold
        assert places["b.1"][0] == W1
        assert places["b.1"][1].inputs[key_of("a")].held
        assert s.transport.asked_to_store == []


@law
async def test_that_it_is_stored_when_only_another_worker_has_room(tmp_path):
    """And then its dependents run there."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.submit(spec("a", persist=False), spec("busy"))
        await s.transport.until_sent(1)
        held(s, "a")
        await s.transport.until_sent(2)
        s.submit(spec("b", "a"))
        await s.outcome("a")
        s.keeper.receive(hello(2, slots=1))
        await s.transport.until(lambda transport: transport.asked_to_store)
        assert s.transport.asked_to_store == [(W1, key_of("a"))]
        stored(s, "a")
        await s.transport.until_sent(3)
        address, envelope = s.transport.sent[-1]

        assert (address, str(envelope.attempt)) == (W2, "b.1")
        assert not envelope.inputs[key_of("a")].held


@law
async def test_that_results_of_several_workers_meet_in_the_store(tmp_path):
    """A task that wants both waits until they are there."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.keeper.receive(hello(2, slots=1))
        s.submit(spec("a", persist=False), spec("b", persist=False), spec("c", "a", "b"))
        await s.transport.until_sent(2)
        where = {envelope.attempt.task_id: address for address, envelope in s.transport.sent}
        for name, address in where.items():
            held(s, name, by=address)
        await s.transport.until(lambda transport: len(transport.asked_to_store) == 2)
        for name, address in where.items():
            stored(s, name, by=address)
        await s.transport.until_sent(3)

        assert {(where[name], key_of(name)) for name in "ab"} == set(s.transport.asked_to_store)
        assert s.transport.attempts[-1] == "c.1"


@law
async def test_that_exactly_the_lost_lineage_is_run_again(tmp_path):
    """Ancestors first, for the one task that is open; a stored ancestor and an unneeded sibling are not."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=8))
        names = ("stored", "a", "b", "sibling")
        s.submit(
            spec("stored"), spec("a", "stored", persist=False), spec("b", "a", persist=False),
            spec("sibling", persist=False), spec("open", "b"),
        )  # fmt: skip
        for name in ("stored", "sibling", "a", "b"):
            await s.transport.until(lambda transport, name=name: f"{name}.1" in transport.attempts)
            stored(s, name) if name == "stored" else held(s, name)
            await s.outcome(name)
        await s.transport.until(lambda transport: "open.1" in transport.attempts)
        lose(s)
        s.keeper.receive(hello(2, slots=8))
        await s.transport.until(lambda transport: "a.2" in transport.attempts)
        held(s, "a", 2, by=W2)
        await s.transport.until(lambda transport: "b.2" in transport.attempts)
        held(s, "b", 2, by=W2)
        await s.transport.until(lambda transport: "open.2" in transport.attempts)
        s.done(attempt("open", 2))
        await s.outcome("open")

        assert recalled(s) == ["a", "b"]
        assert [name for name in names if f"{name}.2" in s.transport.attempts] == ["a", "b"]
        assert "needs its result" in next(e.because for e in s.journal() if isinstance(e, TaskRecalled))


@law
async def test_that_a_lineage_that_is_lost_time_and_again_is_given_up(tmp_path):
    """As often as its policy bears with infrastructure; what waits for it falls with it."""
    async with stage(tmp_path) as s:
        s.submit(spec("a", persist=False, policy=RetryPolicy(infrastructure_limit=2)), spec("b", "a"))
        for number in (1, 2, 3):
            s.keeper.receive(hello(number, slots=1))
            await s.transport.until(lambda transport, number=number: f"a.{number}" in transport.attempts)
            address = f"tls://10.0.0.{number}:1"
            held(s, "a", number, by=address)
            await s.outcome("a")
            await s.transport.until(lambda transport, number=number: len(transport.sent) == 2 * number)
            lose(s, address)
        outcome = await s.outcome("b")

        assert type(outcome.error).__name__ == "AncestorFailed"
        assert outcome.exception.type_name.endswith(AttemptsExhausted.__name__)
        assert recalled(s) == ["a", "a"]


async def read(s, task: str) -> Outcome:
    answer = asyncio.get_running_loop().create_future()
    s.keeper.read(task, answer.set_result)
    return await asyncio.wait_for(answer, 10)


@law
async def test_that_a_value_is_stored_for_who_reads_it(tmp_path):
    """By its worker if that is there; computed again if it is not, or says that it has it no more."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.submit(spec("a", persist=False))
        await s.transport.until_sent(1)
        held(s, "a")
        await s.outcome("a")
        reading = asyncio.create_task(read(s, "a"))
        await s.transport.until(lambda transport: transport.asked_to_store)
        s.keeper.receive(HeldGone(W1, (key_of("a"),), "it is damaged"))
        await s.transport.until_sent(2)
        held(s, "a", 2)
        await s.transport.until(lambda transport: len(transport.asked_to_store) == 2)
        stored(s, "a", 2)

        assert not (await reading).result.held
        assert recalled(s) == ["a"]
        dropped = [event.because for event in s.journal() if isinstance(event, ResultDropped)]
        assert dropped == ["its result cannot be had any more: it is damaged"]


@law
async def test_that_it_is_let_go_when_its_future_is_gone_and_nobody_waits(tmp_path):
    """Not while the future is there, nor while a task that is not over needs it."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.submit(spec("a", persist=False), spec("b", "a"))
        await s.transport.until_sent(1)
        held(s, "a")
        await s.transport.until_sent(2)
        s.keeper.forget("a")
        s.submit(spec("c"))
        assert s.transport.freed == []
        s.done(attempt("b"))
        await s.transport.until(lambda transport: transport.freed)

        assert s.transport.freed == [(W1, key_of("a"))]
        assert [event.because for event in s.journal() if isinstance(event, ResultDropped)] == [
            "nobody needs its result any more"
        ]


@law
async def test_that_an_input_that_cannot_be_read_is_stored_or_run_again(tmp_path):
    """Its holder is asked for it, and tells when it is gone."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=4))
        s.submit(spec("a", persist=False), spec("b", "a"))
        await s.transport.until_sent(1)
        held(s, "a")
        await s.transport.until_sent(2)
        s.ended(attempt("b"), Ending.REFUSED)
        await s.transport.until(lambda transport: transport.asked_to_store)
        s.keeper.receive(HeldGone(W1, (key_of("a"),), "the worker does not hold it"))
        await s.transport.until(lambda transport: "a.2" in transport.attempts)

        assert recalled(s) == ["a"]


@law
async def test_that_a_driver_that_comes_later_takes_nothing_for_held(tmp_path):
    """It asks the store first, where a worker that left in time has put it, and computes it again if it must."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=4))
        s.submit(spec("a", persist=False), spec("b", persist=False), spec("c", "a"), spec("d", "b"))
        for name in "ab":
            await s.transport.until(lambda transport, name=name: f"{name}.1" in transport.attempts)
            held(s, name)
            await s.outcome(name)
    async with stage(tmp_path) as s:
        s.store.publish("a")
        s.keeper.receive(hello(1, slots=4))
        await s.transport.until(lambda transport: {"b.2", "c.2"} <= set(transport.attempts))

        assert sorted(recalled(s)) == ["a", "b"]
        assert "a.2" not in s.transport.attempts
        reused = [event.task_id for event in s.journal() if isinstance(event, ReceiptTaken) and event.reused]
        assert reused == ["a"]


@law
async def test_that_a_worker_that_drains_is_asked_for_what_it_says_it_holds(tmp_path):
    """Nothing new runs there, so its result must be stored."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.submit(spec("a", persist=False), spec("b", "a"))
        await s.transport.until_sent(1)
        s.keeper.receive(WorkerDraining(W1, "its time is up", None))
        held(s, "a")
        await s.transport.until(lambda transport: transport.asked_to_store)

        assert recalled(s) == []


@law
async def test_that_a_worker_that_is_gone_holds_nothing(tmp_path):
    """Its receipt came too late."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=1))
        s.submit(spec("a", persist=False), spec("b", "a"))
        await s.transport.until_sent(1)
        lose(s)
        held(s, "a")
        await s.outcome("a")
        s.keeper.receive(hello(2, slots=1))
        await s.transport.until(lambda transport: "a.2" in transport.attempts)

        assert recalled(s) == ["a"]
