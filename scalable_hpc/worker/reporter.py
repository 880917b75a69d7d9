"""Says what happened here to the driver: messages of ``model.messages`` on the run's Dask event topic.

Rule 1: a message is handed to Dask or lost with the link; nobody here waits for an answer.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Upward, WorkerDraining, WorkerHello
from scalable_hpc.model.tasks import Evidence, Receipt

Post = Callable[[dict[str, object]], None]
"""Publishes one letter; may be called from any thread, never raises."""

DEADLINE_MOVED_S = 2.0
"""Less is the rounding of the batch system's clocks."""


class Reporter:
    """Fills in who and where we are, and posts."""

    def __init__(self, hello: WorkerHello) -> None:
        """Take what is known before the worker has an address."""
        self._hello = hello
        self._post: Post | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """The worker's Dask address; empty before it has one."""
        return self._hello.address

    @property
    def deadline(self) -> float | None:
        """When the allocation ends, as far as is known."""
        return self._hello.deadline

    def attach(self, address: str, post: Post) -> None:
        """Say hello from now-known ``address`` and begin to report."""
        with self._lock:
            self._hello = replace(self._hello, address=address)
            self._post = post
        self._send([self._hello])

    def deadline_is(self, at: float | None) -> None:
        """Take down a deadline and say hello again if it has moved."""
        with self._lock:
            before, is_attached = self._hello.deadline, self._post is not None
            self._hello = replace(self._hello, deadline=at)
        if is_attached and (None in (before, at) or abs((before or 0) - (at or 0)) > DEADLINE_MOVED_S) and before != at:
            self._send([self._hello])

    def draining(self, because: str) -> None:
        """Ask to be given nothing new."""
        self._send([WorkerDraining(self.address, because, self.deadline)])

    def report(self, outcomes: Sequence[Receipt | Evidence]) -> None:
        """Report how attempts ended, in order."""
        self._send([self._signed(one) for one in outcomes])

    def _signed(self, outcome: Receipt | Evidence) -> AttemptDone | AttemptEnded:
        hello = self._hello
        if isinstance(outcome, Receipt):
            return AttemptDone(_signed_receipt(outcome, hello))
        left = None if hello.deadline is None else round(hello.deadline - time.time(), 1)
        return AttemptEnded(
            replace(outcome, node=hello.node, worker=hello.address, allocation=hello.allocation, time_left_s=left)
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
