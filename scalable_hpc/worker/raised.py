"""A raised exception with itself packed in, so that its owner can raise it again where ``.result()`` is called.

Rule 1: packing an exception never raises, whatever its ``__reduce__``, ``__init__`` or ``__str__`` do.
"""

from __future__ import annotations

import builtins

import cloudpickle

from scalable_hpc.faults.evidence import class_name, facts_of
from scalable_hpc.model.tasks import ExceptionFacts

PICKLE_LIMIT = 256 * 1024
"""Bytes of a packed exception; one that carries a data set along is replaced by a stand-in."""


def pack(error: BaseException, *, caller: str | None = None) -> ExceptionFacts:
    """Take down an exception, itself included; outermost frames of the file ``caller`` (ours) are left out."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename == caller:
        frames = frames.tb_next
    facts = facts_of(error.with_traceback(frames))
    return ExceptionFacts(
        type_name=facts.type_name,
        bases=facts.bases,
        message=facts.message,
        errno=facts.errno,
        http_status=facts.http_status,
        traceback=facts.traceback,
        pickled=_round_trip(error) or _stand_in(error, facts),
    )


def _round_trip(error: BaseException) -> bytes | None:
    """Pickle an exception; None where it cannot be, or where something else comes back."""
    try:
        data: bytes = cloudpickle.dumps(error)
        came_back = cloudpickle.loads(data)
    except Exception:  # noqa: BLE001  a user's __reduce__ or __init__ may do anything
        return None
    return data if class_name(type(came_back)) == class_name(type(error)) and len(data) <= PICKLE_LIMIT else None


def _stand_in(error: BaseException, facts: ExceptionFacts) -> bytes | None:
    """Pickle the nearest built-in class instead, so that ``except ValueError`` still catches it."""
    text = f"{facts.type_name}: {facts.message}"
    for cls in type(error).__mro__:
        if vars(builtins).get(cls.__name__) is cls and issubclass(cls, BaseException):
            values = (text,) if facts.errno is None else (facts.errno, text)
            try:
                return bytes(cloudpickle.dumps(cls(*values)))
            except TypeError:  # UnicodeError and its like want other arguments: go on to their ancestor
                continue
    return None
