"""What a job script asks of this machine, and which waiting job starts next.

Rule 1: pure. Reading files and starting processes is for ``local`` and its queue.

A script says what it needs in lines ``#LOCAL key=value`` above its first command; the value is the rest of the line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalable_hpc.errors import LimitRefused, SubmissionError

DIRECTIVE = "#LOCAL"


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """What one script asks for; memory in bytes, times in seconds."""

    job_name: str = "local"
    comment: str = ""
    nodes: int = 1
    cpus: int = 1
    memory: int | None = None
    walltime_s: float | None = None
    signal_lead_s: float = 0.0
    """How long before the end of the walltime the script's process gets SIGUSR1; 0: it gets none."""
    output: str | None = None
    """``%j`` stands for the job id."""
    chdir: str | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What this machine offers local jobs, or what some of them take of it; memory None: not counted."""

    cpus: int
    memory: int | None = None
    nodes: int = 1
    """This machine, or so many of a batch job that jobs here are steps of."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue."""

    job_id: str
    cpus: int
    memory: int | None
    eligible_at: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can start."""

    because: str
    until: float | None = None
    """When to look again, if time alone can change it."""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _span(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


_KEYS: dict[str, tuple[str, Callable[[str], object], str]] = {
    "job-name": ("job_name", str, "a name"),
    "comment": ("comment", str, "text"),
    "nodes": ("nodes", _positive, "a whole number from 1 on"),
    "cpus": ("cpus", _positive, "a whole number from 1 on"),
    "memory": ("memory", _positive, "a number of bytes"),
    "walltime": ("walltime_s", _span, "a number of seconds"),
    "signal-lead": ("signal_lead_s", _span, "a number of seconds"),
    "output": ("output", str, "a path"),
    "chdir": ("chdir", str, "a path"),
}


def parse_script(text: str) -> LocalRequest:
    """Read the directives of a script.

    Raises:
        SubmissionError: no ``#!`` line, an unknown key, a key twice, a value that cannot be read, or a signal lead that
            is not shorter than the walltime.
    """
    lines = text.splitlines()
    if not lines or not lines[0].startswith("#!"):
        raise SubmissionError(
            f"this is no batch script: '{lines[0] if lines else ''}'",
            hint="its first line must be '#!' and an interpreter, for instance '#!/bin/bash'",
        )
    asked: dict[str, object] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith(DIRECTIVE) and line.removeprefix(DIRECTIVE)[:1] in {" ", "\t"}:
            field, value = _directive(number, line.removeprefix(DIRECTIVE).strip())
            if field in asked:
                raise SubmissionError(f"line {number} of the job script says '{line}', but that was said before")
            asked[field] = value
    request = LocalRequest(**asked)  # type: ignore[arg-type]
    if request.walltime_s is not None and 0 < request.walltime_s <= request.signal_lead_s:
        raise SubmissionError(
            f"the signal lead of {request.signal_lead_s:g} s is not shorter than the walltime of "
            f"{request.walltime_s:g} s"
        )
    if request.walltime_s == 0:
        raise SubmissionError("a walltime must be longer than zero: '0'")
    return request


def _directive(number: int, text: str) -> tuple[str, object]:
    key, _, value = (part.strip() for part in text.partition("="))
    if key not in _KEYS:
        near = difflib.get_close_matches(key, _KEYS, n=1)
        raise SubmissionError(
            f"line {number} of the job script asks for an unknown '{key}'",
            hint=f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(_KEYS)}",
        )
    field, read, wanted = _KEYS[key]
    try:
        return field, read(value)
    except ValueError as err:
        raise SubmissionError(f"line {number} of the job script: '{key}' must be {wanted}, not '{value}'") from err


def refuse_what_never_fits(request: LocalRequest, total: Capacity) -> None:
    """Raise ``LimitRefused`` for a request that this machine can never satisfy."""
    for what, asked, offered in (
        ("nodes", request.nodes, total.nodes),
        ("cpus", request.cpus, total.cpus),
        ("bytes of memory", request.memory or 0, total.memory),
    ):
        if offered is not None and asked > offered:
            raise LimitRefused(
                f"the job asks for {asked} {what}, this machine offers {offered}",
                hint="ask for less, or give the target's local site more ('cpus', 'memory')",
            )


def next_to_start(waiting: Sequence[Waiting], used: Capacity, total: Capacity, now: float) -> Waiting | Wait:
    """Return the job to start now, or why none can: strictly first come, first served."""
    if not waiting:
        return Wait("the queue is empty")
    first = waiting[0]
    if first.eligible_at > now:
        return Wait("BeginTime", until=first.eligible_at)
    if used.cpus + first.cpus > total.cpus:
        return Wait("Resources")
    if total.memory is not None and (used.memory or 0) + (first.memory or 0) > total.memory:
        return Wait("Resources")
    return first
