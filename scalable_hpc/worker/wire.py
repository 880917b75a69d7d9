"""What courier and slot say to each other over their pipe, as data.

An order crosses once, whatever it holds; its replies stream back one by one, so that a long bundle is reported
while it runs. ``Begun`` comes first; ``Finished`` comes last and says how many of the order's envelopes were begun.

Rule 1: plain data; functions, arguments and results are bytes here.
"""

from __future__ import annotations

import pickle
import select
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from scalable_hpc.cache.notes import NoteLines
from scalable_hpc.cache.store import SMALL, Staged
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import Ending, ExceptionFacts

STOP = b"stop"
"""Begin nothing more of the order in hand; meaningless, and ignored, between orders."""

INLINE_LIMIT = SMALL
"""Bytes up to which a result travels to the courier, which appends it to its pack; larger ones are files anyway."""


@dataclass(frozen=True, slots=True)
class Order:
    """Work for one slot."""

    envelopes: tuple[Envelope, ...]
    environment: dict[str, str] = field(default_factory=dict)
    cpus: tuple[int, ...] = ()
    """Cores to be bound to; empty: leave as it is."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The order is in hand and its first envelope runs; each further one runs as soon as the one before has ended."""


@dataclass(frozen=True, slots=True)
class Span:
    """When one envelope ran, and the most memory it held meanwhile."""

    started_at: float
    ended_at: float
    peak_memory: int
    is_cold: bool = False
    """The slot had not run this function before: what it imports is part of the time."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A small result, not durable yet."""

    number: int
    span: Span
    data: bytes
    note: NoteLines | None = None
    """What it was computed from, if that is to be kept beside it."""
    stray: str = ""
    """Why it must not go where its key leads."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A large result whose bytes the slot has made durable in the store; they have no key yet."""

    number: int
    span: Span
    staged: Staged
    note: NoteLines | None = None
    stray: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A large result that the slot has left on the node, under the envelope's key, and that is not to be stored."""

    number: int
    span: Span
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Raised:
    """An envelope that ended in an exception (EXCEPTION), or could not be taken or stored (REFUSED)."""

    number: int
    span: Span
    ending: Ending
    facts: ExceptionFacts
    was_told_to_end: bool = False
    """A signal that ends jobs came while it ran."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The order is done with; ``begun`` of its envelopes were begun."""

    begun: int


Reply = Begun | Computed | Laid | Held | Raised | Finished
Said = Computed | Laid | Held | Raised
"""What is said of one envelope."""


def result_in(reply: Said) -> bytes | Staged | None:
    """Return what is to be published of a reply."""
    match reply:
        case Computed(data=data):
            return data
        case Laid(staged=staged):
            return staged
        case Held() | Raised():
            return None


class Pipe:
    """One end of the pipe between a courier and a slot."""

    def __init__(self, descriptor: int) -> None:
        """Take over a connected stream socket."""
        self._connection = Connection(descriptor)
        self._poll = select.poll()  # Connection.poll makes a selector for each question, at ten times the price
        self._poll.register(descriptor, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor.

        Raises:
            OSError: the pipe was closed.
        """
        return self._connection.fileno()

    def send(self, message: Order | Reply) -> None:
        """Write one message.

        Raises:
            OSError: the other end is gone.
        """
        self._connection.send_bytes(pickle.dumps(message, protocol=5))

    def send_stop(self) -> None:
        """Write STOP.

        Raises:
            OSError: the other end is gone.
        """
        self._connection.send_bytes(STOP)

    def has_news(self, patience_s: float = 0.0) -> bool:
        """Wait for something to receive, be it the end; False when ``patience_s`` has passed."""
        return bool(self._poll.poll(1000 * patience_s))

    def receive(self) -> Order | Reply | None:
        """Read one message; None for STOP.

        Raises:
            EOFError: the other end is gone.
            OSError: likewise.
        """
        raw = self._connection.recv_bytes()
        return None if raw == STOP else pickle.loads(raw)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
