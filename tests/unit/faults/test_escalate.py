"""More memory, more time: never less than before, never more than there is, and an end to it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.faults.escalate import ALL_OF_IT, MOST_FACTOR, is_near, next_memory, next_timeout_s
from scalable_hpc.faults.evidence import facts_of
from scalable_hpc.faults.history import TaskHistory, ran_out_of_memory
from scalable_hpc.faults.judge import judge
from scalable_hpc.faults.retry import Action, decide
from scalable_hpc.model.retry import RetryPolicy, Verdict
from scalable_hpc.model.tasks import Ending
from tests.unit.faults.support import NOW, ended, raised

GIB = 1 << 30
SIZES = st.lists(st.integers(1, 1 << 40), min_size=1, max_size=4).map(lambda found: tuple(sorted(set(found))))
MEMORY = st.integers(1, 1 << 40)


@given(MEMORY, st.none() | MEMORY, SIZES)
def test_that_more_is_more_and_no_more_than_there_is(had, held, sizes):
    """Above what it had and held, within twice that, within the largest worker."""
    more = next_memory(had, held, sizes)

    base = max(had, held or 0)
    if more is None:
        assert base >= ALL_OF_IT * sizes[-1]
    else:
        assert base < more <= sizes[-1] or (more == base == 1)
        assert more <= MOST_FACTOR * base


@given(st.integers(2, 1 << 40), SIZES)
def test_that_asking_for_more_comes_to_an_end(had, sizes):
    """After as many steps as it takes to get there by halves."""
    steps = 0
    while (more := next_memory(had, None, sizes)) is not None:
        had, steps = more, steps + 1
        assert steps <= 80

    assert had >= ALL_OF_IT * sizes[-1]


def test_that_a_whole_worker_is_taken_where_one_fits():
    """A little less than twice as much saves a larger worker."""
    assert next_memory(GIB, None, (GIB, 7 * GIB // 4, 64 * GIB)) == 7 * GIB // 4
    assert next_memory(GIB, None, (GIB, 64 * GIB)) == 2 * GIB
    assert next_memory(GIB, 3 * GIB, (GIB, 64 * GIB)) == 6 * GIB


@pytest.mark.parametrize(
    ("held", "memory", "near"),
    [
        (58 * GIB, 64 * GIB, True),
        (57 * GIB, 64 * GIB, False),
        (430 << 20, 600 << 20, True),
        (290 << 20, 600 << 20, False),
        (60 << 20, 100 << 20, True),
        (None, GIB, False),
    ],
)
def test_that_what_our_own_processes_hold_is_left_out_of_account(held, memory, near):
    """In a small job they take a good part of its memory, in a large one hardly any."""
    assert is_near(held, memory) is near


def test_that_a_timeout_grows():
    """By the factor that limits speak of."""
    assert next_timeout_s(1.5) == 3.0


HAD = TaskHistory(memory=GIB, sizes=(GIB, 8 * GIB))
ALL = replace(HAD, memory=8 * GIB)
UNKNOWN = TaskHistory()
KILLED = ended(Ending.SLOT_DIED, signal=9, ran_s=5.0, peak_memory=GIB)
POLICY = RetryPolicy(retries=2)


@pytest.mark.parametrize(
    ("evidence", "history", "policy", "ran_out"),
    [
        (replace(raised(MemoryError()), peak_memory=GIB), HAD, POLICY, True),
        (replace(raised(OSError(12, "no memory")), peak_memory=GIB), HAD, POLICY, True),
        (raised(MemoryError()), HAD, POLICY, False),
        (raised(MemoryError()), replace(HAD, charged=2), POLICY, True),
        (raised(MemoryError()), replace(ALL, charged=2), POLICY, False),
        (raised(MemoryError()), UNKNOWN, POLICY, False),
        (raised(MemoryError()), HAD, RetryPolicy(permanent=MemoryError), False),
        (raised(ValueError()), HAD, POLICY, False),
        (KILLED, HAD, POLICY, True),
        (replace(KILLED, peak_memory=GIB // 2), HAD, POLICY, False),
        (replace(KILLED, peak_memory=None), HAD, POLICY, False),
        (replace(KILLED, signal=11), HAD, POLICY, False),
        (ended(Ending.TIMEOUT, ran_s=5.0, peak_memory=GIB), HAD, POLICY, False),
        (ended(Ending.WORKER_LOST, allocation_reason="out_of_memory", together=3), HAD, POLICY, False),
        (
            ended(Ending.WORKER_LOST, allocation_reason="out_of_memory", together=1),
            replace(HAD, suspicions=1),
            POLICY,
            True,
        ),
    ],
)
def test_that_running_out_of_memory_is_told_by_class_signal_and_figures(evidence, history, policy, ran_out):
    """And only where it is known how much there was, and the user has not said otherwise."""
    assert ran_out_of_memory(evidence, history, policy) is ran_out


@pytest.mark.parametrize("evidence", [raised(MemoryError()), KILLED])
def test_that_more_memory_costs_no_retry_and_the_last_of_it_ends_the_task(evidence):
    """While there is more: again, uncharged, even without retries. When there is none: over, whatever retries say."""
    grows = judge(evidence, HAD, RetryPolicy())
    over = judge(replace(evidence, peak_memory=8 * GIB), ALL, POLICY)

    assert (grows.verdict, grows.charged, grows.is_final) == (Verdict.RESOURCE, False, False)
    assert decide(grows, HAD, RetryPolicy(), NOW, None).action is Action.AGAIN
    assert (over.verdict, over.charged, over.is_final) == (Verdict.RESOURCE, True, True)
    assert decide(over, ALL, POLICY, NOW, None).action is Action.GIVE_UP


def test_that_a_slot_that_is_killed_near_the_end_of_its_allocation_was_killed_for_that():
    """Its memory proves nothing then."""
    assert judge(replace(KILLED, time_left_s=1.0), HAD, POLICY).verdict is Verdict.INFRASTRUCTURE


def test_that_without_figures_a_memory_error_is_tried_again_as_it_is():
    """Nobody knows how much there was: it takes the task's retries."""
    judgement = judge(raised(MemoryError()), UNKNOWN, POLICY)

    assert (judgement.verdict, judgement.charged) == (Verdict.RESOURCE, True)
    assert decide(judgement, UNKNOWN, POLICY, NOW, random.Random(1)).action is Action.WAIT


def test_that_a_limit_bounds_the_growth():
    """``limits: {RESOURCE: n}`` is the user's word on how often."""
    policy = RetryPolicy(limits={"RESOURCE": 1})
    again = replace(HAD, limited=(("resource", 1),))

    assert decide(judge(raised(MemoryError()), HAD, policy), HAD, policy, NOW, None).action is Action.AGAIN
    assert decide(judge(raised(MemoryError()), again, policy), again, policy, NOW, None).action is Action.GIVE_UP


def test_that_the_users_rule_comes_first():
    """A MemoryError that the user's function calls hopeless is not given more."""
    facts = replace(facts_of(MemoryError()), worth_retrying=False)

    assert judge(ended(Ending.EXCEPTION, exception=facts, ran_s=1.0), HAD, POLICY).verdict is Verdict.PERMANENT
