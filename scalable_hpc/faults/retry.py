"""What follows from a verdict: again at once, again after a wait, or never.

The wait before the next try (n charged failures so far, this one counted) is uniform in
``[0, min(cap_s, base_s * factor ** (n - 1))]`` with full jitter, and that bound itself without.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from scalable_hpc.faults.history import TaskHistory
from scalable_hpc.faults.judge import Judgement
from scalable_hpc.model.tasks import RetryPolicy, Verdict

UNCHARGED_AT_ONCE = 3
"""Uncharged endings that are tried again at once. After that they wait: a worker that refuses whatever it is given
would else use up the whole ``infrastructure_limit`` within a second."""
UNCHARGED_BASE_S = 1.0
UNCHARGED_CAP_S = 60.0


class Action(Enum):
    """What is done about a task whose attempt ended without a receipt; the values are the journal's words."""

    AGAIN = "again"
    WAIT = "wait"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows, and why."""

    action: Action
    because: str
    retry_at: float | None = None
    """Seconds since the epoch; set when and only when the action is WAIT."""


def decide(judgement: Judgement, history: TaskHistory, policy: RetryPolicy, now: float, rng: random.Random) -> Decision:
    """Decide what follows; ``history`` is what went before this ending.

    EXPECTED endings are tried again at once and without bound: each of them was our own wish.
    """
    if judgement.verdict is Verdict.EXPECTED:
        return Decision(Action.AGAIN, "again at once, at no cost to the task")
    if (never := _never(judgement, policy)) is not None:
        return Decision(Action.GIVE_UP, never)
    if (limit := policy.limit_of(judgement.verdict)) is not None:
        return _limited(judgement, limit, history, policy, now, rng)
    if not judgement.charged:
        return _uncharged(history, policy, now, rng)
    return _charged(history, policy, now, rng)


def _never(judgement: Judgement, policy: RetryPolicy) -> str | None:
    """Return why there is no other try, whatever was before; None: there may be one."""
    if judgement.verdict is Verdict.KILLER and judgement.charged:
        return "quarantined: it would go on killing slots"
    if judgement.is_final:
        return "another try would end the same way"
    if judgement.verdict is Verdict.PERMANENT and policy.limit_of(Verdict.PERMANENT) is None:
        return "trying again cannot help"
    return None


def _limited(
    judgement: Judgement, limit: int, history: TaskHistory, policy: RetryPolicy, now: float, rng: random.Random
) -> Decision:
    """Decide for a verdict that has a limit of its own; ``retries`` has no say, and none of them is used up."""
    name, endings = judgement.verdict.name, history.endings_of(judgement.verdict) + 1
    if endings > limit:
        return Decision(Action.GIVE_UP, f"{endings} endings judged {name}, the limit is {limit}")
    told = f"{name} {endings} of {limit}"
    if not judgement.charged and endings <= UNCHARGED_AT_ONCE:
        return Decision(Action.AGAIN, f"again at once, {told}")
    return _after_a_wait(endings, told, history, policy, now, rng)


def _after_a_wait(
    failures: int, told: str, history: TaskHistory, policy: RetryPolicy, now: float, rng: random.Random
) -> Decision:
    wait_s = _jittered(backoff_bound_s(policy, failures), rng, jitter=policy.jitter)
    since = now if history.first_placed_at is None else history.first_placed_at
    if policy.max_elapsed_s is not None and now + wait_s - since > policy.max_elapsed_s:
        return Decision(Action.GIVE_UP, f"another try would end later than max_elapsed {policy.max_elapsed_s:g} s")
    return Decision(Action.WAIT, f"{told} in {wait_s:.1f} s", now + wait_s)


def _charged(history: TaskHistory, policy: RetryPolicy, now: float, rng: random.Random) -> Decision:
    failures = history.charged + 1
    if failures > policy.retries:
        return Decision(Action.GIVE_UP, f"{failures} failures, {policy.retries} retries allowed")
    return _after_a_wait(failures, f"retry {failures} of {policy.retries}", history, policy, now, rng)


def _uncharged(history: TaskHistory, policy: RetryPolicy, now: float, rng: random.Random) -> Decision:
    endings = history.uncharged + 1
    if endings >= policy.infrastructure_limit:
        limit = policy.infrastructure_limit
        return Decision(Action.GIVE_UP, f"{endings} endings that were not its fault, the bound is {limit}")
    if endings <= UNCHARGED_AT_ONCE:
        return Decision(Action.AGAIN, "again at once, at no cost to the task")
    bound_s = _power(UNCHARGED_BASE_S, 2.0, endings - UNCHARGED_AT_ONCE - 1, UNCHARGED_CAP_S)
    wait_s = _jittered(bound_s, rng, jitter=True)
    return Decision(Action.WAIT, f"again in {wait_s:.1f} s, at no cost to the task ({endings} so far)", now + wait_s)


def backoff_bound_s(policy: RetryPolicy, failures: int) -> float:
    """Return the longest wait after that many charged failures (seconds, from 1 on)."""
    return _power(policy.base_s, policy.factor, failures - 1, policy.cap_s)


def _power(base_s: float, factor: float, exponent: int, cap_s: float) -> float:
    try:
        return min(cap_s, base_s * factor**exponent)
    except OverflowError:  # a float power too large for a float is larger than any cap
        return cap_s


def _jittered(bound_s: float, rng: random.Random, *, jitter: bool) -> float:
    return rng.uniform(0.0, bound_s) if jitter else bound_s
