"""The loop around the plan, with a clock that tests wind."""

import asyncio
import functools
import itertools

import pytest

from scalable_hpc.errors import AllocationsFailing, BatchSilent, PartitionRefused, SubmissionDeferred, SubmissionError
from scalable_hpc.fleet.actions import OPENS_AT_ONCE
from scalable_hpc.model.allocations import ExitReason, JobState
from scalable_hpc.model.events import AllocationChanged, HostsTrusted
from scalable_hpc.model.messages import WorkerDraining
from tests.unit.fleet.builders import hello
from tests.unit.fleet.fakes import Harness


def on_the_loop(test):
    """Run a coroutine test on a loop of its own."""

    @functools.wraps(test)
    def run(**arguments):
        asyncio.run(test(**arguments))

    return run


@on_the_loop
async def test_that_no_batch_command_is_given_without_work():
    """A run whose every call is known asks for no node and asks nobody anything."""
    async with Harness() as fleet:
        await fleet.clock.wind(600.0)

    assert fleet.batch.jobs == {}
    assert fleet.batch.asked_at == []
    assert fleet.events == []


@on_the_loop
async def test_that_an_allocations_life_is_journalled_state_by_state():
    """From the submission to the batch system's last word, with its reason."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.assigned, fleet.waiting = {"a0001": 4}, 0
        fleet.batch.end("1", ExitReason.NODE_FAIL, "NODE_FAIL")
        fleet.lose("a0001")
        await fleet.clock.wind(2.0)

    last = [event for event in fleet.events if isinstance(event, AllocationChanged) and event.name == "a0001"][-1]
    assert fleet.states("a0001") == ["submitting", "pending", "live", "starting", "ended"]
    assert (last.reason, last.raw, last.job_id, last.nodes) == ("node_fail", "NODE_FAIL", "1", ("node01",))
    assert fleet.ended == [("a0001", ExitReason.NODE_FAIL)]


@on_the_loop
async def test_that_a_lost_allocation_is_replaced_under_a_new_name():
    """Within two seconds after the batch system knows; and the allocator forgets the old one."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(8)
        await fleet.go_live("a0001", "1")
        fleet.batch.end("1", ExitReason.NODE_FAIL, "NODE_FAIL")
        fleet.lose("a0001")
        await fleet.clock.wind(2.0)

        assert fleet.names() == ["a0002"]
    assert fleet.batch.closed == ["a0001"]


@on_the_loop
async def test_that_a_loss_which_dask_does_not_see_is_found_by_asking():
    """A node that is partitioned: no worker leaves, but the batch system says NODE_FAIL."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(8)
        await fleet.go_live("a0001", "1")
        fleet.batch.end("1", ExitReason.NODE_FAIL, "NODE_FAIL")
        await fleet.clock.wind(40.0)

    assert fleet.ended == [("a0001", ExitReason.NODE_FAIL)]


@on_the_loop
async def test_that_all_jobs_are_asked_for_with_one_query_and_never_below_the_floor():
    """Ten allocations, one query; two queries at least the floor apart, whatever happens in between."""
    async with Harness(maximum=10, poll_s=3.0) as fleet:
        await fleet.want(40, seconds=20.0)
        for number in range(1, 6):
            await fleet.go_live(f"a{number:04d}", str(number))
            fleet.lose(f"a{number:04d}")
        await fleet.clock.wind(30.0)

    moments = fleet.batch.asked_at
    assert max(len(ids) for ids in fleet.batch.asked_for) == 10
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) >= 3.0


@on_the_loop
async def test_that_a_calm_fleet_leaves_the_batch_system_in_peace():
    """Ten minutes in which nothing happens: a query each half minute, not each half second."""
    async with Harness(maximum=1, walltime_s=360_000) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1", walltime=360_000.0)
        fleet.assigned, fleet.waiting = {"a0001": 4}, 0
        await fleet.clock.wind(30.0)
        before = len(fleet.batch.asked_at)
        await fleet.clock.wind(600.0)

    assert 15 <= len(fleet.batch.asked_at) - before <= 20


@on_the_loop
async def test_that_silence_changes_nothing_and_is_noted_once():
    """Half an hour of no answer: nothing ends, nothing is opened, one note when it begins, one after."""
    async with Harness(maximum=2) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1", walltime=1e6)
        fleet.batch.is_silent = True
        await fleet.clock.wind(60.0)
        await fleet.want(400, seconds=1800.0)
        during = fleet.names()
        fleet.batch.is_silent = False
        await fleet.clock.wind(60.0)

        assert during == ["a0001"]
        assert fleet.names() == ["a0001", "a0002"]
    assert fleet.notes() == ["silent", "answers"]
    assert fleet.ended == []


@on_the_loop
async def test_that_idle_allocations_are_given_back_and_new_work_brings_new_ones():
    """Scale to zero and up again, under new names."""
    async with Harness(maximum=1, idle_s=15.0) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        await fleet.want(0, seconds=20.0)
        names = fleet.names()
        await fleet.want(4)

        assert (names, fleet.names()) == ([], ["a0002"])
    assert fleet.states("a0001")[-3:] == ["draining", "closing", "ended"]
    assert fleet.batch.drained == ["a0001"]


@on_the_loop
async def test_that_a_warned_worker_is_drained_and_closed_when_it_is_idle():
    """Its running attempts end first; a replacement is asked for at once."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(8)
        await fleet.go_live("a0001", "1")
        fleet.assigned = {"a0001": 4}
        fleet.supervisor.receive(WorkerDraining("tcp://a0001:1", "SIGUSR1", fleet.clock.now() + 60))
        await fleet.clock.wind(2.0)
        while_busy = list(fleet.batch.closed)
        fleet.assigned = {}
        await fleet.clock.wind(2.0)

        assert fleet.names() == ["a0002"]
    assert (while_busy, fleet.batch.closed) == ([], ["a0001"])


@on_the_loop
async def test_that_a_worker_that_leaves_for_a_reason_of_its_own_leaves_the_others_alone():
    """Its allocation goes on with them."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(8)
        await fleet.go_live("a0001", "1")
        fleet.assigned = {"a0001": 4}
        fleet.supervisor.receive(WorkerDraining("tcp://a0001:1", "a node of its tasks is lost", None, alone=True))
        await fleet.clock.wind(4.0)

        assert fleet.states("a0001")[-1] == "live"
    assert fleet.batch.drained == []


@on_the_loop
async def test_that_nothing_is_closed_before_its_drain_has_taken_effect():
    """Until the drain is through, an attempt may still be placed there; but a drain that hangs is not waited for."""
    async with Harness(maximum=1, idle_s=5.0) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.batch.hold_drains = asyncio.Event()
        await fleet.want(0, seconds=10.0)
        while_draining = list(fleet.batch.closed)
        await fleet.clock.wind(30.0)

    assert (while_draining, fleet.batch.closed) == ([], ["a0001"])


@on_the_loop
async def test_that_a_job_that_is_being_torn_down_gets_nothing_new():
    """The batch system has begun to end it while its worker is still connected: placement stops at once."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.batch.say("1", JobState.ENDING, "COMPLETING")
        await fleet.clock.wind(40.0)

    assert fleet.batch.drained == ["a0001"]
    assert fleet.states("a0001")[-1] == "closing"


@on_the_loop
async def test_that_a_lost_worker_is_asked_after_at_once_though_the_controller_is_slow():
    """A controller that takes four seconds is left alone for twenty; not when there is something to know."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        fleet.batch.query_takes_s = 4.0
        await fleet.go_live("a0001", "1")
        await fleet.clock.wind(36.0)
        before = len(fleet.batch.asked_at)
        fleet.lose("a0001")
        await fleet.clock.wind(1.0)

    assert len(fleet.batch.asked_at) == before + 1


@on_the_loop
async def test_that_times_and_nodes_are_asked_for_soon_after_a_worker_came():
    """Dask was quicker than the batch system, which knows when the job will end."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        await fleet.clock.wind(2.0)

        assert fleet.supervisor.snapshot()[0].started_at is not None


@on_the_loop
async def test_that_failing_starts_stop_the_fleet_and_show_the_log():
    """Three jobs in a row that die before their worker comes: one error with the last log's tail, no fourth job."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        for job in ("1", "2", "3"):
            fleet.batch.end(job, ExitReason.FAILED, "FAILED 7:0")
            await fleet.clock.wind(20.0)
        await fleet.failed.wait()
        await fleet.clock.wind(300.0)

    (error,) = fleet.failures
    assert isinstance(error, AllocationsFailing)
    assert "3 allocations in a row ended before any worker registered" in error.message
    assert "log of a0003" in error.message
    assert "FAILED 7:0" in error.message
    assert len(fleet.batch.jobs) == 3


@on_the_loop
async def test_that_new_work_after_failing_starts_is_a_new_try():
    """When nobody wants anything any more the streak is forgotten."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        for job in ("1", "2", "3"):
            fleet.batch.end(job, ExitReason.FAILED, "FAILED 7:0")
            await fleet.clock.wind(20.0)
        await fleet.failed.wait()
        await fleet.want(0)
        await fleet.want(4)

    assert len(fleet.batch.jobs) == 4


@on_the_loop
async def test_that_a_live_worker_ends_a_streak_of_failed_starts():
    """Two failures, a success, two failures: nobody is alarmed."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        for job in ("1", "2", "3", "4", "5"):
            if job == "3":
                await fleet.go_live("a0003", job)
                fleet.lose("a0003")
            fleet.batch.end(job, ExitReason.FAILED, "FAILED 7:0")
            await fleet.clock.wind(20.0)

    assert fleet.failures == []
    assert len(fleet.batch.jobs) == 6


@on_the_loop
async def test_that_lost_nodes_before_the_first_worker_are_no_failed_starts():
    """A node that dies under a starting allocation says nothing against its script."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        for job in ("1", "2", "3", "4"):
            fleet.batch.end(job, ExitReason.NODE_FAIL, "NODE_FAIL")
            await fleet.clock.wind(3.0)

    assert fleet.failures == []
    assert len(fleet.batch.jobs) == 5


@on_the_loop
async def test_that_a_refusal_for_good_is_told_once_with_the_batch_systems_words():
    """A bad partition: the run hears it as it was raised, and nothing more is submitted."""
    refusal = PartitionRefused("sbatch: error: invalid partition specified: nosuch")
    async with Harness(maximum=3) as fleet:
        fleet.batch.refuse_with = refusal
        await fleet.want(12, seconds=600.0)

    assert fleet.failures == [refusal]
    assert fleet.batch.jobs == {}
    assert fleet.ended == []
    assert fleet.states("a0001") == ["submitting", "ended"]


@on_the_loop
async def test_that_a_refusal_while_hosts_are_excluded_trusts_them_again():
    """Perhaps there is no other node to be had: nobody is told of a failure before it was tried with all of them."""
    async with Harness(maximum=1) as fleet:
        fleet.excluded = ("bad",)
        fleet.batch.refuse_with = PartitionRefused("sbatch: error: Requested node configuration is not available")
        await fleet.want(4, seconds=2.0)
        [trusted] = [event for event in fleet.events if isinstance(event, HostsTrusted)]
        fleet.excluded = ()
        fleet.batch.refuse_with = None
        await fleet.clock.wind(30.0)

        assert len(fleet.names()) == 1
    assert trusted.hosts == ("bad",)
    assert "Requested node configuration is not available" in trusted.because
    assert fleet.failures == []


@on_the_loop
async def test_that_a_deferred_submission_is_tried_again_later_and_later():
    """A submit limit is no failure: backs off, and goes on when it is lifted."""
    async with Harness(maximum=1) as fleet:
        fleet.batch.refuse_with = SubmissionDeferred("QOSMaxSubmitJobPerUserLimit")
        await fleet.want(4, seconds=60.0)
        tries = len({event.name for event in fleet.events if isinstance(event, AllocationChanged)})
        fleet.batch.refuse_with = None
        await fleet.clock.wind(60.0)

        assert len(fleet.names()) == 1
    assert fleet.failures == []
    assert 2 <= tries <= 4
    assert "deferred" in fleet.notes()


@on_the_loop
async def test_that_a_job_that_will_never_run_is_told_and_taken_back():
    """The pending reason in the batch system's own words, with why it means never."""

    def never_runs(reason):
        return "the walltime is over the partition's limit" if reason == "PartitionTimeLimit" else None

    async with Harness(maximum=1, never_runs=never_runs) as fleet:
        await fleet.want(4, seconds=0.2)
        fleet.batch.say("1", JobState.PENDING, because="PartitionTimeLimit")
        await fleet.clock.wind(60.0)

    (error,) = fleet.failures
    assert isinstance(error, SubmissionError)
    assert "PartitionTimeLimit" in error.message
    assert "over the partition's limit" in error.message
    assert (fleet.batch.closed, len(fleet.batch.jobs)) == (["a0001"], 1)


@on_the_loop
async def test_that_a_submission_whose_answer_was_lost_is_found_by_its_name():
    """sbatch took the job and died before saying so: the job is ours, not a second one's."""
    async with Harness(maximum=1) as fleet:
        fleet.batch.refuse_with = BatchSilent("sbatch gave no answer within 30 s")
        fleet.batch.hold_opens = asyncio.Event()
        await fleet.want(4)
        fleet.batch.take("a0001")
        fleet.batch.hold_opens.set()
        await fleet.clock.wind(5.0)

        assert [(seen.name, seen.job_id) for seen in fleet.supervisor.snapshot()] == [("a0001", "1")]
    assert len(fleet.batch.jobs) == 1


@on_the_loop
async def test_that_a_submission_that_never_arrived_is_given_up_and_repeated():
    """No job of that name after half a minute: there is none, and the work still wants one."""
    async with Harness(maximum=1) as fleet:
        fleet.batch.refuse_with = BatchSilent("sbatch gave no answer within 30 s")
        await fleet.want(4)
        fleet.batch.refuse_with = None
        await fleet.clock.wind(60.0)

        assert fleet.names() == ["a0002"]
    assert fleet.failures == []


@on_the_loop
async def test_that_slow_submissions_stop_nothing_and_are_few_at_a_time():
    """While sbatch hangs, workers are heard and the plan is made; no more than a few hang at once."""
    async with Harness(maximum=20, max_pending=50) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.batch.hold_opens = asyncio.Event()
        await fleet.want(80, seconds=5.0)
        fleet.lose("a0001")
        fleet.batch.end("1", ExitReason.NODE_FAIL, "NODE_FAIL")
        await fleet.clock.wind(2.0)
        ended_meanwhile = list(fleet.ended)
        fleet.batch.hold_opens.set()
        await fleet.clock.wind(5.0)

        assert len(fleet.names()) == 20
    assert ended_meanwhile == [("a0001", ExitReason.NODE_FAIL)]
    assert fleet.batch.most_opening == OPENS_AT_ONCE


@on_the_loop
async def test_that_a_cancel_that_is_not_obeyed_is_repeated():
    """A close is believed when the job is gone, not when a command returned."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        fleet.batch.obeys = False
        await fleet.want(0, seconds=60.0)
        still_there = fleet.names()
        fleet.batch.obeys = True
        await fleet.clock.wind(120.0)

        assert (still_there, fleet.names()) == (["a0001"], [])
    assert fleet.batch.cancelled.count(("1",)) >= 3
    assert "cancel_repeated" in fleet.notes()


@on_the_loop
async def test_that_a_job_in_its_teardown_is_not_cancelled_again():
    """COMPLETING takes its time, KillWait for instance: asking again would not shorten it."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        fleet.batch.obeys = False
        await fleet.want(0)
        fleet.batch.say("1", JobState.ENDING, "COMPLETING")
        await fleet.clock.wind(60.0)

    assert fleet.batch.cancelled == []


@on_the_loop
async def test_that_word_is_had_as_soon_as_the_batch_system_knows():
    """Asked why its worker went, it asks until the answer is there."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.lose("a0001")
        word = asyncio.ensure_future(fleet.supervisor.word("a0001", 60.0))
        await fleet.clock.wind(15.0)
        too_early = word.done()
        fleet.batch.end("1", ExitReason.OUT_OF_MEMORY, "OUT_OF_MEMORY 0:125")
        await fleet.clock.wind(3.0)

        assert not too_early
        assert word.result() == (ExitReason.OUT_OF_MEMORY, "OUT_OF_MEMORY 0:125")


@on_the_loop
async def test_that_word_on_a_live_allocation_is_had_quickly_too():
    """A worker that hangs without leaving: who asks is answered within seconds, calm or not."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        await fleet.clock.wind(60.0)
        word = asyncio.ensure_future(fleet.supervisor.word("a0001", 60.0))
        await fleet.clock.wind(1.0)
        fleet.batch.end("1", ExitReason.NODE_FAIL, "NODE_FAIL")
        await fleet.clock.wind(2.0)

        assert word.result()[0] is ExitReason.NODE_FAIL


@on_the_loop
async def test_that_word_is_bounded_and_tells_what_was_heard_last():
    """A job that runs on has no ending: after the time given, the last words and no reason."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.lose("a0001")
        word = asyncio.ensure_future(fleet.supervisor.word("a0001", 10.0))
        await fleet.clock.wind(10.0)

        assert word.result() == (None, "RUNNING")
        assert (await fleet.supervisor.word("a0099", 10.0))[0] is None


@on_the_loop
async def test_that_a_requeue_is_word_enough():
    """The job waits again: its attempts were taken by a requeue, and the allocation is not over."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        await fleet.clock.wind(2.0)
        fleet.batch.say("1", JobState.PENDING, because="BeginTime", restarts=1)
        fleet.lose("a0001")
        word = asyncio.ensure_future(fleet.supervisor.word("a0001", 60.0))
        await fleet.clock.wind(2.0)

        assert word.result()[0] is ExitReason.REQUEUED
        assert fleet.names() == ["a0001"]
    assert fleet.ended == []


@on_the_loop
async def test_that_close_gives_everything_back_and_waits_for_confirmation():
    """Pending and live ones alike; what the batch system confirms is journalled before close returns."""
    async with Harness(maximum=2) as fleet:
        await fleet.want(8)
        await fleet.go_live("a0001", "1")
        closing = asyncio.ensure_future(fleet.supervisor.close("the session ended"))
        await fleet.clock.wind(5.0)

        assert closing.result() == ()
        assert fleet.loop_task.done()
    assert fleet.states("a0001")[-2:] == ["closing", "ended"]
    assert fleet.states("a0002")[-2:] == ["closing", "ended"]
    assert [name for name, _ in fleet.ended] == ["a0001", "a0002"]


@on_the_loop
async def test_that_close_is_bounded_and_names_what_is_left():
    """A batch system that does not obey does not hold the session for ever."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        fleet.batch.obeys = False
        closing = asyncio.ensure_future(fleet.supervisor.close("the session ended", timeout_s=30.0))
        await fleet.clock.wind(31.0)

        assert closing.result() == ("a0001",)
    assert "unconfirmed" in fleet.notes()


async def lose_with_work(fleet):
    """An allocation whose worker vanished with an attempt, while the batch system still says that it runs."""
    await fleet.want(4)
    await fleet.go_live("a0001", "1")
    fleet.lose("a0001")
    fleet.unexplained = {"a0001"}
    await fleet.want(0, seconds=0.0)


@on_the_loop
async def test_that_a_complete_session_hears_why_an_allocation_was_lost_before_it_closes():
    """To cancel it would overwrite NODE_FAIL, which the batch system knows only some time after the power cut."""
    async with Harness(maximum=1) as fleet:
        await lose_with_work(fleet)
        closing = asyncio.ensure_future(fleet.supervisor.close("the session ended"))
        await fleet.clock.wind(16.0)
        fleet.batch.end("1", ExitReason.NODE_FAIL, "NODE_FAIL")
        await fleet.clock.wind(5.0)

        assert closing.done()
    assert (fleet.ended, "closing" in fleet.states("a0001")) == ([("a0001", ExitReason.NODE_FAIL)], False)
    assert "waits" in fleet.notes()


@on_the_loop
async def test_that_the_wait_for_the_reason_of_a_loss_is_bounded():
    """A batch system that goes on saying RUNNING is believed for half a minute, then the allocation is cancelled."""
    async with Harness(maximum=1) as fleet:
        await lose_with_work(fleet)
        closing = asyncio.ensure_future(fleet.supervisor.close("the session ended"))
        await fleet.clock.wind(25.0)
        before = list(fleet.batch.closed)
        await fleet.clock.wind(15.0)

        assert closing.done()
    assert (before, fleet.batch.closed) == ([], ["a0001"])


@on_the_loop
async def test_that_a_session_that_is_cut_short_waits_for_no_reasons():
    """After Ctrl-C everything is given back at once."""
    async with Harness(maximum=1) as fleet:
        await lose_with_work(fleet)
        closing = asyncio.ensure_future(fleet.supervisor.close("interrupted", patient=False))
        await fleet.clock.wind(3.0)

        assert closing.done()
    assert fleet.batch.closed == ["a0001"]


@on_the_loop
async def test_that_an_idle_fleet_hears_why_an_allocation_was_lost_before_it_gives_it_back():
    """The plan wants it retired when nothing is left to do; the reason of the loss comes first."""
    async with Harness(maximum=1, idle_s=5.0) as fleet:
        await lose_with_work(fleet)
        await fleet.clock.wind(20.0)
        before = list(fleet.batch.closed)
        await fleet.clock.wind(20.0)

    assert (before, fleet.batch.closed) == ([], ["a0001"])


@on_the_loop
async def test_that_a_submission_under_way_is_closed_too():
    """The answer that comes while closing is a job that must go as well; those not handed over never are."""
    async with Harness(maximum=8) as fleet:
        fleet.batch.hold_opens = asyncio.Event()
        await fleet.want(32)
        closing = asyncio.ensure_future(fleet.supervisor.close("the session ended"))
        await fleet.clock.wind(2.0)
        fleet.batch.hold_opens.set()
        await fleet.clock.wind(5.0)

        assert closing.result() == ()
    assert len(fleet.batch.jobs) == OPENS_AT_ONCE
    assert {job.state for job in fleet.batch.jobs.values()} == {JobState.ENDED}


@on_the_loop
async def test_that_close_works_after_the_loop_was_cancelled():
    """A driver that is interrupted still gives its allocations back."""
    fleet = Harness(maximum=1)
    async with fleet:
        await fleet.want(4)
    closing = asyncio.ensure_future(fleet.supervisor.close("interrupted"))
    await fleet.clock.wind(5.0)

    assert closing.result() == ()
    assert fleet.batch.closed == ["a0001"]


@on_the_loop
async def test_that_a_winding_down_fleet_opens_nothing_and_keeps_what_works():
    """What runs may finish; what is idle with nothing left goes at once."""
    async with Harness(maximum=2, idle_s=1000.0) as fleet:
        await fleet.want(4)
        await fleet.go_live("a0001", "1")
        fleet.assigned = {"a0001": 4}
        fleet.supervisor.wind_down()
        await fleet.want(50, seconds=30.0)
        kept = fleet.names()
        fleet.assigned = {}
        await fleet.want(0, seconds=5.0)

        assert (kept, fleet.names()) == (["a0001"], [])


@on_the_loop
async def test_that_a_worker_of_an_ended_allocation_is_sent_away():
    """A job that was given up and starts after all is cancelled, not forgotten."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        fleet.batch.end("1", ExitReason.CANCELLED, "CANCELLED by 0")
        await fleet.want(0, seconds=5.0)
        fleet.batch.start("1")
        fleet.supervisor.receive(hello("a0001", "tcp://a0001:1", job_id="1"))
        await fleet.clock.wind(2.0)

        assert fleet.names() == []
    assert fleet.batch.jobs["1"].state is JobState.ENDED
    assert "stray" in fleet.notes()


@on_the_loop
async def test_that_an_allocation_of_a_driver_before_us_is_taken_in():
    """Its worker is capacity like any other; when idle it is given back, by its job id."""
    async with Harness(maximum=1, idle_s=15.0) as fleet:
        fleet.batch.take("a0007")
        await fleet.go_live("a0007", "1")
        adopted = fleet.names()
        await fleet.clock.wind(60.0)

        assert (adopted, fleet.names()) == (["a0007"], [])
    assert ("1",) in fleet.batch.cancelled
    assert fleet.notes() == ["adopted"]


@on_the_loop
async def test_that_a_job_id_that_was_given_to_another_job_is_not_cancelled():
    """A controller crash lost our job and gave its id away: ours is over, the other one is left alone."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        fleet.batch.jobs["1"] = type(fleet.batch.jobs["1"])("1", JobState.RUNNING, "RUNNING", name="scalable-x-a0001")
        await fleet.clock.wind(30.0)

        assert fleet.names() == ["a0002"]
    assert (fleet.batch.closed, fleet.batch.cancelled) == ([], [])


@on_the_loop
async def test_that_a_second_loop_is_refused():
    """One supervisor, one loop."""
    async with Harness() as fleet:
        await fleet.clock.settle()
        with pytest.raises(RuntimeError):
            await fleet.supervisor.run()


@on_the_loop
async def test_that_a_broken_backend_ends_the_loop_loudly():
    """A bug in a parser is not silence: the run hears of it."""
    fleet = Harness(maximum=1)

    async def broken(job_ids):
        raise KeyError("job_state")

    fleet.batch.status = broken
    async with fleet:
        await fleet.want(4, seconds=10.0)

        with pytest.raises(KeyError):
            await fleet.loop_task


@on_the_loop
async def test_that_why_and_how_long_a_job_waits_is_journalled():
    """The scheduler's reason, each new one, and its first forecast; not every change of the forecast."""
    async with Harness(maximum=1) as fleet:
        await fleet.want(4)
        for reason, expected in [("Priority", None), ("Resources", None), ("Resources", 90e3), ("Resources", 91e3)]:
            fleet.batch.say("1", JobState.PENDING, because=reason, expected_start=expected)
            await fleet.clock.wind(40.0)
        [seen] = fleet.supervisor.snapshot()

    said = [event.because for event in fleet.events if isinstance(event, AllocationChanged) and event.name == "a0001"]
    assert len([words for words in said if "waits in the queue" in words]) == 3
    assert "Priority" in said[-3]
    assert "Resources" in said[-2]
    assert "Resources, expected to start at 1970-01-0" in said[-1]
    assert (seen.pending_because, seen.expected_start) == ("Resources", 91e3)


@on_the_loop
async def test_that_a_site_that_takes_few_jobs_is_not_asked_for_more():
    """Its limit is for all jobs of a user, successors included; no submission is made to be refused."""
    async with Harness(maximum=10, most_jobs=3) as fleet:
        await fleet.want(400, seconds=30.0)

        assert len(fleet.names()) == 3
        assert len(fleet.batch.jobs) == 3


@on_the_loop
async def test_that_allocations_are_asked_for_together_where_the_target_says_so():
    """By one submission, and a refusal is told once and asks for less at a time."""
    async with Harness(maximum=4, array=4) as fleet:
        fleet.batch.refuse_with = SubmissionDeferred("QOSMaxSubmitJobPerUserLimit")
        await fleet.want(100)
        fleet.batch.refuse_with = None
        await fleet.clock.wind(10.0)

    assert fleet.batch.arrays[:3] == [
        ("a0001", "a0002", "a0003", "a0004"), ("a0005", "a0006"), ("a0007", "a0008"),
    ]  # fmt: skip
    assert fleet.notes().count("deferred") == 1
    assert sorted(fleet.batch.opened) == ["a0005", "a0006", "a0007", "a0008"]
