"""Asks the user's own rule whether an exception is worth another try: in a child, so that it can do no harm.

A rule is user code: it may raise, hang, crash or hold the GIL for ever. Here it costs a fork, which dies with its
answer or at its time's end; the slot goes on either way, and the judge falls back to its lists and its table.

Rule 1: asking never raises, and never takes longer than ``ANSWERS_WITHIN_S``.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

import cloudpickle

ANSWERS_WITHIN_S = 10.0
"""A rule looks at one exception; what it imports for that on a slow file system is the longest of it."""
_TEXT_LIMIT = 300
"""Characters kept of why a rule could not be asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule said."""

    worth_retrying: bool | None = None
    failed: str = ""
    """Why there is no answer, as the rest of a sentence about the rule; empty: there is one, or there is no rule."""


def ask(rule: bytes, error: BaseException, *, patience_s: float = ANSWERS_WITHIN_S) -> Answer:
    """Return what a pickled rule says of an exception.

    Args:
        rule: a pickled function, or the pickled name of one (``module:function``); empty: there is no rule.
        error: the exception, as it was raised.
        patience_s: seconds after which the rule is killed.
    """
    if not rule:
        return Answer()
    try:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of forking beside threads: a child that hangs is killed
            child = os.fork()
    except OSError as err:
        return Answer(failed=f"could not be asked ({err.strerror})")
    if child == 0:
        _answer(rule, error, writing)
    os.close(writing)
    try:
        said = _read(reading, time.monotonic() + patience_s)
    finally:
        os.close(reading)
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
        status = _reap(child)
    if said is None:
        return Answer(failed=f"gave no answer within {patience_s:g} s")
    with suppress(Exception):
        answer = pickle.loads(said)
        if isinstance(answer, Answer):
            return answer
    return Answer(failed=f"ended its process ({_told(status)})")


def _answer(rule: bytes, error: BaseException, writing: int) -> None:
    """Be the child: ask, write the answer, and leave without a trace."""
    try:
        answer = _asked(rule, error)
        with open(writing, "wb", closefd=False) as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def _asked(rule: bytes, error: BaseException) -> Answer:
    try:
        answer = _function(cloudpickle.loads(rule))(error)
        return Answer(None if answer is None else bool(answer))
    except BaseException as err:  # noqa: BLE001  whatever it is, it is no answer
        told = f"{type(err).__name__}: {err}"
        return Answer(failed=f"raised {told[:_TEXT_LIMIT]}")


def _function(rule: Callable[[BaseException], object] | str) -> Callable[[BaseException], object]:
    if not isinstance(rule, str):
        return rule
    module, _, name = rule.partition(":")
    found: Callable[[BaseException], object] = import_module(module)  # type: ignore[assignment]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _read(descriptor: int, until: float) -> bytes | None:
    """Read to the end; None when that has not come in time."""
    said = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(1000 * max(0.0, until - time.monotonic())):
            return None
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return said
        said += chunk


def _reap(child: int) -> int:
    with suppress(ChildProcessError):
        return os.waitpid(child, 0)[1]
    return 0


def _told(status: int) -> str:
    return (
        f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.waitstatus_to_exitcode(status)}"
    )
