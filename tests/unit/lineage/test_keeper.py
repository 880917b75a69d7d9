"""The keeper over a real journal, with workers, store and batch system faked: the laws of one task's life."""

from __future__ import annotations

import asyncio
import time

import pytest

from scalable_hpc.errors import AllocationsFailing, AttemptsExhausted, RunDirectoryError, TaskTooLong
from scalable_hpc.lineage.journal import Journal, read_events
from scalable_hpc.lineage.lease import BEAT_S
from scalable_hpc.lineage.need import Offer
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.model.events import (
    AttemptFailed,
    AttemptPlaced,
    FleetNote,
    ReceiptTaken,
    RunClosed,
    TasksHit,
    TaskSubmitted,
)
from scalable_hpc.model.fleet import Demand
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Ending, RetryPolicy
from tests.unit.lineage.support import (
    CPU,
    NOW,
    VALUE_ERROR,
    attempt,
    hello,
    key_of,
    law,
    raised,
    spec,
    stage,
)
from tests.unit.lineage.test_journal import largest_file

KEY = "ab" * 32
QUICK = RetryPolicy(retries=2, base_s=0.001)


@law
async def test_that_nothing_is_sent_before_it_is_journaled(tmp_path):
    """At the moment of sending, submission, placement and payload are on disk."""
    async with stage(tmp_path) as s:
        seen = []

        def look(worker_address, bundle):
            journal = list(read_events(tmp_path / "journal.jsonl"))
            for envelope in bundle.envelopes:
                task_id = envelope.attempt.task_id
                assert any(isinstance(event, TaskSubmitted) and event.task_id == task_id for event in journal)
                assert any(isinstance(event, AttemptPlaced) and event.task_id == task_id for event in journal)
                assert envelope.arguments in (tmp_path / "payloads.pack").read_bytes()
                seen.append(task_id)

        s.transport.on_send = look
        s.keeper.receive(hello(slots=8))
        s.submit(*(spec(f"t{number}") for number in range(8)))
        await s.transport.until_sent(8)

        assert sorted(seen) == [f"t{number}" for number in range(8)]


@law
async def test_that_an_envelope_carries_the_call(tmp_path):
    """Function and arguments arrive as they were pickled, with where to publish and what it may use."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1", timeout_s=60.0, needs=Needs(cpus=2)))
        await s.transport.until_sent(1)
        envelope = s.transport.sent[0][1]

        assert envelope.function == b"the function"
        assert envelope.arguments == b"arguments of t1"
        assert (envelope.key, envelope.timeout_s, envelope.cpus) == (key_of("t1"), 60.0, 2)


@law
async def test_that_a_future_is_told_after_its_receipt_is_on_disk(tmp_path):
    """And its Dask key is released after that."""
    async with stage(tmp_path) as s:
        order = []

        def told(outcome):
            order.append([event for event in s.journal() if isinstance(event, ReceiptTaken)])
            order.append(list(s.transport.released))

        s.keeper.receive(hello())
        s.keeper.submit(spec("t1"), told)
        await s.transport.until_sent(1)
        s.done(attempt("t1"))
        await s.transport.until(lambda transport: transport.released)

        assert [event.task_id for event in order[0]] == ["t1"]
        assert order[1] == []


@law
async def test_that_a_result_reaches_its_future(tmp_path):
    """With where it lies, and its bytes when they are small."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.done(attempt("t1"), inline=b"42")
        outcome = await s.outcome("t1")

        assert outcome.result.inline == b"42"
        assert outcome.result.key == key_of("t1")
        assert outcome.attempts == 1
        assert s.keeper.progress().done == 1


@law
async def test_that_an_exception_is_retried_and_then_raised_as_it_was(tmp_path):
    """``retries=2`` makes three attempts; the future gets the last exception itself."""
    async with stage(tmp_path, clock=time.time) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1", policy=QUICK))
        for number in (1, 2, 3):
            await s.transport.until_sent(number)
            s.ended(attempt("t1", number), exception=raised("mod.Odd", message=str(number), pickled=b"odd"))
        outcome = await s.outcome("t1")

        assert s.transport.attempts == ["t1.1", "t1.2", "t1.3"]
        assert (outcome.exception.message, outcome.exception.pickled) == ("3", b"odd")
        assert outcome.error is None
        assert [event.charged for event in s.events(AttemptFailed)] == [True, True, True]


@law
async def test_that_a_permanent_exception_is_not_retried(tmp_path):
    """A ValueError fails at once, whatever retries allow."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1", policy=QUICK))
        await s.transport.until_sent(1)
        s.ended(attempt("t1"), exception=VALUE_ERROR)
        outcome = await s.outcome("t1")

        assert outcome.exception == VALUE_ERROR
        assert s.transport.attempts == ["t1.1"]


@law
async def test_that_a_retry_waits_for_its_time(tmp_path):
    """Backoff holds neither a slot nor the loop: others run meanwhile."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(slots=1))
        s.submit(spec("t1", policy=RetryPolicy(retries=1, base_s=50, jitter=False)), spec("t2"))
        await s.transport.until_sent(1)
        s.ended(attempt("t1"))
        await s.transport.until_sent(2)
        s.done(attempt("t2"))
        await s.outcome("t2")

        assert s.transport.attempts == ["t1.1", "t2.1"]
        s.clock.now += 51
        s.submit(spec("t3"))
        await s.transport.until_sent(3)
        assert s.transport.attempts[2] == "t1.2"


@law
async def test_that_the_first_receipt_wins(tmp_path):
    """A duplicate is journaled as late and changes nothing."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.done(attempt("t1"), inline=b"first")
        first = await s.outcome("t1")
        s.done(attempt("t1"), inline=b"second")
        s.submit(spec("t2"))
        await s.transport.until_sent(2)

        assert first.result.inline == b"first"
        assert [event.late for event in s.events(ReceiptTaken)] == [False, True]
        assert s.keeper.progress().done == 1


@law
async def test_that_a_receipt_of_an_attempt_that_was_given_up_is_taken(tmp_path):
    """It was thought lost and is not; the attempt that replaced it is stopped."""
    async with stage(tmp_path) as s:
        lost, other = hello(1, slots=1), hello(2, slots=1)
        s.keeper.receive(lost)
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.gone(lost, expected=True)
        s.keeper.receive(other)
        await s.transport.until_sent(2)
        s.done(attempt("t1", 1))
        outcome = await s.outcome("t1")
        await s.transport.until(lambda transport: transport.cancelled)

        assert outcome.result is not None
        assert s.transport.cancelled == [(other.address, attempt("t1", 2))]


@law
async def test_that_dependents_get_their_ancestors_results(tmp_path):
    """A dependent starts after its ancestors' receipts and carries where their results lie."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("a"), spec("b"), spec("c", "a", "b"))
        await s.transport.until_sent(2)
        s.done(attempt("b"), inline=b"of b")
        await s.outcome("b")
        assert s.keeper.progress().waiting == 1
        s.done(attempt("a"), inline=b"of a")
        await s.transport.until_sent(3)
        inputs = s.transport.sent[2][1].inputs

        assert {key: located.inline for key, located in inputs.items()} == {key_of("a"): b"of a", key_of("b"): b"of b"}


@law
async def test_that_a_failed_ancestor_fails_its_descendants(tmp_path):
    """Each says which chain led to the failure, and none of them is sent."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("a"), spec("b", "a"), spec("c", "b"))
        await s.transport.until_sent(1)
        s.ended(attempt("a"), exception=VALUE_ERROR)
        outcome = await s.outcome("c")

        assert type(outcome.error).__name__ == "AncestorFailed"
        assert "c <- b <- a" in str(outcome.error)
        assert "no such site" in str(outcome.error)
        assert (await s.outcome("a")).exception == VALUE_ERROR
        s.submit(spec("d", "c"))
        late = await s.outcome("d")
        assert type(late.error).__name__ == "AncestorFailed"
        assert (outcome.exception, late.exception) == (VALUE_ERROR, VALUE_ERROR)
        assert s.transport.attempts == ["a.1"]


@law
async def test_that_descendants_are_told_of_an_error_that_no_code_raised(tmp_path):
    """Their cause is the ancestor's own error, by class and words, also for those submitted after it failed."""
    async with stage(tmp_path, offers=[Offer(CPU, walltime_s=60.0)]) as s:
        s.submit(spec("a", expected_runtime_s=500.0), spec("b", "a"))
        early = await s.outcome("b")
        s.submit(spec("c", "b"))
        late = await s.outcome("c")

        assert type((await s.outcome("a")).error) is TaskTooLong
        assert {one.exception.type_name for one in (early, late)} == {"scalable_hpc.errors.TaskTooLong"}
        assert "walltime" in late.exception.message


@law
async def test_that_ancestors_answered_from_the_store_are_found_there(tmp_path):
    """A hit never comes to the keeper; its dependents find it by its key."""
    async with stage(tmp_path, stores=["/cache"]) as s:
        hit = s.store.publish("hit")
        s.keeper.receive(hello())
        s.submit(spec("t1", "hit"))
        await s.transport.until_sent(1)

        assert s.transport.sent[0][1].inputs == {key_of("hit"): hit}


@law
async def test_that_an_ancestor_that_is_nowhere_is_named(tmp_path):
    """A result that was evicted meanwhile is an error of the dependent, not a crash of the keeper."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1", "hit"), spec("t2"))
        outcome = await s.outcome("t1")
        await s.transport.until_sent(1)

        assert "'hit'" in str(outcome.error)
        assert s.transport.attempts == ["t2.1"]


@law
async def test_that_equal_calls_in_flight_are_run_once(tmp_path):
    """The second attaches to the first and gets its result as reused."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"), spec("t2", key=key_of("t1")), spec("t3", key=key_of("t1")))
        await s.transport.until_sent(1)
        s.done(attempt("t1"))
        digests = {(await s.outcome(name)).result.digest for name in ("t1", "t2", "t3")}

        assert len(digests) == 1
        assert s.transport.attempts == ["t1.1"]
        assert [event.reused for event in s.events(ReceiptTaken)] == [False, True, True]


@law
async def test_that_equal_calls_fail_together(tmp_path):
    """The attached ones raise the same exception."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"), spec("t2", key=key_of("t1")))
        await s.transport.until_sent(1)
        s.ended(attempt("t1"), exception=VALUE_ERROR)

        assert (await s.outcome("t1")).exception == VALUE_ERROR
        assert (await s.outcome("t2")).exception == VALUE_ERROR


@law
async def test_that_cancelling_one_of_two_equal_calls_leaves_the_other(tmp_path):
    """The attached one goes its own way."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"), spec("t2", key=key_of("t1")))
        await s.transport.until_sent(1)
        s.keeper.cancel("t1")
        assert (await s.outcome("t1")).cancelled
        await s.transport.until_sent(2)
        s.done(attempt("t2"), key=key_of("t1"))

        assert (await s.outcome("t2")).result is not None


@law
async def test_that_a_call_equal_to_one_that_is_done_is_looked_up(tmp_path):
    """The client may have missed a result by a moment; the store is asked before it is run again."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        published = s.store.publish("t1")
        s.done(attempt("t1"))
        await s.outcome("t1")
        s.submit(spec("t2", key=key_of("t1")))

        assert (await s.outcome("t2")).result == published
        assert s.transport.attempts == ["t1.1"]


@law
async def test_that_cancelling_stops_a_running_attempt(tmp_path):
    """The future is told at once; the slot counts as taken until its worker says that the attempt is over."""
    async with stage(tmp_path) as s:
        worker = hello(slots=1)
        s.keeper.receive(worker)
        s.submit(spec("t1"), spec("t2"))
        await s.transport.until_sent(1)
        s.keeper.cancel("t1")
        assert (await s.outcome("t1")).cancelled
        await s.transport.until(lambda transport: transport.cancelled)

        assert s.transport.cancelled == [(worker.address, attempt("t1"))]
        assert s.transport.attempts == ["t1.1"]
        s.ended(attempt("t1"), Ending.CANCELLED)
        await s.transport.until_sent(2)
        assert s.transport.attempts == ["t1.1", "t2.1"]
        assert not s.events(AttemptFailed)


@law
async def test_that_cancelling_what_is_over_or_unknown_is_no_error(tmp_path):
    """A future may be cancelled in the moment that it is done."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.done(attempt("t1"))
        await s.outcome("t1")
        s.keeper.cancel("t1")
        s.keeper.cancel("nobody")
        s.submit(spec("t2"))
        await s.transport.until_sent(2)

        assert s.keeper.progress().cancelled == 0


@law
async def test_that_a_draining_worker_gets_nothing_new(tmp_path):
    """Nor do workers of a drained allocation that say hello later."""
    async with stage(tmp_path) as s:
        s.keeper.drain_allocation("a0001", "its walltime is near")
        s.keeper.receive(hello(1))
        s.keeper.receive(hello(2))
        s.keeper.worker_draining(hello(2).address, "asked for")
        s.submit(spec("t1"))
        s.keeper.receive(hello(3))
        await s.transport.until_sent(1)

        assert s.transport.sent[0][0] == hello(3).address


@law
async def test_that_dask_holds_no_more_than_the_bound(tmp_path):
    """A thousand waiting tasks, two workers of two slots: never more in Dask than slots and a small prefetch."""
    async with stage(tmp_path) as s:
        s.transport.on_send = lambda _, bundle: [s.done(one.attempt, seconds=0.5) for one in bundle.envelopes]
        s.keeper.receive(hello(1, slots=2))
        s.keeper.receive(hello(2, slots=2))
        s.submit(*(spec(f"t{number}") for number in range(1000)))
        await asyncio.gather(*s.outcomes.values())

        assert 4 <= s.transport.most_in_hand <= 8


@law
async def test_that_tiny_tasks_travel_in_bundles(tmp_path):
    """Each is still an attempt of its own, with its own receipt."""
    async with stage(tmp_path) as s:
        s.transport.on_send = lambda _, bundle: [s.done(one.attempt, seconds=0.001) for one in bundle.envelopes]
        s.keeper.receive(hello(slots=2))
        s.submit(*(spec(f"t{number}") for number in range(1000)))
        await asyncio.gather(*s.outcomes.values())
        await s.transport.until(lambda transport: not transport.in_hand)

        assert len(s.transport.released) < 150
        assert len(s.events(ReceiptTaken)) == 1000


@law
async def test_that_a_batch_of_submissions_shares_its_fsyncs(tmp_path):
    """Group commit: a thousand submissions are a handful of turns, not a thousand."""
    commits = 0
    commit = Journal.commit

    class Counting(Journal):
        def commit(self):
            nonlocal commits
            commits += bool(self.is_waiting)
            return commit(self)

    async with stage(tmp_path, journal=Counting) as s:
        s.submit(*(spec(f"t{number}") for number in range(1000)))
        s.keeper.receive(hello())
        await s.transport.until_sent(4)

    assert len(s.events(TaskSubmitted)) == 1000
    assert commits <= 10


@law
async def test_that_the_fleet_is_told_what_is_wanted(tmp_path):
    """Waiting and assigned per worker type, and how long they need."""
    offers = [Offer(CPU, walltime_s=3600)]
    async with stage(tmp_path, offers=offers) as s:
        assert s.keeper.demand() == [Demand("cpu", 0, 0)]
        s.keeper.receive(hello(slots=2))
        s.submit(*(spec(f"t{number}", expected_runtime_s=100.0) for number in range(10)))
        await s.transport.until_sent(2)

        assert s.keeper.demand() == [Demand("cpu", 8, 2, 100.0, longest_s=100.0, work_s=1000.0)]
        assert s.keeper.busy() == {"a0001": 2}
        assert s.keeper.is_running("t0")
        assert not s.keeper.is_running("t9")
        assert "every slot is taken" in next(iter(s.keeper.unplaced().values()))


@law
async def test_that_hits_are_counted(tmp_path):
    """They are progress too, and a million of them are a few lines."""
    async with stage(tmp_path) as s:
        s.keeper.count_hits("f", [KEY] * 999)
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        await s.transport.until_sent(1)

        assert s.keeper.progress().hits == 999


@law
async def test_that_hits_that_came_just_before_the_close_are_counted(tmp_path):
    """A run whose every call is known closes at once."""
    async with stage(tmp_path) as s:
        s.keeper.count_hits("f", [KEY] * 12)

    assert s.keeper.progress().hits == 12
    assert s.events(TasksHit) == [TasksHit(NOW, "f", 12, bytes.fromhex(KEY[:16]) * 12)]


@law
async def test_that_a_refreshed_result_is_never_taken_from_the_store(tmp_path):
    """The worker is told so; a retry does not ask, nor does it attach to an equal call that need not compute."""
    async with stage(tmp_path) as s:
        s.store.publish("t1")
        lost = hello(1)
        s.keeper.receive(lost)
        s.submit(spec("t1", refresh=True), spec("t2", key=key_of("t1")))
        await s.transport.until_sent(1)
        s.gone(lost, expected=True)
        s.keeper.receive(hello(2))
        await s.transport.until_sent(2)
        s.done(attempt("t1", 2), inline=b"new")

        assert [envelope.refresh for _, envelope in s.transport.sent] == [True, True]
        assert s.store.asked == []
        assert (await s.outcome("t1")).result.inline == b"new"
        assert (await s.outcome("t2")).result.inline == b"new"


@law
async def test_that_a_refresh_does_not_attach_to_a_call_that_does_not(tmp_path):
    """The other one may be answered with what was there before."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"), spec("t2", key=key_of("t1"), refresh=True))
        await s.transport.until_sent(2)

        assert s.transport.attempts == ["t1.1", "t2.1"]


@law
async def test_that_a_task_that_fits_no_walltime_fails_fast(tmp_path):
    """Before any worker exists, and it says which walltime it needs."""
    async with stage(tmp_path, offers=[Offer(CPU, walltime_s=600)]) as s:
        s.submit(spec("t1", expected_runtime_s=3600.0))
        outcome = await s.outcome("t1")

        assert isinstance(outcome.error, TaskTooLong)
        assert "01:00:" in str(outcome.error)


@law
async def test_that_a_large_batch_is_taken_in_to_its_end(tmp_path):
    """A turn takes some hundreds of submissions; nothing else needs to happen for the rest to be taken."""
    async with stage(tmp_path, offers=[Offer(CPU, walltime_s=600)]) as s:
        s.submit(*(spec(f"t{number}", expected_runtime_s=3600.0) for number in range(1000)))
        outcomes = await asyncio.wait_for(asyncio.gather(*s.outcomes.values()), BEAT_S / 2)

        assert len(outcomes) == 1000


@law
async def test_that_a_fleet_that_gave_up_fails_every_task(tmp_path):
    """Those that wait, those that run, and those that are submitted later."""
    error = AllocationsFailing("3 allocations in a row ended before any worker registered", hint="see logs")
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(slots=1))
        s.submit(spec("t1"), spec("t2", "t1"), spec("t3"))
        await s.transport.until_sent(1)
        s.keeper.fail_all(error)
        for name in ("t1", "t2", "t3"):
            assert (await s.outcome(name)).error is error
        s.submit(spec("t4"))

        assert (await s.outcome("t4")).error is error
        assert s.keeper.progress().failed == 4


@law
async def test_that_a_listener_that_raises_does_not_stop_the_others(tmp_path):
    """What a future's callback does is its own affair."""
    async with stage(tmp_path) as s:

        def rude(outcome):
            raise RuntimeError("rude")

        s.keeper.receive(hello())
        s.keeper.submit(spec("t1"), rude)
        s.submit(spec("t2"))
        await s.transport.until_sent(2)
        s.done(attempt("t1"))
        s.done(attempt("t2"))

        assert (await s.outcome("t2")).result is not None


@law
async def test_that_one_name_is_one_task(tmp_path):
    """A second submission under the same id is refused, and the first one is none the worse."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        first = s.outcomes["t1"]
        s.submit(spec("t1"))

        assert isinstance((await s.outcome("t1")).error, ValueError)
        s.done(attempt("t1"))
        assert (await first).result is not None


@law
async def test_that_a_damaged_payload_fails_its_task_only(tmp_path):
    """What cannot be read is never sent; the task says so in the end, and others run."""
    async with stage(tmp_path) as s:
        s.submit(spec("t1", policy=RetryPolicy(infrastructure_limit=2)), spec("t2"))
        s.keeper.record(FleetNote(NOW, "pause", "x"))
        while not (tmp_path / "payloads.pack").read_bytes().endswith(b"arguments of t2"):  # noqa: ASYNC110  a file has no event
            await asyncio.sleep(0.001)
        path = tmp_path / "payloads.pack"
        path.write_bytes(path.read_bytes().replace(b"arguments of t1", b"arguments of t0"))
        s.keeper.receive(hello())
        outcome = await s.outcome("t1")

        assert isinstance(outcome.error, AttemptsExhausted)
        assert s.transport.attempts == ["t2.1"]
        assert "payload" in s.events(AttemptFailed)[0].error


@law
async def test_that_close_cancels_futures_and_keeps_tasks_open(tmp_path):
    """A later driver finds them; whoever submits after the end is told so."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(slots=1))
        s.submit(spec("t1"), spec("t2"))
        await s.transport.until_sent(1)
        s.submit(spec("t3"))
        await s.keeper.close("the user left")
        s.submit(spec("t4"))

        assert [(await s.outcome(name)).cancelled for name in ("t1", "t2", "t3", "t4")] == [True] * 4
        assert s.journal()[-1] == RunClosed(NOW, "the user left")
        assert [event.task_id for event in s.events(TaskSubmitted)] == ["t1", "t2", "t3"]
        assert not s.events(AttemptFailed)


@law
async def test_that_what_arrived_before_the_close_is_kept(tmp_path):
    """A receipt that lies in the mailbox when the session ends is journaled and told."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello())
        s.submit(spec("t1"))
        await s.transport.until_sent(1)
        s.done(attempt("t1"))
        await s.keeper.close()

        assert (await s.outcome("t1")).result is not None
        assert len(s.events(ReceiptTaken)) == 1


@law
async def test_that_the_next_driver_takes_up_what_was_left(tmp_path):
    """Done tasks are not run again, interrupted ones are looked up first, open ones are run; nothing is charged."""
    async with stage(tmp_path) as s:
        s.keeper.receive(hello(slots=3))
        s.submit(spec("done"), spec("lost"), spec("published"), spec("open"), spec("after", "published"))
        await s.transport.until_sent(3)
        s.done(attempt("done"))
        await s.outcome("done")
        store = s.store
    published = store.publish("published")
    async with stage(tmp_path, store=store) as s:
        s.keeper.receive(hello(7, slots=8))
        await s.transport.until_sent(3)

        assert sorted(s.transport.attempts) == ["after.1", "lost.2", "open.2"]
        assert s.transport.sent[-1][1].inputs == {key_of("published"): published}
        assert s.keeper.progress().done == 2
        assert {event.verdict for event in s.events(AttemptFailed)} == {"expected"}


@law
async def test_that_a_full_disk_is_told_to_everybody(tmp_path):
    """Nothing is sent that could not be journaled, no future hangs, and run() raises."""
    async with stage(tmp_path) as s:
        s.submit(spec("t1"))
        s.keeper.receive(hello())
        await s.transport.until_sent(1)
        s.submit(spec("t2"))
        s.done(attempt("t1"))
        with largest_file((tmp_path / "journal.jsonl").stat().st_size + 10):
            for name in ("t1", "t2"):
                assert isinstance((await s.outcome(name)).error, RunDirectoryError)
            with pytest.raises(RunDirectoryError):
                await s.running
            s.submit(spec("t3"))
            assert isinstance((await s.outcome("t3")).error, RunDirectoryError)

        assert s.transport.attempts == ["t1.1"]


@law
async def test_that_ten_thousand_tasks_cost_the_driver_little(tmp_path):
    """Submission, journal, placement, receipt and future together: 0.12 ms of CPU a task where this was written."""
    async with stage(tmp_path) as s:
        s.transport.on_send = lambda _, bundle: [s.done(one.attempt, seconds=0.05) for one in bundle.envelopes]
        for number in range(10):
            s.keeper.receive(hello(number + 1, slots=8))
        specs = [spec(f"t{number}") for number in range(3000)]
        began = time.process_time()
        s.submit(*specs)
        await asyncio.gather(*s.outcomes.values())
        spent_s = time.process_time() - began

        assert spent_s / 3000 < 0.0006


def test_that_the_payload_pack_is_private(tmp_path):
    """Arguments are nobody else's business."""
    PayloadPack(tmp_path / "p").close()

    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o600
