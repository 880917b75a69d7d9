"""Evidence for attempts whose Dask task ended without the worker saying what became of them."""

from __future__ import annotations

import traceback

from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, ExceptionFacts

_LONGEST_TRACEBACK = 20_000
"""Characters; a journal line is no place for more."""


def never_sent(attempt: AttemptId, address: str, at: float) -> Evidence:
    """Say that a worker had left before an attempt could be sent to it."""
    return Evidence(
        attempt,
        Ending.NEVER_STARTED,
        at,
        worker=address,
        log_tail="its worker had left before the attempt was sent",
    )


def link_lost(attempt: AttemptId, address: str, at: float) -> Evidence:
    """Say that the driver lost the scheduler, and with it whatever the worker may have had to say."""
    return Evidence(
        attempt,
        Ending.WORKER_LOST,
        at,
        worker=address,
        log_tail="the connection between driver and scheduler was lost",
    )


def carrier_silent(attempt: AttemptId, address: str, at: float) -> Evidence:
    """Say that a worker finished a bundle and reported nothing about one of its attempts."""
    return Evidence(
        attempt,
        Ending.REFUSED,
        at,
        worker=address,
        log_tail="its worker ended the bundle without a word about this attempt",
    )


def carrier_failed(attempt: AttemptId, address: str, at: float, error: BaseException) -> Evidence:
    """Say that a worker could not even begin a bundle: not readable there, not importable, refused by Dask."""
    return Evidence(attempt, Ending.REFUSED, at, worker=address, exception=facts_of(error))


def facts_of(error: BaseException) -> ExceptionFacts:
    """Return an exception as data; it is not pickled, since it is the carrier's and not the task's own."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return ExceptionFacts(
        type_name=_full_name(type(error)),
        bases=tuple(_full_name(cls) for cls in type(error).__mro__),
        message=str(error),
        errno=getattr(error, "errno", None),
        traceback=text[-_LONGEST_TRACEBACK:],
    )


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
