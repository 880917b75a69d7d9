"""Evidence for attempts whose Dask task ended without the worker saying what became of them."""

from __future__ import annotations

from scalable_hpc.faults.evidence import facts_of
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence


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
