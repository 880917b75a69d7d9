"""One ordered table from evidence to verdict: the first row that applies has the word.

Rule 1: a row says in its ``because`` what it saw; it is printed unchanged in logs, journal and report.
Rule 2: nothing above the row "ran into its timeout" is charged: walltime, nodes, batch systems and neighbours are not
the task's fault. The exceptions are the two rows of a suspect that ran alone on its allocation: nobody else was there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scalable_hpc.faults import raised
from scalable_hpc.faults.evidence import describe
from scalable_hpc.faults.history import TaskHistory, goes_nowhere, more_memory, ran_out_of_memory, was_alone
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.tasks import Ending, Evidence, ExceptionFacts, RetryPolicy, Verdict

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


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence means, and whether it costs the task one of its ``retries``."""

    verdict: Verdict
    charged: bool
    because: str
    is_final: bool = False
    """Another try cannot end differently, whatever the policy says."""


Claim = Callable[[Evidence, TaskHistory, RetryPolicy], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    applies: Claim
    verdict: Verdict
    charged: bool
    because: str
    """Follows the description of the ending."""
    is_final: bool = False
    """Another try cannot end differently, whatever the policy says."""


def _is(*endings: Ending) -> Claim:
    return lambda evidence, *_: evidence.ending in endings


def _raised(claim: Callable[[ExceptionFacts], bool]) -> Claim:
    return lambda evidence, *_: (
        evidence.ending is Ending.EXCEPTION and evidence.exception is not None and claim(evidence.exception)
    )


def _allocation_reason(evidence: Evidence) -> str | None:
    """Only an ending that the allocation's own end can explain asks for its reason."""
    return evidence.allocation_reason if evidence.ending in (Ending.WORKER_LOST, Ending.SLOT_DIED) else None


def _users_rule(worth_retrying: bool) -> Claim:  # noqa: FBT001 - what the rule said
    """Tell whether the user's own function gave that answer."""
    return _raised(lambda facts: facts.worth_retrying is worth_retrying)


def _users_list(verdict: Verdict) -> Claim:
    """Tell whether the policy's lists give that verdict on a raised exception."""

    def is_listed(evidence: Evidence, _: TaskHistory, policy: RetryPolicy) -> bool:
        if evidence.ending is not Ending.EXCEPTION or evidence.exception is None:
            return False
        word = policy.word_on(evidence.exception.bases)
        return word is not None and word[0] is verdict

    return is_listed


def _slot_was_ended(evidence: Evidence, *_: object) -> bool:
    ending_soon = evidence.time_left_s is not None and evidence.time_left_s < ENDING_SOON_S
    return evidence.ending is Ending.SLOT_DIED and (ending_soon or evidence.signal in ASKED_TO_END)


def _worker_died(evidence: Evidence) -> bool:
    """Whether a whole worker died under an executing attempt, and neither its walltime nor the batch system did it."""
    ending_soon = evidence.time_left_s is not None and evidence.time_left_s < ENDING_SOON_S
    is_told = evidence.allocation_reason == ExitReason.FAILED.value or bool(evidence.worker_end)
    return evidence.ending is Ending.WORKER_LOST and evidence.together is not None and is_told and not ending_soon


def _out_of_memory(*, is_there_more: bool) -> Claim:
    """Tell whether the attempt ran out of memory, and whether any worker has more than it had."""

    def claim(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> bool:
        return (
            ran_out_of_memory(evidence, history, policy)
            and not _slot_was_ended(evidence)
            and (more_memory(evidence, history) is not None) is is_there_more
        )

    return claim


def _batch_silent(evidence: Evidence, *_: object) -> bool:
    return evidence.ending is Ending.WORKER_LOST and evidence.allocation_reason in (None, ExitReason.UNKNOWN.value)


ROWS: tuple[Row, ...] = (
    Row(
        "asked for by us",
        lambda evidence, *_: evidence.expected or evidence.ending is Ending.CANCELLED,
        Verdict.EXPECTED,
        charged=False,
        because="we asked for it",
    ),
    Row(
        "handed back too often",
        goes_nowhere,
        Verdict.PERMANENT,
        charged=True,
        because="it handed itself back once more than it may, or again and again without getting on",
        is_final=True,
    ),
    Row(
        "handed back by the task",
        _raised(raised.is_rescheduled),
        Verdict.EXPECTED,
        charged=False,
        because="the task handed itself back",
    ),
    Row(
        "never started",
        _is(Ending.NEVER_STARTED),
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="it cannot be to blame",
    ),
    Row(
        "refused",
        _is(Ending.REFUSED),
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="the worker could not take it",
    ),
    Row(
        "out of memory, there is more",
        _out_of_memory(is_there_more=True),
        Verdict.RESOURCE,
        charged=False,
        because="it needed more memory than it had",
    ),
    Row(
        "out of memory, there is no more",
        _out_of_memory(is_there_more=False),
        Verdict.RESOURCE,
        charged=True,
        because="it had all the memory that a worker has, and needed more",
        is_final=True,
    ),
    Row(
        "out of memory, alone",
        lambda evidence, history, _: (
            _allocation_reason(evidence) == ExitReason.OUT_OF_MEMORY.value and was_alone(evidence, history)
        ),
        Verdict.RESOURCE,
        charged=True,
        because="it ran alone, and the whole allocation ran out of memory",
    ),
    Row(
        "allocation out of memory",
        lambda evidence, *_: _allocation_reason(evidence) == ExitReason.OUT_OF_MEMORY.value,
        Verdict.RESOURCE,
        charged=False,
        because="the whole allocation ran out of memory, which of its tasks did it is not known",
    ),
    Row(
        "allocation ended",
        lambda evidence, *_: _allocation_reason(evidence) in INFRASTRUCTURE_REASONS,
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="the allocation ended under it",
    ),
    Row(
        "slot ended from outside",
        _slot_was_ended,
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="its processes were being ended from outside",
    ),
    Row(
        "worker died, alone",
        lambda evidence, history, _: _worker_died(evidence) and was_alone(evidence, history),
        Verdict.KILLER,
        charged=True,
        because="it ran alone, and the second worker that it ran on died: convicted",
    ),
    Row(
        "worker died",
        lambda evidence, *_: _worker_died(evidence),
        Verdict.KILLER,
        charged=False,
        because="suspected: running alone will tell",
    ),
    Row(
        "batch system silent",
        _batch_silent,
        Verdict.UNKNOWN,
        charged=False,
        because="why is not known",
    ),
    Row(
        "worker lost",
        _is(Ending.WORKER_LOST),
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="the worker went away under it",
    ),
    Row(
        "slot died before it began",
        lambda evidence, *_: evidence.ending is Ending.SLOT_DIED and evidence.ran_s is None,
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="the task had not begun",
    ),
    Row(
        "ran into its timeout",
        _is(Ending.TIMEOUT),
        Verdict.RESOURCE,
        charged=True,
        because="it needed more time than its timeout",
    ),
    Row(
        "second death",
        lambda evidence, history, _: evidence.ending is Ending.SLOT_DIED and history.deaths > 0,
        Verdict.KILLER,
        charged=True,
        because="the second slot that died running it: convicted",
    ),
    Row(
        "first death",
        _is(Ending.SLOT_DIED),
        Verdict.KILLER,
        charged=False,
        because="suspected: once more elsewhere will tell",
    ),
    Row(
        "your rule: worth retrying",
        _users_rule(True),
        Verdict.TRANSIENT,
        charged=True,
        because="worth_retrying says that another try may help",
    ),
    Row(
        "your rule: not worth retrying",
        _users_rule(False),
        Verdict.PERMANENT,
        charged=True,
        because="worth_retrying says that another try cannot help",
    ),
    Row(
        "listed as transient",
        _users_list(Verdict.TRANSIENT),
        Verdict.TRANSIENT,
        charged=True,
        because="its retry policy lists it as transient",
    ),
    Row(
        "listed as permanent",
        _users_list(Verdict.PERMANENT),
        Verdict.PERMANENT,
        charged=True,
        because="its retry policy lists it as permanent",
    ),
    Row(
        "MemoryError",
        _raised(raised.is_out_of_memory),
        Verdict.RESOURCE,
        charged=True,
        because="it needed more memory than there was",
    ),
    Row(
        "transient exception",
        _raised(raised.is_transient),
        Verdict.TRANSIENT,
        charged=True,
        because="the network, a file system or a service was at fault",
    ),
    Row(
        "permanent exception",
        _raised(raised.is_permanent),
        Verdict.PERMANENT,
        charged=True,
        because="the same call would raise it again",
    ),
    Row(
        "other exception",
        _is(Ending.EXCEPTION),
        Verdict.TRANSIENT,
        charged=True,
        because="worth as many tries as its retries say",
    ),
)


def judge(evidence: Evidence, history: TaskHistory, policy: RetryPolicy) -> Judgement:
    """Return the verdict of the first row of ``ROWS`` that applies; the last rows leave no ending without one."""
    row = next(row for row in ROWS if row.applies(evidence, history, policy))
    cost = _cost(row.verdict, history, policy) if row.charged else ""
    because = f"{describe(evidence)}: {row.because}{_unasked(evidence)}{cost}"
    return Judgement(row.verdict, row.charged, because, row.is_final)


def _cost(verdict: Verdict, history: TaskHistory, policy: RetryPolicy) -> str:
    """Say which of its tries this one was; a verdict with a limit of its own is counted by ``decide``."""
    if policy.limit_of(verdict) is not None:
        return ""
    return f" (failure {history.charged + 1}, {policy.retries} retries allowed)"


def _unasked(evidence: Evidence) -> str:
    """Say that the user's own rule could not be asked, so that the table's word stands for it."""
    failed = evidence.exception.rule_failed if evidence.exception is not None else ""
    return f" (worth_retrying {failed}, so the lists and the table decide)" if failed else ""
