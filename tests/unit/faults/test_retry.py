"""What follows from a verdict."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.faults.judge import Judgement, TaskHistory
from scalable_hpc.faults.retry import UNCHARGED_AT_ONCE, Action, backoff_bound_s, decide
from scalable_hpc.model.tasks import RetryPolicy, Verdict
from tests.unit.faults.support import NOW

TRANSIENT = Judgement(Verdict.TRANSIENT, charged=True, because="x")
PERMANENT = Judgement(Verdict.PERMANENT, charged=True, because="x")
LOST = Judgement(Verdict.INFRASTRUCTURE, charged=False, because="x")
UNKNOWN = Judgement(Verdict.UNKNOWN, charged=False, because="x")
OURS = Judgement(Verdict.EXPECTED, charged=False, because="x")
SUSPECT = Judgement(Verdict.KILLER, charged=False, because="x")
CONVICTED = Judgement(Verdict.KILLER, charged=True, because="x")


def after(judgement: Judgement, policy: RetryPolicy, now: float = NOW, **history: object):
    return decide(judgement, TaskHistory(**history), policy, now, random.Random(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_that_a_failure_is_retried_as_often_as_its_retries_say(retries):
    """``retries=n`` gives n attempts after the first failure, and the n+1st failure ends it."""
    policy = RetryPolicy(retries=retries)

    decisions = [after(TRANSIENT, policy, charged=failures).action for failures in range(retries + 1)]

    assert [Action.WAIT] * retries + [Action.GIVE_UP] == decisions


def test_that_a_permanent_failure_ends_at_once():
    """No retries are spent on what would only be raised again."""
    assert Action.GIVE_UP is after(PERMANENT, RetryPolicy(retries=9)).action


def test_that_a_suspect_gets_another_chance_and_a_convict_none():
    """The first death is tried again even without retries, the second never."""
    assert Action.AGAIN is after(SUSPECT, RetryPolicy(retries=0)).action
    assert Action.GIVE_UP is after(CONVICTED, RetryPolicy(retries=9)).action


@pytest.mark.parametrize("judgement", [LOST, UNKNOWN])
def test_that_uncharged_endings_are_tried_again_without_retries(judgement):
    """A task without retries survives lost nodes; the first few times at once."""
    for uncharged in range(UNCHARGED_AT_ONCE):
        assert Action.AGAIN is after(judgement, RetryPolicy(retries=0), uncharged=uncharged).action


def test_that_endless_infrastructure_faults_end_at_the_limit():
    """The bound stops a livelock, and says so."""
    policy = RetryPolicy(infrastructure_limit=5)

    assert Action.GIVE_UP is not after(LOST, policy, uncharged=3).action
    given_up = after(LOST, policy, uncharged=4)

    assert Action.GIVE_UP is given_up.action
    assert "5" in given_up.because


def test_that_our_own_wishes_are_never_counted():
    """A task that we drained a thousand times is tried again at once."""
    assert Action.AGAIN is after(OURS, RetryPolicy(), uncharged=10_000, charged=0).action


def test_that_repeated_uncharged_endings_come_to_wait():
    """A worker that refuses everything must not use up the limit within a second."""
    decision = after(LOST, RetryPolicy(infrastructure_limit=50), uncharged=10)

    assert Action.WAIT is decision.action
    assert decision.retry_at is not None
    assert NOW <= decision.retry_at <= NOW + 60


def test_that_max_elapsed_ends_retries():
    """No retry begins later than max_elapsed after the first attempt was placed."""
    policy = RetryPolicy(retries=9, base_s=10, jitter=False, max_elapsed_s=100)

    assert Action.WAIT is after(TRANSIENT, policy, now=NOW + 80, first_placed_at=NOW).action
    assert Action.GIVE_UP is after(TRANSIENT, policy, now=NOW + 95, first_placed_at=NOW).action


def test_that_the_wait_doubles_up_to_its_cap():
    """Without jitter the waits are base, base x factor, ... and never more than the cap."""
    policy = RetryPolicy(retries=99, base_s=1, factor=2, cap_s=10, jitter=False)

    waits = [after(TRANSIENT, policy, charged=failures).retry_at - NOW for failures in range(6)]

    assert waits == [1, 2, 4, 8, 10, 10]


@given(
    failures=st.integers(1, 100_000),
    base=st.floats(0, 1e3),
    factor=st.floats(1, 1e3),
    cap=st.floats(0, 1e4),
    seed=st.integers(),
)
def test_that_jitter_is_full_and_within_the_bound(failures, base, factor, cap, seed):
    """The wait lies in [0, min(cap, base * factor ** (n - 1))], whatever the numbers."""
    policy = RetryPolicy(retries=failures, base_s=base, factor=factor, cap_s=cap)

    decision = decide(TRANSIENT, TaskHistory(charged=failures - 1), policy, 0.0, random.Random(seed))

    assert decision.retry_at is not None
    assert 0 <= decision.retry_at <= backoff_bound_s(policy, failures) <= cap


def test_that_jitter_spreads_over_the_whole_range():
    """A thousand tasks that fail together do not come back together."""
    policy = RetryPolicy(retries=1, base_s=100, cap_s=100)
    rng = random.Random(3)

    waits = sorted(decide(TRANSIENT, TaskHistory(), policy, 0.0, rng).retry_at for _ in range(1000))

    assert waits[50] < 15
    assert waits[950] > 85


@pytest.mark.parametrize("judgement", [TRANSIENT, PERMANENT, LOST, UNKNOWN])
@pytest.mark.parametrize("limit", [0, 2])
def test_that_a_verdict_with_a_limit_is_tried_again_that_often(judgement, limit):
    """Whatever ``retries`` and the bound against livelocks say of the others."""
    policy = RetryPolicy(retries=9, infrastructure_limit=1, limits={judgement.verdict: limit})
    name = judgement.verdict.value

    decisions = [after(judgement, policy, limited=((name, endings),)) for endings in range(limit + 1)]

    assert Action.GIVE_UP not in [decision.action for decision in decisions[:-1]]
    assert decisions[-1].action is Action.GIVE_UP
    assert f"the limit is {limit}" in decisions[-1].because


def test_that_a_limit_leaves_the_other_verdicts_alone():
    """A limit for one is none for another."""
    policy = RetryPolicy(retries=1, limits={"RESOURCE": 0})

    assert Action.WAIT is after(TRANSIENT, policy).action
    assert Action.GIVE_UP is after(TRANSIENT, policy, charged=1).action
    assert Action.AGAIN is after(LOST, policy).action
