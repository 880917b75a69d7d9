"""What is known of an allocation, folded from the batch system's word and Dask's."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.fleet import view
from scalable_hpc.fleet.case import Case
from scalable_hpc.fleet.known import RECONCILED, Link, Word
from scalable_hpc.fleet.view import UNKNOWN_AFTER_CLOSE_S, UNKNOWN_PATIENCE_S
from scalable_hpc.model.allocations import AllocationState, ExitReason, JobEnding, JobState
from scalable_hpc.model.fleet import Demand, FleetView
from scalable_hpc.model.messages import WorkerDraining
from tests.unit.fleet.builders import fresh, hello, limits, seen

S = AllocationState


def submitted(now=1.0):
    return view.submitted(fresh(), "17", now)


def running(now=2.0, **more):
    return view.observed(submitted(), seen(JobState.RUNNING, started_at=now, ends_at=now + 3600, **more), now)


def live(now=3.0):
    return view.worker_came(running(), hello(), now)


def test_that_every_pair_of_words_has_a_meaning_and_a_reason():
    """The two truths are reconciled for every pair, so no pair is left to chance."""
    assert set(RECONCILED) == set(itertools.product(Word, Link))
    assert all(words for _, words in RECONCILED.values())


def test_that_only_the_word_ended_ends_an_allocation():
    """No pair but those with the batch system's ENDED means that an allocation is over."""
    assert {word for (word, _), (state, _) in RECONCILED.items() if state is S.ENDED} == {Word.ENDED}


def test_that_a_life_goes_through_its_states_in_order():
    """Submitted, pending, starting, live, ended: as told by both sides."""
    known = fresh()
    states = [known.view.state]
    for step in (
        lambda k: view.submitted(k, "17", 1.0),
        lambda k: view.observed(k, seen(JobState.PENDING, because="Resources"), 2.0),
        lambda k: view.observed(k, seen(JobState.RUNNING, started_at=2.5, ends_at=62.5, nodes=("node02",)), 3.0),
        lambda k: view.worker_came(k, hello(), 4.0),
        lambda k: view.worker_left(k, hello().address, 60.0),
        lambda k: view.observed(k, seen(JobState.ENDED), 62.0),
    ):
        known = step(known)
        states.append(known.view.state)

    assert states == [S.SUBMITTING, S.PENDING, S.PENDING, S.STARTING, S.LIVE, S.STARTING, S.ENDED]
    assert known.ending == JobEnding(ExitReason.NODE_FAIL, "NODE_FAIL")
    assert known.view.ended_at == 62.0
    assert known.nodes == ("node02", "node01")


def test_that_the_batch_systems_reason_for_waiting_is_kept_unchanged():
    """A pending allocation says why, in the batch system's own word."""
    known = view.observed(submitted(), seen(JobState.PENDING, because="QOSMaxJobsPerUserLimit"), 2.0)

    assert known.view.pending_because == "QOSMaxJobsPerUserLimit"
    assert "QOSMaxJobsPerUserLimit" in known.view.because


@pytest.mark.parametrize("late", [JobState.PENDING, JobState.UNKNOWN])
def test_that_a_worker_is_believed_over_an_older_answer(late):
    """A worker that registered is alive, though the batch system still says that its job waits, or nothing of it."""
    known = view.observed(view.worker_came(submitted(), hello(), 2.0), seen(late), 2.5)

    assert known.view.state is S.LIVE
    assert known.view.live_slots == 4


def test_that_a_worker_can_come_before_the_answer_to_its_submission():
    """The hello brings the job id that the submission's answer has not brought yet."""
    known = view.worker_came(fresh(), hello(job_id="17"), 1.0)

    assert (known.view.state, known.view.job_id) == (S.LIVE, "17")
    assert view.submitted(known, "17", 2.0).view.state is S.LIVE


@given(st.lists(st.floats(0, UNKNOWN_PATIENCE_S - 1), min_size=1))
def test_that_a_job_which_nobody_knows_is_not_over_for_that(moments):
    """Not knowing a job is no ending, however often it is said within the patience."""
    known = running()
    for moment in sorted(moments):
        known = view.observed(known, seen(JobState.UNKNOWN), 100.0 + moment)

    assert known.ending is None


def test_that_a_job_which_nobody_knows_for_long_is_given_up_with_reason_unknown():
    """After fifteen minutes of not being known, without a worker, an allocation counts as over: nobody knows why."""
    known = view.observed(running(), seen(JobState.UNKNOWN), 100.0)
    known = view.observed(known, seen(JobState.UNKNOWN), 100.0 + UNKNOWN_PATIENCE_S)

    assert known.view.state is S.ENDED
    assert known.ending.reason is ExitReason.UNKNOWN


def test_that_a_live_worker_keeps_an_unknown_job_alive():
    """As long as a worker is registered its allocation is not given up."""
    known = view.observed(live(), seen(JobState.UNKNOWN), 100.0)
    known = view.observed(known, seen(JobState.UNKNOWN), 100.0 + 10 * UNKNOWN_PATIENCE_S)

    assert known.view.state is S.LIVE


def test_that_an_answer_in_between_starts_the_patience_anew():
    """A job that is known again has not been unknown all the time."""
    known = view.observed(running(), seen(JobState.UNKNOWN), 100.0)
    known = view.observed(known, seen(JobState.RUNNING), 500.0)
    known = view.observed(known, seen(JobState.UNKNOWN), 100.0 + UNKNOWN_PATIENCE_S)

    assert known.ending is None


def test_that_a_closed_job_which_nobody_knows_is_given_up_sooner():
    """What we cancelled and nobody knows any more is not waited for long."""
    known = view.close_decided(running(), "idle", 50.0)
    known = view.observed(known, seen(JobState.UNKNOWN), 100.0)
    known = view.observed(known, seen(JobState.UNKNOWN), 100.0 + UNKNOWN_AFTER_CLOSE_S)

    assert known.view.state is S.ENDED


def test_that_a_requeued_job_waits_again_and_its_old_workers_count_no_more():
    """The same job id pending again: its slots are gone, its times are forgotten, its reason is kept to be told."""
    known = view.observed(live(), seen(JobState.PENDING, because="BeginTime", restarts=1), 50.0)

    assert known.view.state is S.PENDING
    assert (known.view.live_slots, known.view.started_at, known.view.ends_at) == (0, None, None)
    assert known.view.submitted_at == 50.0
    assert known.interrupted.reason is ExitReason.REQUEUED


def test_that_a_requeued_job_lives_again_under_its_name():
    """After a requeue the new worker makes it live, with its new end."""
    known = view.observed(live(), seen(JobState.PENDING), 50.0)
    known = view.observed(known, seen(JobState.PENDING), 51.0)
    known = view.observed(known, seen(JobState.RUNNING, started_at=60.0, ends_at=3660.0), 60.0)
    known = view.worker_came(known, hello(address="tcp://10.0.0.2:1"), 61.0)

    assert known.view.state is S.LIVE
    assert known.view.ends_at == 3660.0
    assert known.interrupted is None


def test_that_a_requeue_wipes_out_the_wish_to_drain():
    """The new incarnation starts without the old one's warning signal."""
    known = view.worker_drains(live(), WorkerDraining(hello().address, "SIGUSR1", 99.0), 40.0)
    known = view.drain_decided(known, "it asked", 40.0)
    known = view.observed(known, seen(JobState.PENDING), 50.0)

    assert (known.view.drain_asked, known.drain_because) == ("", "")


def test_that_closing_is_our_word_until_the_batch_system_confirms():
    """A closed allocation stays CLOSING, whatever is seen of it, until it is over."""
    known = view.close_decided(live(), "idle for 20 s", 50.0)
    for state in (JobState.RUNNING, JobState.UNKNOWN, JobState.ENDING, JobState.PENDING):
        known = view.observed(known, seen(state), 51.0)

        assert known.view.state is S.CLOSING
    assert view.observed(known, seen(JobState.ENDED), 60.0).view.state is S.ENDED


def test_that_closing_since_does_not_move():
    """The time of the close is the first time that it was decided."""
    known = view.close_decided(view.close_decided(live(), "idle", 50.0), "again", 70.0)

    assert (known.view.closing_since, known.close_because) == (50.0, "idle")


def test_that_drained_is_not_live():
    """After our decision a live allocation is DRAINING; its worker still counts as here."""
    known = view.drain_decided(live(), "12 s left", 50.0)

    assert (known.view.state, known.view.live_slots, known.view.because) == (S.DRAINING, 4, "12 s left")


def test_that_an_extended_walltime_is_believed():
    """Admins extend walltimes: the batch system's newest end wins."""
    known = view.observed(live(), seen(JobState.RUNNING, ends_at=9999.0), 50.0)

    assert known.view.ends_at == 9999.0


def test_that_an_end_is_known_even_where_the_batch_system_tells_none():
    """Without a told end it is the start plus the walltime, or the worker's own deadline."""
    told_start = view.observed(submitted(), seen(JobState.RUNNING, started_at=5.0), 6.0)
    told_by_worker = view.worker_came(submitted(), hello(deadline=777.0), 6.0)

    assert told_start.view.ends_at == 5.0 + 3600
    assert told_by_worker.view.ends_at == 777.0


def test_that_time_alone_is_counted_from_the_last_worker():
    """``alone_since`` says since when a running job has no worker, and is gone once one is here."""
    assert running(2.0).view.alone_since == 2.0
    assert live().view.alone_since is None
    assert view.worker_left(live(), hello().address, 40.0).view.alone_since == 40.0


def test_that_a_job_whose_worker_was_here_is_not_believed_to_wait():
    """That it waits was said before its worker came: only if it is said again it is so (a requeue)."""
    known = view.observed(submitted(), seen(JobState.PENDING), 2.0)
    known = view.worker_left(view.worker_came(known, hello(), 3.0), hello().address, 4.0)

    assert known.view.state is S.STARTING
    assert view.observed(known, seen(JobState.PENDING), 5.0).view.state is S.PENDING


def test_that_the_same_answer_again_is_no_news():
    """Of thousands of jobs nearly all are as they were: nothing is made anew for them."""
    known = running()

    assert view.observed(known, seen(JobState.RUNNING, started_at=2.0, ends_at=3602.0), 9.0) is known


def test_that_one_of_two_workers_keeps_an_allocation_live():
    """A multi-node allocation lives on with the slots that it has left."""
    known = view.worker_came(live(), hello(address="tcp://10.0.0.2:1", node="node02"), 4.0)
    known = view.worker_left(known, hello().address, 5.0)

    assert (known.view.state, known.view.live_slots) == (S.LIVE, 4)


def test_that_a_suspended_allocation_is_to_be_drained():
    """A suspended job's worker is frozen: nothing new may go there."""
    assert view.observed(live(), seen(JobState.SUSPENDED), 9.0).view.drain_asked


def test_that_a_reused_job_id_ends_the_allocation_that_lost_it():
    """A controller that crashed gives ids out again: our job was lost, and nothing may be cancelled by that id."""
    known = view.disowned(submitted(), seen(JobState.RUNNING, name="scalable-other-a0009"), 9.0)

    assert known.view.state is S.ENDED
    assert known.is_disowned
    assert "scalable-other-a0009" in known.ending.raw


FOLDS = [
    lambda k, t: view.submitted(k, "17", t),
    lambda k, t: view.close_decided(k, "because", t),
    lambda k, t: view.drain_decided(k, "because", t),
    lambda k, t: view.worker_came(k, hello(), t),
    lambda k, t: view.worker_left(k, hello().address, t),
    lambda k, t: view.worker_drains(k, WorkerDraining(hello().address, "signal", None), t),
    view.answer_lost,
    lambda k, t: view.disowned(k, seen(JobState.RUNNING, name="scalable-x-a0002"), t),
    *[lambda k, t, s=state: view.observed(k, seen(s), t) for state in JobState],
]


@given(st.lists(st.tuples(st.sampled_from(FOLDS), st.floats(0, 600))))
def test_that_whatever_comes_in_whatever_order_is_folded(steps):
    """No order of news is an error; ENDED is final; live slots are those of the workers that are here."""
    known, now = fresh(), 0.0
    for fold, later in steps:
        now += later
        before, known = known, fold(known, now)

        assert known.view.because
        assert known.view.live_slots == sum(slots for _, slots in known.workers)
        assert (known.ending is None) == (known.view.state is not S.ENDED)
        assert (known.view.closing_since is not None) == (known.view.state is S.CLOSING)
        if before.ending is not None:
            assert known == before


def four_nodes():
    nodes = ("node01", "node02", "node03", "node04")
    asked = view.submitted(fresh(slots=16), "17", 1.0)
    return view.observed(asked, seen(JobState.RUNNING, started_at=2.0, ends_at=3602.0, nodes=nodes), 2.0)


def test_that_a_job_that_goes_on_without_a_node_has_lost_it():
    """What the batch system itself said of its nodes counts: workers may call their host by another name."""
    known = view.worker_came(four_nodes(), hello(node="node02.cluster"), 3.0)
    known = view.observed(known, seen(JobState.RUNNING, nodes=("node01", "node03", "node04")), 4.0)

    assert known.lost == ("node02",)
    assert known.view.state is S.LIVE
    assert known.ending is None


def test_that_a_requeued_job_lost_no_node():
    """It is given other nodes when it runs again."""
    known = view.observed(four_nodes(), seen(JobState.PENDING), 4.0)
    known = view.observed(known, seen(JobState.RUNNING, nodes=("node05",)), 5.0)

    assert known.lost == ()


def test_that_a_job_that_ends_lost_no_node():
    """Some batch systems name no nodes any more, or fewer, once it is over: its end has a reason of its own."""
    known = view.observed(four_nodes(), seen(JobState.ENDED, nodes=("node01",)), 4.0)

    assert known.lost == ()


def test_that_slots_that_were_here_and_are_gone_are_not_on_their_way():
    """An allocation that was whole once has what is live; before that, its other nodes are about to come."""
    known = four_nodes()
    for number in range(4):
        assert not known.view.was_whole
        known = view.worker_came(known, hello(address=f"tcp://10.0.0.{number}:1"), 3.0 + number)
    known = view.worker_left(known, "tcp://10.0.0.2:1", 9.0)

    assert known.view.was_whole
    assert known.view.live_slots == 12
    assert Case(FleetView((known.view,)), Demand("cpu", 9, 0), limits(nodes=4), 9.0).capacity(known.view) == 12
