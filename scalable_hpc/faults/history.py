"""What went before the ending that is being judged, and what its attempt had been given."""

from __future__ import annotations

from dataclasses import dataclass

from scalable_hpc.faults import raised
from scalable_hpc.faults.escalate import is_near, next_memory
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.retry import RetryPolicy, Verdict
from scalable_hpc.model.tasks import Ending, Evidence

_KILLED = 9


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """What went before the ending that is being judged; that ending itself is not counted."""

    charged: int = 0
    """Charged endings, without those of a verdict that has a limit of its own."""
    uncharged: int = 0
    """Endings that were neither charged nor EXPECTED."""
    deaths: int = 0
    """Times that a slot died while it ran this task and nothing else was to blame."""
    first_placed_at: float | None = None
    suspicions: int = 0
    """Times that a whole worker died under it for no reason of the infrastructure's, since it was last acquitted."""
    limited: tuple[tuple[str, int], ...] = ()
    """Verdict to how many endings of it there were, for verdicts that have a limit of their own."""
    memory: int | None = None
    """Bytes that the attempt was given; None: nobody knows."""
    sizes: tuple[int, ...] = ()
    """Memory of the workers that could run it, smallest first; empty: nobody knows."""

    checkpoint: str = ""
    """Mark of what lay in its checkpoint directory when it last handed itself back; empty: nothing, or it never did."""
    idle_legs: int = 0
    """Times in a row that it handed itself back and nothing had changed there."""

    def endings_of(self, verdict: Verdict) -> int:
        """How many endings of a verdict with a limit of its own there were."""
        return dict(self.limited).get(verdict.value, 0)


def wants_more_memory(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> bool:
    """Whether the next attempt is to be given more: this one ran out, or raised MemoryError for a reason of its own."""
    facts = evidence.exception
    is_known = history.memory is not None and bool(history.sizes)
    has_raised = is_known and facts is not None and raised.is_out_of_memory(facts)
    return has_raised or ran_out_of_memory(evidence, history, policy)


def ran_out_of_memory(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> bool:
    """Whether the attempt ended for want of memory, and it is known how much it had and how much there is."""
    if history.memory is None or not history.sizes:
        return False
    facts = evidence.exception
    match evidence.ending:
        case Ending.EXCEPTION:
            is_users_word = facts is None or facts.worth_retrying is not None or policy.word_on(facts.bases) is not None
            if facts is None or is_users_word or not raised.is_out_of_memory(facts):
                return False
            return is_near(evidence.peak_memory, history.memory) or _is_last_resort(evidence, history, policy)
        case Ending.SLOT_DIED:
            is_killed = evidence.signal == _KILLED and evidence.ran_s is not None
            return is_killed and is_near(evidence.peak_memory, history.memory)
        case Ending.WORKER_LOST:
            return evidence.allocation_reason == ExitReason.OUT_OF_MEMORY.value and was_alone(evidence, history)
        case _:
            return False


def _is_last_resort(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> bool:
    """Whether a MemoryError of somebody who held little has used up its retries, and more memory is left to try."""
    return history.charged >= policy.retries and more_memory(evidence, history) is not None


def goes_nowhere(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> bool:
    """Whether a task hands itself back once more than it may: in all, or without having got on."""
    facts = evidence.exception
    if evidence.ending is not Ending.EXCEPTION or facts is None or not raised.is_rescheduled(facts):
        return False
    is_idle = (facts.checkpoint or "") == history.checkpoint
    most = policy.limit_of(Verdict.EXPECTED)
    return (is_idle and history.idle_legs + 1 >= policy.infrastructure_limit) or (
        most is not None and history.endings_of(Verdict.EXPECTED) >= most
    )


def was_alone(evidence: Evidence, history: TaskHistory) -> bool:
    """Whether a suspect had its worker for itself, so that nobody else can have brought the worker down."""
    return evidence.together == 1 and history.deaths + history.suspicions > 0


def more_memory(evidence: Evidence, history: TaskHistory) -> int | None:
    """Return what to give the next attempt of a task that ran out of memory (bytes); None: nobody has more."""
    return next_memory(history.memory or 0, evidence.peak_memory, history.sizes)
