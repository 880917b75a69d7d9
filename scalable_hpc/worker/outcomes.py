"""How attempts end, as receipts and evidence; the reporter signs them with who and where we are.

Rule 1: pure: facts in, facts out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Locator, Receipt
from scalable_hpc.worker import wire
from scalable_hpc.worker.raised import pack

Outcome = Receipt | Evidence


def name_of(outcome: Outcome) -> str:
    """Return the word that the flight recorder has for it."""
    if isinstance(outcome, Receipt):
        return "reused" if outcome.reused else "done"
    return outcome.ending.value


def receipt(envelope: Envelope, locator: Locator, span: wire.Span, *, reused: bool = False, stray: str = "") -> Receipt:
    """Return the receipt of a durable result."""
    return Receipt(
        attempt=envelope.attempt,
        result=locator,
        started_at=span.started_at,
        ended_at=span.ended_at,
        peak_memory=span.peak_memory,
        node="",
        worker="",
        allocation="",
        reused=reused,
        cold=span.is_cold,
        stray=stray,
    )


def raised(envelope: Envelope, reply: wire.Raised, log_tail: str, *, expected: bool) -> Evidence:
    """Return the evidence of an attempt whose slot told how it ended."""
    return Evidence(
        attempt=envelope.attempt,
        ending=reply.ending,
        at=reply.span.ended_at,
        exception=reply.facts,
        ran_s=round(reply.span.ended_at - reply.span.started_at, 6),
        peak_memory=reply.span.peak_memory,
        expected=expected,
        log_tail=log_tail,
    )


def of(
    envelope: Envelope,
    reply: wire.Said,
    places: Mapping[AttemptId, Locator | Exception],
    *,
    log_tail: str,
    at: float,
    is_ending: bool,
) -> Outcome:
    """Return how an attempt ended of which its slot told.

    Args:
        envelope: the attempt.
        reply: what its slot said.
        places: where its result lies, or why nowhere.
        log_tail: what it wrote to stderr last.
        at: now.
        is_ending: the job is being ended: an exception of an attempt that was told to end is no wonder.
    """
    if isinstance(reply, wire.Raised):
        return raised(envelope, reply, log_tail, expected=is_ending and reply.was_told_to_end)
    if isinstance(reply, wire.Held):
        return receipt(envelope, Locator(envelope.store, envelope.key, reply.digest, reply.size, held=True), reply.span)
    place = places[envelope.attempt]
    if isinstance(place, Exception):
        return refused(envelope, place, at=at)
    return receipt(envelope, place, reply.span, stray=reply.stray)


_MAY_COME_OF_A_LOST_HOST = (Ending.EXCEPTION, Ending.SLOT_DIED, Ending.TIMEOUT)


def may_come_of_a_lost_host(outcome: Evidence) -> bool:
    """Whether an attempt may have ended so because a program of its own lost the connection to another node."""
    return outcome.ending in _MAY_COME_OF_A_LOST_HOST and not outcome.expected


def without_host(outcome: Evidence, host: str, because: str) -> Evidence:
    """Return how an attempt ended when one of its nodes turned out to be gone: a failure is no wonder then."""
    if not may_come_of_a_lost_host(outcome):
        return outcome
    reason, ending = ExitReason.NODE_FAIL.value, Ending.WORKER_LOST
    return replace(outcome, ending=ending, node=host, exception=None, allocation_reason=reason, allocation_raw=because)


def lost(envelope: Envelope, reply: wire.Said, host: str, because: str, *, log_tail: str) -> Evidence:
    """Return the evidence of an attempt that ended without one of its nodes, be it well: who knows what is missing."""
    span = reply.span
    return Evidence(
        attempt=envelope.attempt,
        ending=Ending.WORKER_LOST,
        at=span.ended_at,
        node=host,
        ran_s=round(span.ended_at - span.started_at, 6),
        peak_memory=span.peak_memory,
        allocation_reason=ExitReason.NODE_FAIL.value,
        allocation_raw=because,
        log_tail=log_tail,
    )


def refused(envelope: Envelope, error: Exception, *, at: float) -> Evidence:
    """Return the evidence of an attempt that failed for a reason of ours: the store, the courier."""
    return Evidence(envelope.attempt, Ending.REFUSED, at=at, exception=pack(error))


def turned_away(envelope: Envelope, because: str, *, at: float, expected: bool) -> Evidence:
    """Return the evidence of an attempt that came and was not taken."""
    return Evidence(envelope.attempt, Ending.REFUSED, at=at, expected=expected, log_tail=because)


def never_started(envelope: Envelope, because: str, *, at: float, expected: bool) -> Evidence:
    """Return the evidence of an attempt that was taken, waited, and never began."""
    return Evidence(envelope.attempt, Ending.NEVER_STARTED, at=at, expected=expected, log_tail=because)
