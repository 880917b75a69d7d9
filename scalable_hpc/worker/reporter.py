"""Says what happened here to the driver: messages of ``model.messages`` on the run's Dask event topic.

Rule 1: nobody here waits for an answer. What is reported while there is no driver is kept for the next one; what was
reported shortly before the link broke, and may have been lost with it, is repeated there.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from scalable_hpc.model.messages import (
    AttemptDone,
    AttemptEnded,
    HeldGone,
    Holding,
    Upward,
    WorkerDraining,
    WorkerHello,
)
from scalable_hpc.model.tasks import Evidence, Receipt

Post = Callable[[dict[str, object]], None]
"""Publishes one letter; may be called from any thread, never raises."""

DEADLINE_MOVED_S = 2.0
"""Less is the rounding of the batch system's clocks."""
REPEATED_WITHIN_S = 90.0
"""A node that is cut off without a word is noticed within a minute; what it reported meanwhile went nowhere."""
REPEATED_AT_MOST = 1_000
"""Each may hold a small result. What is forgotten costs nothing but a look into the store."""

Report = AttemptDone | AttemptEnded


class Reporter:
    """Fills in who and where we are, and posts."""

    def __init__(self, hello: WorkerHello, clock: Callable[[], float] = time.monotonic) -> None:
        """Take what is known before the worker has an address."""
        self._hello = hello
        self._clock = clock
        self._post: Post | None = None
        self._lock = threading.Lock()
        self._former: tuple[str, ...] = ()
        self._unsaid: list[Report] = []
        """What was reported since the link broke."""
        self._said: deque[tuple[float, Report]] = deque(maxlen=REPEATED_AT_MOST)

    @property
    def address(self) -> str:
        """The worker's Dask address; empty before it has one."""
        return self._hello.address

    @property
    def deadline(self) -> float | None:
        """When the allocation ends, as far as is known."""
        return self._hello.deadline

    def attach(self, address: str, post: Post, holding: Sequence[Holding] = ()) -> None:
        """Say hello from now-known ``address``, then what could not be said before, and begin to report.

        Args:
            address: the worker's Dask address from now on.
            post: publishes a letter there.
            holding: what the worker has in hand; what is kept here is added.
        """
        with self._lock:
            former, self._former = self._former, (*self._former, address)
            self._hello = replace(self._hello, address=address)
            self._post = post
            since = self._clock() - REPEATED_WITHIN_S
            repeated = [_again(report) for at, report in self._said if at >= since] if former else []
            unsaid, self._unsaid = self._unsaid, []
            held = (*holding, *_held(unsaid))
            self._send([replace(self._hello, former=former, holding=held), *repeated, *unsaid])
            self._remember(unsaid)

    def detach(self) -> None:
        """Keep what is reported from now on: there is nobody to hear it."""
        with self._lock:
            self._post = None

    def deadline_is(self, at: float | None) -> None:
        """Take down a deadline and say hello again if it has moved."""
        with self._lock:
            before = self._hello.deadline
            self._hello = replace(self._hello, deadline=at)
            if (None in (before, at) or abs((before or 0) - (at or 0)) > DEADLINE_MOVED_S) and before != at:
                self._send([self._hello])

    def draining(self, because: str, *, alone: bool = False) -> None:
        """Ask to be given nothing new; ``alone``: for a reason that is no other worker's."""
        with self._lock:
            self._send([WorkerDraining(self.address, because, self.deadline, alone)])

    def held_gone(self, keys: Sequence[str], because: str) -> None:
        """Say that results cannot be had that the driver takes to be held here."""
        self._send([HeldGone(self.address, tuple(keys), because)])

    def report(self, outcomes: Sequence[Receipt | Evidence]) -> None:
        """Report how attempts ended, in order."""
        with self._lock:
            reports = [self._signed(one) for one in outcomes]
            if self._post is None:
                self._unsaid += reports
            else:
                self._send(reports)
                self._remember(reports)

    def _remember(self, reports: Sequence[Report]) -> None:
        now = self._clock()
        while self._said and self._said[0][0] < now - REPEATED_WITHIN_S:
            self._said.popleft()
        self._said.extend((now, report) for report in reports)

    def _signed(self, outcome: Receipt | Evidence) -> Report:
        hello = self._hello
        if isinstance(outcome, Receipt):
            return AttemptDone(_signed_receipt(outcome, hello))
        left = None if hello.deadline is None else round(hello.deadline - time.time(), 1)
        return AttemptEnded(
            replace(
                outcome,
                node=outcome.node or hello.node,
                worker=hello.address,
                allocation=hello.allocation,
                time_left_s=left,
            )
        )

    def _send(self, messages: Sequence[Upward]) -> None:
        """Post one letter: a lone message as it is, several as a tuple; Dask's cost is by the letter."""
        if self._post is not None and messages:
            kind = type(messages[0]).__name__ if len(messages) == 1 else "Several"
            content = messages[0] if len(messages) == 1 else tuple(messages)
            self._post({"kind": kind, "body": pickle.dumps(content, protocol=5)})


def _signed_receipt(receipt: Receipt, hello: WorkerHello) -> Receipt:
    """Spelled out: there is one for every task, and ``replace`` takes longer than all else that is done for it here."""
    return Receipt(
        attempt=receipt.attempt,
        result=receipt.result,
        started_at=receipt.started_at,
        ended_at=receipt.ended_at,
        peak_memory=receipt.peak_memory,
        node=hello.node,
        worker=hello.address,
        allocation=hello.allocation,
        reused=receipt.reused,
        cold=receipt.cold,
        stray=receipt.stray,
    )


def _again(report: Report) -> Report:
    return replace(report, repeated=True) if isinstance(report, AttemptDone) else report


def _held(reports: Sequence[Report]) -> tuple[Holding, ...]:
    """What is about to be reported is still in hand as far as the driver knows."""
    ended = [one.receipt.attempt if isinstance(one, AttemptDone) else one.evidence.attempt for one in reports]
    return tuple(Holding(f"scalable-{attempt}", (attempt,)) for attempt in ended)
