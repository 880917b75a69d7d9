"""One ordered table from evidence to verdict: the first row that applies has the word.

Rule 1: a row says in its ``because`` what it saw; it is printed unchanged in logs, journal and report.
Rule 2: nothing above the row "ran into its timeout" is charged: walltime, nodes, batch systems and neighbours are not
the task's fault. The exceptions are the two rows of a suspect that ran alone on its allocation: nobody else was there.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalable_hpc.faults import raised
from scalable_hpc.faults.claims import (
    INFRASTRUCTURE_REASONS,
    Claim,
    allocation_reason,
    batch_silent,
    ends_as,
    out_of_memory,
    raises,
    slot_was_ended,
    users_list,
    users_rule,
    worker_died,
)
from scalable_hpc.faults.evidence import describe
from scalable_hpc.faults.history import TaskHistory, goes_nowhere, was_alone
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.tasks import Ending, Evidence, RetryPolicy, Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence means, and whether it costs the task one of its ``retries``."""

    verdict: Verdict
    charged: bool
    because: str
    is_final: bool = False
    """Another try cannot end differently, whatever the policy says."""


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
        raises(raised.is_rescheduled),
        Verdict.EXPECTED,
        charged=False,
        because="the task handed itself back",
    ),
    Row(
        "never started",
        ends_as(Ending.NEVER_STARTED),
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="it cannot be to blame",
    ),
    Row(
        "refused",
        ends_as(Ending.REFUSED),
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="the worker could not take it",
    ),
    Row(
        "out of memory, there is more",
        out_of_memory(is_there_more=True),
        Verdict.RESOURCE,
        charged=False,
        because="it needed more memory than it had",
    ),
    Row(
        "out of memory, there is no more",
        out_of_memory(is_there_more=False),
        Verdict.RESOURCE,
        charged=True,
        because="it had all the memory that a worker has, and needed more",
        is_final=True,
    ),
    Row(
        "out of memory, alone",
        lambda evidence, history, _: (
            allocation_reason(evidence) == ExitReason.OUT_OF_MEMORY.value and was_alone(evidence, history)
        ),
        Verdict.RESOURCE,
        charged=True,
        because="it ran alone, and the whole allocation ran out of memory",
    ),
    Row(
        "allocation out of memory",
        lambda evidence, *_: allocation_reason(evidence) == ExitReason.OUT_OF_MEMORY.value,
        Verdict.RESOURCE,
        charged=False,
        because="the whole allocation ran out of memory, which of its tasks did it is not known",
    ),
    Row(
        "allocation ended",
        lambda evidence, *_: allocation_reason(evidence) in INFRASTRUCTURE_REASONS,
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="the allocation ended under it",
    ),
    Row(
        "slot ended from outside",
        slot_was_ended,
        Verdict.INFRASTRUCTURE,
        charged=False,
        because="its processes were being ended from outside",
    ),
    Row(
        "worker died, alone",
        lambda evidence, history, _: worker_died(evidence) and was_alone(evidence, history),
        Verdict.KILLER,
        charged=True,
        because="it ran alone, and the second worker that it ran on died: convicted",
    ),
    Row(
        "worker died",
        lambda evidence, *_: worker_died(evidence),
        Verdict.KILLER,
        charged=False,
        because="suspected: running alone will tell",
    ),
    Row(
        "batch system silent",
        batch_silent,
        Verdict.UNKNOWN,
        charged=False,
        because="why is not known",
    ),
    Row(
        "worker lost",
        ends_as(Ending.WORKER_LOST),
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
        ends_as(Ending.TIMEOUT),
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
        ends_as(Ending.SLOT_DIED),
        Verdict.KILLER,
        charged=False,
        because="suspected: once more elsewhere will tell",
    ),
    Row(
        "your rule: worth retrying",
        users_rule(True),
        Verdict.TRANSIENT,
        charged=True,
        because="worth_retrying says that another try may help",
    ),
    Row(
        "your rule: not worth retrying",
        users_rule(False),
        Verdict.PERMANENT,
        charged=True,
        because="worth_retrying says that another try cannot help",
    ),
    Row(
        "listed as transient",
        users_list(Verdict.TRANSIENT),
        Verdict.TRANSIENT,
        charged=True,
        because="its retry policy lists it as transient",
    ),
    Row(
        "listed as permanent",
        users_list(Verdict.PERMANENT),
        Verdict.PERMANENT,
        charged=True,
        because="its retry policy lists it as permanent",
    ),
    Row(
        "MemoryError",
        raises(raised.is_out_of_memory),
        Verdict.RESOURCE,
        charged=True,
        because="it needed more memory than there was",
    ),
    Row(
        "transient exception",
        raises(raised.is_transient),
        Verdict.TRANSIENT,
        charged=True,
        because="the network, a file system or a service was at fault",
    ),
    Row(
        "permanent exception",
        raises(raised.is_permanent),
        Verdict.PERMANENT,
        charged=True,
        because="the same call would raise it again",
    ),
    Row(
        "other exception",
        ends_as(Ending.EXCEPTION),
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
