"""One order's way through a slot: hand it over, wait, settle what comes back, account for what does not.

Waits on the slot's pipe (which its death closes) and on the running attempt's timeout; cancelling, memory limits
and the end of the worker act by killing the slot, which ends the same wait.

Rule 1: every envelope of the order is accounted for exactly once, whatever the slot does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import Ending, Evidence, ExceptionFacts
from scalable_hpc.worker import wire
from scalable_hpc.worker.handles import Doom, Lease, SlotExit
from scalable_hpc.worker.outcomes import never_started
from scalable_hpc.worker.raised import pack
from scalable_hpc.worker.slots import KILLED_WITHIN_S, SlotPool

REPLIES_AT_ONCE = 64
"""Replies settled together share one fsync and one message; a slot that outruns us fills its pipe meanwhile."""
_LOOK_EVERY_S = 0.5
"""How soon an order that was handed over just as the drain began is stopped; others are stopped at once."""


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that a slot is at work on."""

    envelope: Envelope
    lease: Lease

    @property
    def attempt(self) -> str:
        """The attempt's name as it is written in logs."""
        return str(self.envelope.attempt)


@dataclass(frozen=True, slots=True)
class Settled:
    """An envelope and what its slot said about it."""

    envelope: Envelope
    reply: wire.Said
    log_tail: str = ""


class Office(Protocol):
    """What a trip needs of its courier."""

    def begun(self, running: Running) -> None:
        """Note that an attempt runs, replacing the one before it in this lease; may kill the slot at once."""

    def free(self, lease: Lease) -> None:
        """Let the slot go on to another order."""

    def settle(self, results: Sequence[Settled]) -> None:
        """Make results durable, then report them; exceptions are reported."""

    def account(self, endings: Sequence[Evidence]) -> None:
        """Report endings that no slot could report."""

    def takes_nothing_new(self) -> str | None:
        """Return why nothing new may begin; None while it may."""


class Trip:
    """Carries one order."""

    def __init__(self, lease: Lease, envelopes: Sequence[Envelope], pool: SlotPool, office: Office) -> None:
        self._lease = lease
        self._slot = lease.slot
        self._envelopes = tuple(envelopes)
        self._pool = pool
        self._office = office
        self._current = 0
        """Number of the envelope that the slot is at work on; all before it are settled."""
        self._running: Running | None = None
        self._since: float | None = None
        """Monotonic seconds; None until the slot says that it has begun: it may not even be born yet."""
        self._has_stopped = False
        self._has_died = False
        self._finished: wire.Finished | None = None

    def make(self) -> None:
        """Return when every envelope is accounted for."""
        self._slot.voice.forget()
        self._begin()  # before it is handed over: the recorder must name what kills this very node
        self._slot.hand(self._lease.order(self._envelopes, os.environ))
        while self._finished is None and not self._has_died:
            self._wait()
            results = self._read()
            if self._finished is not None:
                self._office.free(self._lease)  # it may begin another order while this one's results reach the disk
            if results:
                self._office.settle(results)
        if self._finished is not None:
            self._office.account(self._not_begun(self._finished.begun))
        else:
            self._account_for_death()

    def _begin(self) -> None:
        if self._current < len(self._envelopes):
            self._running = Running(self._envelopes[self._current], self._lease)
            self._office.begun(self._running)
        else:
            self._running = None

    def _wait(self) -> None:
        """Return when there is something to read."""
        while not self._slot.pipe.has_news(self._patience()):
            if self._patience() <= 0 and self._running is not None and self._slot.doom is None:
                limit = self._running.envelope.timeout_s
                because = f"it ran longer than its timeout of {limit:g} s"
                self._pool.kill(self._slot, Doom(self._running.attempt, Ending.TIMEOUT, because))
            doom = self._slot.doom
            if doom is not None and time.monotonic() - doom.at > KILLED_WITHIN_S:
                self._pool.give_up(self._slot)
            if not self._has_stopped and self._office.takes_nothing_new():
                self._has_stopped = True
                self._slot.stop()

    def _patience(self) -> float:
        limit = self._running.envelope.timeout_s if self._running is not None else None
        if limit is None or self._since is None or self._slot.doom is not None:
            return _LOOK_EVERY_S
        return min(_LOOK_EVERY_S, max(0.0, self._since + limit - time.monotonic()))

    def _read(self) -> list[Settled]:
        """Take in what has come; what was said before a death is as good as any."""
        results: list[Settled] = []
        try:
            while len(results) < REPLIES_AT_ONCE:
                reply = self._slot.pipe.receive()
                if isinstance(reply, wire.Finished):
                    self._finished = reply
                    break
                if isinstance(reply, wire.Begun):
                    self._since = time.monotonic()
                if isinstance(reply, wire.Said):
                    results.append(self._took(reply))
                if not self._slot.pipe.has_news():
                    break
        except (EOFError, OSError):
            self._has_died = True
        return results

    def _took(self, reply: wire.Said) -> Settled:
        tail = self._slot.voice.tail() if isinstance(reply, wire.Raised) else ""
        settled = Settled(self._envelopes[reply.number], reply, tail)
        self._current = reply.number + 1
        self._since = time.monotonic()
        self._begin()
        return settled

    def _not_begun(self, first: int) -> list[Evidence]:
        draining = self._office.takes_nothing_new()
        because, at = draining or "an attempt before it in its order ended the slot", time.time()
        left = self._envelopes[first:]
        return [never_started(one, because, at=at, expected=draining is not None) for one in left]

    def _account_for_death(self) -> None:
        end = self._pool.exit_of(self._slot)
        endings = []
        if self._running is not None:
            endings.append(self._death_of(self._running, end))
        self._office.account([*endings, *self._not_begun(self._current + 1)])

    def _lost(self, running: Running, end: SlotExit) -> Evidence:
        """Account for an attempt whose slot was not forked, or lost the process that had forked it."""
        if self._since is None and end.together is None:
            return never_started(running.envelope, end.because, at=time.time(), expected=False)
        return Evidence(
            attempt=running.envelope.attempt,
            ending=Ending.WORKER_LOST,
            at=time.time(),
            ran_s=None if self._since is None else round(time.monotonic() - self._since, 3),
            log_tail=end.because,
            together=end.together,
            worker_end="" if end.together is None else end.because,
            job_log=self._slot.voice.tail(),
        )

    def _death_of(self, running: Running, end: SlotExit) -> Evidence:
        """Tell how the attempt ended whose slot has died under it."""
        doom = self._slot.doom
        if doom is None and end.because:
            return self._lost(running, end)
        is_meant = doom is not None and doom.attempt in (running.attempt, "")
        ending = doom.ending if doom is not None and is_meant else Ending.SLOT_DIED
        return Evidence(
            attempt=running.envelope.attempt,
            ending=ending,
            at=time.time(),
            exception=_out_of_memory(doom) if doom is not None and ending is Ending.EXCEPTION else None,
            exit_code=end.exit_code,
            signal=end.signal,
            ran_s=None if self._since is None else round(time.monotonic() - self._since, 3),
            peak_memory=max(filter(None, (end.peak_memory, doom.peak_memory if doom else None)), default=None),
            # a neighbour in the same order for whom the kill was not meant is as innocent as one we cancelled
            expected=doom is not None and ending in (Ending.SLOT_DIED, Ending.CANCELLED),
            log_tail="\n".join(filter(None, (self._slot.voice.tail(), end.first_of_parent()))),
        )


def _out_of_memory(doom: Doom) -> ExceptionFacts:
    """A slot that was stopped over its memory would have raised this, had the limit been the machine's."""
    return pack(MemoryError(doom.because))
