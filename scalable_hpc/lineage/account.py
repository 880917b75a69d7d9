"""The history of one task in words, from its events: each attempt, what was made of it, and what followed; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scalable_hpc.model import events
from scalable_hpc.model.tasks import Verdict


def account_of(task_id: str, journal: Iterable[events.Event]) -> list[tuple[float, str]]:
    """Return when and what, in the order of the journal (seconds since the epoch)."""
    told: list[tuple[float, str]] = []
    for event in journal:
        tell = _WORDS.get(type(event))
        if tell is not None and getattr(event, "task_id", None) == task_id:
            told.append((event.at, tell(event)))
        elif isinstance(event, events.RunOpened):
            told.append((event.at, f"a driver opened the run (process {event.pid} on {event.host})"))
    return told


def _submitted(event: events.TaskSubmitted) -> str:
    return f"submitted: {event.label or event.task_id}"


def _placed(event: events.AttemptPlaced) -> str:
    left = "" if event.time_left_s is None else f", with {event.time_left_s:.0f} s left there"
    alone = ", alone: it is a suspect" if event.alone else ""
    return f"attempt {event.attempt} was sent to {event.allocation}{left}{alone}"


def _rejoined(event: events.AttemptRejoined) -> str:
    return f"attempt {event.attempt} came back with its worker, on {event.allocation}: not sent again"


def _receipt(event: events.ReceiptTaken) -> str:
    how = "found its result in the store" if event.reused else f"was done in {event.ended_at - event.started_at:.1f} s"
    late = ", too late to count" if event.late else ""
    return f"attempt {event.attempt} {how} on {event.node or event.allocation}{late}"


_FOLLOWS = {"again": "run again at once", "wait": "run again after a wait", "give_up": "not run again"}


def _failed(event: events.AttemptFailed) -> str:
    where = f" on {event.allocation}" if event.allocation else ""
    where += f" ({event.node})" if event.node else ""
    cost = "counts as a try" if event.charged else "costs it no try"
    verdict = _VERDICTS.get(event.verdict, event.verdict)
    follows = _FOLLOWS.get(event.decision, event.decision)
    return (
        f"attempt {event.attempt} ended without a result{where}: {event.ending.replace('_', ' ')}, {verdict}, {cost};"
        f" {follows}, because {event.because}"
    )


_VERDICTS = {
    Verdict.EXPECTED.value: "as we had asked for",
    Verdict.INFRASTRUCTURE.value: "taken by the infrastructure",
    Verdict.RESOURCE.value: "for want of memory or time",
    Verdict.TRANSIENT.value: "a failure that may pass",
    Verdict.PERMANENT.value: "a failure that stays",
    Verdict.KILLER.value: "suspected of killing what it ran on",
    Verdict.UNKNOWN.value: "nobody knows why",
}


def _explained(event: events.AttemptExplained) -> str:
    return f"of attempt {event.attempt} the batch system said later: {event.because}"


_WORDS: Mapping[type, Callable[[Any], str]] = {
    events.TaskSubmitted: _submitted,
    events.AttemptPlaced: _placed,
    events.AttemptRejoined: _rejoined,
    events.ReceiptTaken: _receipt,
    events.AttemptFailed: _failed,
    events.AttemptExplained: _explained,
    events.ResultDropped: lambda event: f"its result is gone: {event.because}",
    events.TaskRecalled: lambda event: f"it is run again: {event.because}",
    events.TaskGivenUp: lambda event: f"failed for good: {event.error_type}: {event.because}",
    events.TaskRevived: lambda event: f"tried again from the beginning: {event.because}",
    events.TaskCancelled: lambda event: f"cancelled: {event.because}",
}
"""What is told of a task, by kind of event."""
