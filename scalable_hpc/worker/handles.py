"""What the courier holds of a slot: its pipe, how it ended, why we ended it, and for whom it works now.

Rule 1: no process is started or signalled here; ``slots`` does that.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from scalable_hpc.faults.evidence import signal_name
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import Ending
from scalable_hpc.worker import wire
from scalable_hpc.worker.shares import Seat, environment_of
from scalable_hpc.worker.voices import Voice


@dataclass(frozen=True, slots=True)
class SlotExit:
    """How a slot's process ended."""

    exit_code: int | None
    signal: int | None
    peak_memory: int | None
    because: str = ""
    """Set when it ended for a reason that is not its own: it could not be forked, the nursery died."""
    together: int | None = None
    """How many slots were at work when the nursery died; None: it did not."""
    minder_exit: int = 0
    """How the slot's parent process ended, negative for a signal; 0: in order, after the slot."""

    def first_of_parent(self) -> str:
        """Say that the slot's parent process was killed first, if it was."""
        if not self.minder_exit:
            return ""
        return f"its parent process was killed first ({signal_name(-self.minder_exit)}), and it went along"


@dataclass(frozen=True, slots=True)
class Doom:
    """Why we killed a slot ourselves."""

    attempt: str
    """The attempt it was meant for: one that had slipped in its place by then is innocent."""
    ending: Ending
    because: str
    peak_memory: int | None = None
    at: float = field(default_factory=time.monotonic)
    """Monotonic seconds."""


@dataclass(slots=True)
class Slot:
    """One slot process as seen from the courier."""

    seat: Seat
    token: str
    pipe: wire.Pipe
    voice: Voice
    pid: int | None = None
    minder: int | None = None
    """Pid of its parent process, known when its own is; whatever its family leaves behind is below that, too."""
    is_lent: bool = False
    """It has an order in hand."""
    doom: Doom | None = None
    exit: SlotExit | None = None
    has_died: threading.Event = field(default_factory=threading.Event)
    speaking: threading.Lock = field(default_factory=threading.Lock)

    def hand(self, order: wire.Order) -> None:
        """Hand over work; a slot that has died meanwhile closes the pipe, which reading tells."""
        with suppress(OSError), self.speaking:
            self.pipe.send(order)

    def stop(self) -> None:
        """Ask it to begin nothing more of the order in hand."""
        with suppress(OSError), self.speaking:
            self.pipe.send_stop()

    def end(self, exit_: SlotExit) -> SlotExit:
        """Take down the exit and wake whoever waits on the pipe; what is in it already can still be read."""
        self.exit = exit_
        self.has_died.set()
        with suppress(OSError), socket.socket(fileno=os.dup(self.pipe.fileno())) as twin:
            twin.shutdown(socket.SHUT_RD)
        return exit_


@dataclass(frozen=True, slots=True)
class Lease:
    """Seats held for one order; the slot of the first does the work, the others lend their cpus, gpus and quiet."""

    slot: Slot
    seats: tuple[Seat, ...]

    def order(self, envelopes: Sequence[Envelope], chosen: Mapping[str, str]) -> wire.Order:
        """Return the order for these envelopes with the resources of all seats."""
        cpus = tuple(core for seat in self.seats for core in seat.cpus)
        return wire.Order(tuple(envelopes), environment_of(self.seats, chosen=chosen), cpus)
