"""What other threads want of the keeper, in the order they said it, and the bell that wakes its loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.model.tasks import Hit, Locator, TaskSpec

OnDone = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Submission:
    """A task to be run."""

    spec: TaskSpec
    on_done: OnDone


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A task that is no longer wanted."""

    task_id: str
    because: str


@dataclass(frozen=True, slots=True)
class Hits:
    """Calls that were answered from the store."""

    name: str
    count: int
    keys: bytes = b""
    """The first bytes of each one's key, as ``TasksHit`` has them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A result that is to be stored if only a worker holds it, computed again if nobody does."""

    task_id: str
    on_done: OnDone


@dataclass(frozen=True, slots=True)
class Renewal:
    """A stored result that its reader found damaged, to be made again."""

    spec: TaskSpec
    """Of a call that was answered from the cache too."""
    digest: str
    """Of the result that is damaged."""
    on_done: OnDone
    above: tuple[Hit, ...] = ()
    """What the call depends on that was answered from a store too."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A call that was answered from a store, and that one to come needs."""

    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class Finding:
    """A result that a store has of a task of an earlier driver, which its journal does not know of."""

    spec: TaskSpec
    result: Locator


@dataclass(frozen=True, slots=True)
class Surrender:
    """Nothing can be run any more."""

    error: ScalableError


Command = Submission | Cancellation | Hits | Reading | Renewal | Keeping | Finding | Surrender


class Inbox:
    """Commands from any thread; taken on the loop."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = asyncio.Event()
        self._is_rung = False
        self.is_closed = False

    def attach(self) -> None:
        """Let the bell ring on the running loop from now on."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        self.ring()

    def put(self, commands: Iterable[Command]) -> bool:
        """Add commands and ring; False when the keeper is closed and nobody will take them."""
        with self._lock:
            if self.is_closed:
                return False
            self._commands.extend(commands)
            self._ring_from_afar()
        return True

    def ring(self) -> None:
        """Wake the keeper; on the loop only."""
        self._bell.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for the bell, or that long."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._bell.wait(), timeout_s)
        self._bell.clear()

    def take(self, most: int) -> Iterator[Command]:
        """Yield up to that many commands; ring again if more are left."""
        with self._lock:
            self._is_rung = False
            taken = [self._commands.popleft() for _ in range(min(most, len(self._commands)))]
            if self._commands:
                self._bell.set()
        return iter(taken)

    def close(self) -> list[Command]:
        """Take no more, and return what nobody has taken."""
        with self._lock:
            self.is_closed = True
            left = list(self._commands)
            self._commands.clear()
        return left

    def _ring_from_afar(self) -> None:
        """Wake the loop once for however many commands: a wake-up costs a system call."""
        if self._loop is not None and not self._is_rung:
            self._is_rung = True
            self._loop.call_soon_threadsafe(self._bell.set)
