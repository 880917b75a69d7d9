"""The error that a task ends with, when it fails for good: its type, and what it says.

Rule 1: pure. What the task itself raised stays its own, but where there is more to say than it knew.
"""

from __future__ import annotations

from scalable_hpc.faults.evidence import describe
from scalable_hpc.faults.history import TaskHistory, goes_nowhere, ran_out_of_memory
from scalable_hpc.faults.judge import Judgement
from scalable_hpc.faults.retry import Decision
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.model.tasks import Ending, Evidence, Verdict
from scalable_hpc.model.units import format_memory

_SAID = 400
"""Characters of what a task raised that are told again."""
_LOG_TAIL = 2_000
"""Characters of a dead slot's output that go into the error."""


def last_words(
    evidence: Evidence, record: TaskRecord, judgement: Judgement, decision: Decision, history: TaskHistory
) -> tuple[str, str]:
    """Return type and text of the error that the task's future raises."""
    told = describe(evidence)
    if ran_out_of_memory(evidence, history, record.policy):
        return "TaskOutOfMemory", _out_of_memory(evidence, record, history)
    if goes_nowhere(evidence, history, record.policy):
        return "AttemptsExhausted", _going_nowhere(evidence, record, history)
    if evidence.ending is Ending.EXCEPTION and evidence.exception is not None:
        facts = evidence.exception
        return facts.type_name.removeprefix("builtins."), facts.message
    if judgement.verdict is Verdict.KILLER:
        before = f"; the one before it died on {record.avoid[-1]}" if record.avoid else ""
        return "TaskKilled", f"{record.task_id!r}: {told}{before}{_tail(evidence)}"
    if evidence.ending is Ending.TIMEOUT:
        return "TaskTimeout", f"{record.task_id!r} ran longer than its timeout of {record.timeout_s or 0:g} s"
    return "AttemptsExhausted", f"{record.task_id!r}: {told}; {decision.because}{_tail(evidence)}"


def _going_nowhere(evidence: Evidence, record: TaskRecord, history: TaskHistory) -> str:
    legs, saved = history.idle_legs + 1, "" if evidence.exception is None else evidence.exception.checkpoint or ""
    if legs >= record.policy.infrastructure_limit and saved == history.checkpoint:
        return (
            f"{record.task_id!r} handed itself back {legs} times in a row, and nothing in its checkpoint_dir changed;"
            f" if it saves its state elsewhere, raise infrastructure_limit (it is {record.policy.infrastructure_limit})"
        )
    return f"{record.task_id!r} handed itself back more often than its limit for EXPECTED allows"


def _out_of_memory(evidence: Evidence, record: TaskRecord, history: TaskHistory) -> str:
    held = "" if evidence.peak_memory is None else f", held {format_memory(evidence.peak_memory)}"
    said = "" if evidence.exception is None else f" ({evidence.exception.message[:_SAID]})"
    limit = record.policy.limit_of(Verdict.RESOURCE)
    bound = "" if limit is None else f"; it may be given more {limit} times"
    return (
        f"{record.task_id!r} ran out of memory: it was given {format_memory(history.memory or 0)}{held} and needed"
        f" more{said}; the largest worker that could run it has {format_memory(history.sizes[-1])}{bound}"
        f"{_tail(evidence)}"
    )


def _tail(evidence: Evidence) -> str:
    if evidence.ending is Ending.WORKER_LOST:  # what it wrote itself is lost with the worker
        went = f"; {evidence.log_tail}" if evidence.log_tail else ""
        return went + (f"\n\nthe end of its job's output:\n{evidence.job_log[-_LOG_TAIL:]}" if evidence.job_log else "")
    return f"\n\nthe end of its output:\n{evidence.log_tail[-_LOG_TAIL:]}" if evidence.log_tail else ""
