"""What the rows of the judge's table ask of the evidence; pure.

Rule 1: types, signals and reasons are asked for, never the text of a message.
"""

from __future__ import annotations

from collections.abc import Callable

from scalable_hpc.faults.history import TaskHistory, more_memory, ran_out_of_memory
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.tasks import Ending, Evidence, ExceptionFacts, RetryPolicy, Verdict

Claim = Callable[[Evidence, TaskHistory, RetryPolicy], bool]

INFRASTRUCTURE_REASONS = frozenset(
    reason.value
    for reason in (
        ExitReason.TIMEOUT,
        ExitReason.NODE_FAIL,
        ExitReason.BOOT_FAIL,
        ExitReason.PREEMPTED,
        ExitReason.REQUEUED,
        ExitReason.CANCELLED,
        ExitReason.DEADLINE,
        ExitReason.LAUNCH_FAILED,
    )
)
ASKED_TO_END = frozenset({1, 2, 15, 18})
"""SIGHUP, SIGINT, SIGTERM, SIGCONT: what batch systems and shutting-down nodes send to every process, never a crash."""
ENDING_SOON_S = 5.0
"""With less than this left of its allocation a slot's death is taken for the allocation's end, which kills slots
before it kills the worker that reports them."""


def ends_as(*endings: Ending) -> Claim:
    """Tell whether the attempt ended in one of these ways."""
    return lambda evidence, *_: evidence.ending in endings


def raises(claim: Callable[[ExceptionFacts], bool]) -> Claim:
    """Tell whether it raised an exception of which that is true."""
    return lambda evidence, *_: (
        evidence.ending is Ending.EXCEPTION and evidence.exception is not None and claim(evidence.exception)
    )


def allocation_reason(evidence: Evidence) -> str | None:
    """Only an ending that the allocation's own end can explain asks for its reason."""
    return evidence.allocation_reason if evidence.ending in (Ending.WORKER_LOST, Ending.SLOT_DIED) else None


def users_rule(worth_retrying: bool) -> Claim:  # noqa: FBT001 - what the rule said
    """Tell whether the user's own function gave that answer."""
    return raises(lambda facts: facts.worth_retrying is worth_retrying)


def users_list(verdict: Verdict) -> Claim:
    """Tell whether the policy's lists give that verdict on a raised exception."""

    def is_listed(evidence: Evidence, _: TaskHistory, policy: RetryPolicy) -> bool:
        if evidence.ending is not Ending.EXCEPTION or evidence.exception is None:
            return False
        word = policy.word_on(evidence.exception.bases)
        return word is not None and word[0] is verdict

    return is_listed


def slot_was_ended(evidence: Evidence, *_: object) -> bool:
    """Whether the slot was ended by a batch system, not by what it ran."""
    ending_soon = evidence.time_left_s is not None and evidence.time_left_s < ENDING_SOON_S
    return evidence.ending is Ending.SLOT_DIED and (ending_soon or evidence.signal in ASKED_TO_END)


def worker_died(evidence: Evidence) -> bool:
    """Whether a whole worker died under an executing attempt, and neither its walltime nor the batch system did it."""
    ending_soon = evidence.time_left_s is not None and evidence.time_left_s < ENDING_SOON_S
    is_told = evidence.allocation_reason == ExitReason.FAILED.value or bool(evidence.worker_end)
    return evidence.ending is Ending.WORKER_LOST and evidence.together is not None and is_told and not ending_soon


def out_of_memory(*, is_there_more: bool) -> Claim:
    """Tell whether the attempt ran out of memory, and whether any worker has more than it had."""

    def claim(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> bool:
        return (
            ran_out_of_memory(evidence, history, policy)
            and not slot_was_ended(evidence)
            and (more_memory(evidence, history) is not None) is is_there_more
        )

    return claim


def batch_silent(evidence: Evidence, *_: object) -> bool:
    """Whether the worker is gone and nobody has said why."""
    return evidence.ending is Ending.WORKER_LOST and evidence.allocation_reason in (None, ExitReason.UNKNOWN.value)
