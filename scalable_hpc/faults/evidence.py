"""Evidence in words, and exceptions as facts.

Rule 1: facts only; what they mean is said in ``judge``.
"""

from __future__ import annotations

import signal
import traceback
from contextlib import suppress

from scalable_hpc.model.tasks import Ending, Evidence, ExceptionFacts

MESSAGE_LIMIT = 2_000
"""Characters kept of an exception's text: some libraries print whole arrays."""
TRACEBACK_LIMIT = 8_000
"""Characters kept of a traceback, from its end, where the cause is."""


def facts_of(error: BaseException, *, pickled: bytes | None = None) -> ExceptionFacts:
    """Take down an exception as data; never raises, whatever the exception's own methods do."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return ExceptionFacts(
        type_name=class_name(type(error)),
        bases=tuple(class_name(cls) for cls in type(error).__mro__),
        message=_text(error)[:MESSAGE_LIMIT],
        errno=_whole(getattr(error, "errno", None)),
        http_status=_http_status(error),
        traceback="".join(lines)[-TRACEBACK_LIMIT:],
        pickled=pickled,
    )


def class_name(cls: type) -> str:
    """Return ``module.QualName``, as ``ExceptionFacts`` keeps it (``builtins.ValueError``)."""
    return f"{cls.__module__}.{cls.__qualname__}"


def signal_name(number: int) -> str:
    """Return ``SIGSEGV`` for 11; a number without a name stays ``signal 77``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe(evidence: Evidence) -> str:
    """Say in one clause how the attempt ended, for logs, reports and errors."""
    place = f" on {evidence.node}" if evidence.node else ""
    span = "" if evidence.ran_s is None else f" after {evidence.ran_s:.1f} s"
    return f"{_what(evidence)}{span}{place}"


_WORDS = {
    Ending.TIMEOUT: "ran into its timeout",
    Ending.NEVER_STARTED: "was assigned and had not started",
    Ending.CANCELLED: "was cancelled",
    Ending.REFUSED: "was refused by its worker",
}


def _what(evidence: Evidence) -> str:
    match evidence.ending:
        case Ending.EXCEPTION:
            facts = evidence.exception
            return "raised an exception that was not described" if facts is None else f"raised {facts.type_name}"
        case Ending.SLOT_DIED:
            return f"its slot died ({_death(evidence)})"
        case Ending.WORKER_LOST:
            return f"its worker {_loss(evidence)}{_company(evidence)}"
        case ending:
            return _WORDS[ending]


def _loss(evidence: Evidence) -> str:
    return f"died ({evidence.worker_end})" if evidence.worker_end else f"was lost ({_allocation(evidence)})"


def _company(evidence: Evidence) -> str:
    if evidence.together is None:
        return ""
    return " under it alone" if evidence.together == 1 else f" under it and {evidence.together - 1} more"


def _death(evidence: Evidence) -> str:
    if evidence.signal is not None:
        return signal_name(evidence.signal)
    return "no exit code" if evidence.exit_code is None else f"exit code {evidence.exit_code}"


def _allocation(evidence: Evidence) -> str:
    if evidence.allocation_reason is None:
        return "the batch system has not said why"
    raw = evidence.allocation_raw
    return f"allocation {evidence.allocation_reason}" + (f": {raw}" if raw else "")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  the exception is a stranger's: its __str__ may raise anything
        return f"<{type(error).__name__} cannot be printed>"


def _http_status(error: BaseException) -> int | None:
    """Find the status where libraries keep it.

    That is ``response.status_code`` (requests, httpx), ``response.status``, botocore's response, ``status_code``,
    ``status`` (aiohttp, urllib3) and ``code`` (urllib, Google's).
    """
    with suppress(Exception):
        response = getattr(error, "response", None)
        botocore = response.get("ResponseMetadata") if isinstance(response, dict) else None
        found = (
            _whole(botocore.get("HTTPStatusCode")) if isinstance(botocore, dict) else None,
            _whole(getattr(response, "status_code", None)),
            _whole(getattr(response, "status", None)),
            _whole(getattr(error, "status_code", None)),
            _whole(getattr(error, "status", None)),
            _whole(getattr(error, "code", None)),
        )
        return next((status for status in found if status is not None and 100 <= status <= 599), None)  # noqa: PLR2004
    return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
