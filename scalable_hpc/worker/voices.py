"""Passes what slots write to stderr on to the allocation's log, and keeps the end of it for evidence.

``faulthandler`` in the slot writes the Python stack of a segfault there, so the tail often names the line.

Rule 1: one thread for all slots; what it does per chunk is a copy and a write.
"""

from __future__ import annotations

import os
import selectors
import threading
from contextlib import suppress

TAIL_BYTES = 4096
"""Two screens: what a person reads of a log before scrolling."""
_CHUNK = 1 << 16


class Voice:
    """The stderr of one slot."""

    def __init__(self) -> None:
        self.listening_end, self.speaking_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.listening_end, False)
        self._tail = bytearray()
        self._lock = threading.Lock()
        self._is_open = True

    def forget(self) -> None:
        """Begin a new tail: what follows belongs to another order."""
        self.listen()
        with self._lock:
            self._tail.clear()

    def tail(self) -> str:
        """Return the end of what was said since ``forget``."""
        self.listen()
        with self._lock:
            return self._tail.decode(errors="replace")

    def listen(self) -> bool:
        """Take in what there is; False when nobody will ever speak again."""
        with self._lock:
            while self._is_open:
                try:
                    chunk = os.read(self.listening_end, _CHUNK)
                except BlockingIOError:
                    return True
                if not chunk:
                    return False
                self._tail += chunk
                del self._tail[:-TAIL_BYTES]
                with suppress(OSError):  # the log's file system is full or gone: the slot is not to suffer for it
                    os.write(2, chunk)
            return False

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self.listening_end)


class Listener:
    """The thread that listens to all voices."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._bell_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="scalable-hpc-voices", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, voice: Voice) -> None:
        """Listen to one more."""
        with self._lock:
            self._selector.register(voice.listening_end, selectors.EVENT_READ, voice)

    def drop(self, voice: Voice) -> None:
        """Listen to it no more; what was said until now has been taken in."""
        voice.listen()
        with self._lock, suppress(KeyError, ValueError):
            self._selector.unregister(voice.listening_end)
        voice.close()

    def close(self) -> None:
        """End the thread."""
        os.write(self._bell_end, b".")
        self._thread.join()
        self._selector.close()
        os.close(self._bell)
        os.close(self._bell_end)

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                voice: Voice | None = key.data
                if voice is None:
                    return
                if not voice.listen():
                    with self._lock, suppress(KeyError, ValueError):
                        self._selector.unregister(voice.listening_end)
