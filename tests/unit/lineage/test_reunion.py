"""Workers that come back with what they have in hand, through the keeper."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.replay import replay
from scalable_hpc.lineage.reunion import REJOIN_PATIENCE_S
from scalable_hpc.model.events import AttemptFailed, AttemptPlaced, AttemptRejoined, ReceiptTaken
from scalable_hpc.model.messages import AttemptDone, Holding
from tests.unit.lineage.support import NOW, FakeFlight, attempt, hello, law, receipt, spec, stage

AWAITED = {"a0001": "cpu"}


def back(worker, *names, address="tls://10.0.0.9:9", number=1):
    """The same worker at another address, with attempts in hand."""
    held = tuple(Holding(f"scalable-{attempt(name, number)}", (attempt(name, number),)) for name in names)
    return replace(worker, address=address, former=(worker.address,), holding=held)


async def a_driver_dies_with(tmp_path, *names):
    """A driver sends tasks to a worker and ends; its journal is what is left of it."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1))
        s.submit(*(spec(name) for name in names))
        await s.transport.until_sent(len(names))


async def turns(s):
    """Wait until the keeper has taken a few turns."""
    for _ in range(10):
        await asyncio.sleep(0.005)


@law
async def test_that_the_next_driver_sends_nothing_that_a_worker_brings_back(tmp_path):
    """Its receipt is taken when it comes, from the first attempt."""
    await a_driver_dies_with(tmp_path, "t1", "t2")
    async with stage(tmp_path, awaited=AWAITED) as s:
        s.keeper.receive(back(hello(1), "t1", "t2"))
        await turns(s)
        s.keeper.receive(AttemptDone(receipt(attempt("t1"))))
        await s.transport.until(lambda transport: transport.released)

        assert s.transport.sent == []
        assert [(event.task_id, event.attempt) for event in s.events(AttemptRejoined)] == [("t1", 1), ("t2", 1)]
        assert s.events(AttemptFailed) == []
        assert s.keeper.busy() == {"a0001": 1}


@law
async def test_that_what_a_worker_has_forgotten_is_tried_again_at_once(tmp_path):
    """Uncharged; what it has in hand stays there."""
    await a_driver_dies_with(tmp_path, "t1", "t2")
    async with stage(tmp_path, awaited=AWAITED) as s:
        s.keeper.receive(back(hello(1), "t1"))
        await s.transport.until_sent(1)

        assert s.transport.attempts == ["t2.2"]
        assert [(event.task_id, event.charged) for event in s.events(AttemptFailed)] == [("t2", False)]


@law
async def test_that_a_report_that_nobody_heard_counts_before_what_is_missing(tmp_path):
    """It comes right behind the hello, and the attempt is no longer in hand."""
    await a_driver_dies_with(tmp_path, "t1")
    async with stage(tmp_path, awaited=AWAITED) as s:
        s.keeper.receive(back(hello(1)))
        s.keeper.receive(AttemptDone(receipt(attempt("t1")), repeated=True))
        await turns(s)

        assert len(s.events(ReceiptTaken)) == 1
        assert s.transport.sent == []


@law
async def test_that_waiting_for_a_worker_is_bounded(tmp_path):
    """After its patience another one gets the work; before, nobody does."""
    await a_driver_dies_with(tmp_path, "t1")
    async with stage(tmp_path, awaited=AWAITED) as s:
        s.keeper.receive(hello(2))
        await turns(s)
        assert s.transport.sent == []

        s.clock.now += REJOIN_PATIENCE_S + 1
        s.keeper.receive(hello(3))
        await s.transport.until_sent(1)

        assert s.transport.attempts == ["t1.2"]


@law
async def test_that_a_replaced_courier_has_nothing_in_hand(tmp_path):
    """The one worker of its allocation comes without a past: what it was sent is lost, and known to be."""
    await a_driver_dies_with(tmp_path, "t1")
    async with stage(tmp_path, awaited=AWAITED) as s:
        s.keeper.receive(replace(hello(1), address="tls://10.0.0.9:9", pid=77))
        await s.transport.until_sent(1)

        assert s.transport.attempts == ["t1.2"]


@law
async def test_that_allocations_that_are_gone_are_not_waited_for(tmp_path):
    """Without the batch system's job nobody can come back."""
    await a_driver_dies_with(tmp_path, "t1")
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(2))
        await s.transport.until_sent(1)

        assert s.transport.attempts == ["t1.2"]


@law
async def test_that_a_link_that_breaks_for_a_moment_costs_nothing(tmp_path):
    """The worker is gone and back before anybody has found out why."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1))
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.gone(hello(1))
        s.keeper.receive(back(hello(1), "t1"))
        await turns(s)
        s.done(attempt("t1"))
        outcome = await s.outcome("t1")

        assert outcome.attempts == 1
        assert s.transport.attempts == ["t1.1"]
        assert s.events(AttemptFailed) == []


@law
async def test_that_a_worker_that_comes_back_late_may_still_win(tmp_path):
    """Its task was sent elsewhere meanwhile: the first result counts, and the other attempt is stopped."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1))
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.gone(hello(1))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(2)
        s.keeper.receive(back(hello(1), "t1"))
        await turns(s)
        s.done(attempt("t1", 1))
        await s.outcome("t1")
        await s.transport.until(lambda transport: transport.cancelled)

        assert s.transport.cancelled == [(hello(2).address, attempt("t1", 2))]


@law
async def test_that_a_worker_that_comes_back_late_is_stopped_when_it_has_lost(tmp_path):
    """The one that was sent later came first."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1))
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.gone(hello(1))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(2)
        late = back(hello(1), "t1")
        s.keeper.receive(late)
        await turns(s)
        s.done(attempt("t1", 2))
        await s.outcome("t1")
        await s.transport.until(lambda transport: transport.cancelled)

        assert s.transport.cancelled == [(late.address, attempt("t1", 1))]


@law
async def test_that_nobody_goes_on_with_a_task_that_is_over(tmp_path):
    """What a worker brings back of it is stopped."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1))
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.keeper.cancel("t1")
        await s.transport.until(lambda transport: transport.cancelled)
        s.gone(hello(1))
        s.keeper.receive(back(hello(1), "t1"))
        await s.transport.until(lambda transport: len(transport.cancelled) > 1)

        assert s.transport.cancelled[-1] == ("tls://10.0.0.9:9", attempt("t1"))
        assert s.events(AttemptRejoined) == []


@law
async def test_that_a_journal_with_reunions_replays_to_the_same_state(tmp_path):
    """Live and folded ledger agree on where the attempt is."""
    await a_driver_dies_with(tmp_path, "t1")
    live = Ledger()
    async with stage(tmp_path, awaited=AWAITED, ledger=live) as s:
        s.keeper.receive(back(hello(1), "t1"))
        await turns(s)

        assert replay(s.journal()).views() == live.views()
        assert live.views()["t1"].worker == "tls://10.0.0.9:9"
        assert len(s.events(AttemptPlaced)) == 1


@law
async def test_that_a_suspect_that_comes_back_stays_alone(tmp_path):
    """Whoever ran alone under the dead driver shares its worker with nobody under the next."""
    flight = FakeFlight(running={attempt("t1"): NOW}, worker_end="SIGKILL")
    async with stage(tmp_path, flight=flight) as s:
        s.keeper.receive(hello(1))
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.gone(hello(1))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(2)
        [placed] = [event for event in s.events(AttemptPlaced) if event.attempt == 2]
        assert placed.alone
    async with stage(tmp_path, awaited={"a0002": "cpu"}) as s:
        s.keeper.receive(back(hello(2), placed.task_id, number=2))
        await turns(s)
        s.submit(spec("t3"))
        await turns(s)

        assert s.transport.sent == []
