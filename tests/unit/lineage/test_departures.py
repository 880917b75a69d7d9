"""Workers that are gone, through the keeper: who was executing, why the allocation ended, what is run again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import AttemptExplained, AttemptFailed, ReceiptTaken
from scalable_hpc.model.tasks import Ending, RetryPolicy
from tests.unit.lineage.support import NOW, FakeFlight, attempt, hello, law, no_recorder, spec, stage

NODE_FAIL = JobEnding(ExitReason.NODE_FAIL, "NODE_FAIL", ended_at=NOW)


async def says_node_fail(_: str):
    return ExitReason.NODE_FAIL, "NODE_FAIL"


async def two_on_a_lost_worker(s):
    """Two tasks without retries on a worker that is lost; then another worker comes."""
    lost = hello(1, slots=2)
    s.keeper.receive(lost)
    s.submit(spec("t1"), spec("t2"))
    await s.transport.until_sent(2)
    return lost


@law
async def test_that_a_lost_workers_tasks_run_again_uncharged(tmp_path):
    """Even without any retries, and the journal says why the node went."""
    async with stage(tmp_path, word=says_node_fail) as s:
        s.gone(await two_on_a_lost_worker(s))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(4)
        failures = s.events(AttemptFailed)

        assert s.transport.attempts[2:] == ["t1.2", "t2.2"]
        assert {address for address, _ in s.transport.sent[2:]} == {hello(2).address}
        assert [(event.charged, event.allocation_reason) for event in failures] == [(False, "node_fail")] * 2
        assert "NODE_FAIL" in failures[0].because


@law
async def test_that_the_recorder_tells_executing_from_assigned(tmp_path):
    """What had begun was cut off after so many seconds; what had not begun never started."""
    flight = FakeFlight(running={attempt("t1"): NOW - 30})
    async with stage(tmp_path, word=says_node_fail, flight=flight) as s:
        s.gone(await two_on_a_lost_worker(s))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(4)
        told = {event.task_id: (event.ending, event.ran_s) for event in s.events(AttemptFailed)}

        assert told == {"t1": ("worker_lost", 30.0), "t2": ("never_started", None)}


@law
async def test_that_an_attempt_did_not_outlive_its_allocation(tmp_path):
    """However late the loss was noticed, walltime had ended it."""
    flight = FakeFlight(running={attempt("t1"): NOW - 30})
    async with stage(tmp_path, flight=flight) as s:
        lost = hello(1, deadline=NOW - 10)
        s.clock.now = NOW - 40
        s.keeper.receive(lost)
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.clock.now = NOW
        s.gone(lost)
        s.keeper.receive(hello(2))
        await s.transport.until_sent(2)

        assert [event.ran_s for event in s.events(AttemptFailed)] == [20.0]


@law
async def test_that_without_a_recorder_nothing_is_said_to_have_never_started(tmp_path):
    """The recorder may have gone with the node."""
    async with stage(tmp_path, word=says_node_fail, flight=no_recorder) as s:
        s.gone(await two_on_a_lost_worker(s))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(4)

        assert {event.ending for event in s.events(AttemptFailed)} == {"worker_lost"}


@law
async def test_that_a_result_whose_receipt_got_lost_is_taken_from_the_store(tmp_path):
    """It was published before the worker went: reused, nothing run again, nothing sent."""
    async with stage(tmp_path, word=says_node_fail) as s:
        lost = await two_on_a_lost_worker(s)
        published = s.store.publish("t1")
        s.gone(lost)
        s.keeper.receive(hello(2))
        outcome = await s.outcome("t1")
        await s.transport.until_sent(3)

        assert outcome.result == published
        assert s.transport.attempts == ["t1.1", "t2.1", "t2.2"]
        assert [event.reused for event in s.events(ReceiptTaken)] == [True]


@law
async def test_that_a_lost_nodes_many_attempts_are_looked_up_together(tmp_path):
    """A store on a parallel file system is looked at afresh once, not once for each of a node's slots."""
    async with stage(tmp_path, word=says_node_fail) as s:
        lost = hello(1, slots=100)
        s.keeper.receive(lost)
        s.submit(*(spec(f"t{number}") for number in range(100)))
        await s.transport.until_sent(100)
        for number in range(50):
            s.store.publish(f"t{number}")
        s.gone(lost)
        s.keeper.receive(hello(2, slots=100))
        await s.transport.until_sent(150)

        assert s.keeper.progress().done == 50
        assert s.store.looks <= 51


@law
async def test_that_a_silent_batch_system_does_not_hold_tasks_up(tmp_path):
    """Its word is waited for briefly; the tasks run again within two seconds, uncharged, verdict unknown."""

    async def never(_):
        await asyncio.Event().wait()

    async with stage(tmp_path, word=never) as s:
        lost = await two_on_a_lost_worker(s)
        s.keeper.receive(hello(2))
        began = time.monotonic()
        s.gone(lost)
        await s.transport.until_sent(4)

        assert time.monotonic() - began < 2
        assert {(event.verdict, event.charged) for event in s.events(AttemptFailed)} == {("unknown", False)}


@law
async def test_that_a_word_that_comes_late_is_journaled(tmp_path):
    """The report can still say NODE_FAIL, though the task is long running elsewhere."""
    async with stage(tmp_path) as s:
        s.gone(await two_on_a_lost_worker(s))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(4)
        s.keeper.allocation_ended("a0001", NODE_FAIL)
        s.submit(spec("t3"))
        await s.transport.until_sent(5)
        explained = s.events(AttemptExplained)

        assert [(event.task_id, event.attempt, event.allocation_reason) for event in explained] == [
            ("t1", 1, "node_fail"),
            ("t2", 1, "node_fail"),
        ]


@law
async def test_that_an_ended_allocations_workers_are_gone_before_dask_notices(tmp_path):
    """A powered-off node's connection lingers for half a minute; the batch system's word is enough."""
    async with stage(tmp_path) as s:
        await two_on_a_lost_worker(s)
        s.keeper.receive(hello(2))
        s.keeper.allocation_ended("a0001", NODE_FAIL)
        await s.transport.until_sent(4)
        keys = {f"scalable-t{number}.1" for number in (1, 2)}

        assert keys <= set(s.transport.released)
        assert {event.allocation_reason for event in s.events(AttemptFailed)} == {"node_fail"}
        assert "a0001" not in s.keeper.busy()


@law
async def test_that_a_retired_workers_tasks_are_our_own_doing(tmp_path):
    """Expected: nobody is asked, nothing is counted, and it happens at once."""
    asked = []

    async def word(name):
        asked.append(name)
        return None, ""

    async with stage(tmp_path, word=word) as s:
        s.gone(await two_on_a_lost_worker(s), expected=True)
        s.keeper.receive(hello(2))
        await s.transport.until_sent(4)

        assert {event.verdict for event in s.events(AttemptFailed)} == {"expected"}
        assert not asked


@law
async def test_that_a_bug_in_a_port_loses_no_task(tmp_path):
    """Whatever asking the fleet raises, the attempts are spoken of again."""

    async def broken(_):
        raise KeyError("a bug")

    async with stage(tmp_path, word=broken) as s:
        s.gone(await two_on_a_lost_worker(s))
        s.keeper.receive(hello(2))
        await s.transport.until_sent(4)

        assert s.transport.attempts[2:] == ["t1.2", "t2.2"]


@law
async def test_that_a_task_goes_elsewhere_after_its_slot_died(tmp_path):
    """A suspect's second chance is on another node; a second death there convicts it, with both places named."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(1, slots=4))
        s.submit(spec("t1", policy=RetryPolicy(retries=5)))
        await s.transport.until_sent(1)
        s.keeper.receive(hello(2, slots=4))
        for number in (1, 2):
            await s.transport.until_sent(number)
            facts = {"signal": 11, "ran_s": 1.0, "node": f"n{number}", "log_tail": "Segmentation fault"}
            s.ended(attempt("t1", number), Ending.SLOT_DIED, **facts)
        outcome = await s.outcome("t1")

        assert [address for address, _ in s.transport.sent] == [hello(1).address, hello(2).address]
        assert type(outcome.error).__name__ == "TaskKilled"
        for word in ("SIGSEGV", "n1", "n2", "Segmentation fault"):
            assert word in str(outcome.error)


@law
async def test_that_a_timeout_is_a_timeout_error(tmp_path):
    """The future raises what ``except TimeoutError`` catches."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1", timeout_s=3.0))
        await s.transport.until_sent(1)
        s.ended(attempt("t1"), Ending.TIMEOUT, ran_s=3.0)
        outcome = await s.outcome("t1")

        assert isinstance(outcome.error, TimeoutError)
        assert "3 s" in str(outcome.error)


@law
async def test_that_a_worker_whose_address_another_one_has_is_gone(tmp_path):
    """A courier that died and came again on the same port, before anybody noticed: its work is not forgotten."""
    async with stage(tmp_path, word=says_node_fail) as s:
        lost = await two_on_a_lost_worker(s)
        s.keeper.receive(replace(lost, pid=2))
        await s.transport.until_sent(4)

        assert s.transport.attempts[2:] == ["t1.2", "t2.2"]


@law
async def test_that_a_repeated_hello_changes_nothing(tmp_path):
    """After a gap in the link a worker may say hello again."""
    async with stage(tmp_path) as s:
        s.keeper.receive(await two_on_a_lost_worker(s))
        s.done(attempt("t1"))
        s.done(attempt("t2"))

        assert (await s.outcome("t1")).attempts == 1
        assert (await s.outcome("t2")).attempts == 1


@law
async def test_that_a_requeued_allocations_next_worker_takes_work(tmp_path):
    """It was drained before its nodes were taken away; its job begins anew, and why its attempts ended is told."""
    async with stage(tmp_path) as s:
        lost = await two_on_a_lost_worker(s)
        s.keeper.drain_allocation(lost.allocation, "it asked: SIGTERM")
        s.gone(lost)
        s.keeper.allocation_requeued(lost.allocation, JobEnding(ExitReason.REQUEUED, "PENDING", ended_at=s.clock.now))
        s.keeper.receive(replace(hello(3, slots=2), allocation=lost.allocation))
        await s.transport.until_sent(4)

        assert {address for address, _ in s.transport.sent[2:]} == {hello(3).address}


@law
async def test_that_a_lost_node_takes_its_own_worker_along_and_no_other(tmp_path):
    """The allocation goes on: what ran on that node runs again on another one, which is not disturbed."""
    async with stage(tmp_path) as s:
        lost = await two_on_a_lost_worker(s)
        other = replace(hello(3, slots=2), allocation=lost.allocation, node="elsewhere")
        s.keeper.receive(other)
        ending = JobEnding(ExitReason.NODE_FAIL, "lost", ended_at=s.clock.now, nodes=(lost.node,))
        s.keeper.nodes_lost(lost.allocation, ending)
        await s.transport.until_sent(4)
        s.keeper.nodes_lost(lost.allocation, replace(ending, nodes=("another",)))
        s.done(attempt("t1", 2))
        s.done(attempt("t2", 2))
        await s.outcome("t1")
        await s.outcome("t2")

        assert {address for address, _ in s.transport.sent[2:]} == {other.address}
        assert [event.allocation_reason for event in s.events(AttemptFailed)] == ["node_fail"] * 2
        assert [event.charged for event in s.events(AttemptFailed)] == [False] * 2


@law
async def test_that_a_worker_is_of_no_use_without_one_of_its_nodes(tmp_path):
    """What it has in hand runs again elsewhere, uncharged, and it is sent home."""
    async with stage(tmp_path) as s:
        broken = replace(hello(1, slots=1), node="n1", hosts=("n1", "n2"))
        s.keeper.receive(broken)
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        whole = replace(hello(3, slots=1), allocation=broken.allocation, node="n3", hosts=("n3", "n4"))
        s.keeper.receive(whole)
        ending = JobEnding(ExitReason.NODE_FAIL, "lost", ended_at=s.clock.now, nodes=("n2",))
        s.keeper.nodes_lost(broken.allocation, ending)
        await s.transport.until_sent(2)
        s.done(attempt("t1", 2))
        await s.outcome("t1")

        assert s.transport.sent[1][0] == whole.address
        [failed] = s.events(AttemptFailed)
        assert (failed.charged, failed.allocation_reason, failed.node) == (False, "node_fail", "n2")
        assert s.transport.dismissed == [(broken.address, "n2, a node of its tasks, was lost")]


@law
async def test_that_an_attempt_on_another_node_is_not_explained_by_a_lost_one(tmp_path):
    """The word is about the node that it names."""
    async with stage(tmp_path) as s:
        lost = await two_on_a_lost_worker(s)
        s.keeper.receive(hello(3, slots=2))
        s.gone(lost)
        await s.transport.until_sent(4)
        for node in ("another", lost.node):
            word = JobEnding(ExitReason.NODE_FAIL, f"lost {node}", ended_at=s.clock.now, nodes=(node,))
            s.keeper.nodes_lost(lost.allocation, word)
        s.done(attempt("t1", 2))
        await s.outcome("t1")

        told = [event.because for event in s.events(AttemptExplained)]
        assert told == [f"allocation node_fail: lost {lost.node}"] * 2
