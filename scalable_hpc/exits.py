"""How a driver's process ends, and what is done about it: the run is closed before the interpreter is.

SIGTERM and SIGHUP end it for good. SIGUSR1 is a warning that its own time is over (``sbatch --signal``, a link of
``scalable-hpc submit``): it leaves its allocations to the run's next driver.

Rule 1: nothing is installed at import; a session does it when it starts, and undoes it when it is closed.
Rule 2: a handler that the user installed is never replaced.
"""

from __future__ import annotations

import atexit
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""SIGINT is Python's KeyboardInterrupt already."""
_WARNING = getattr(signal, "SIGUSR1", None)
_SIGNAL_BASE = 128
"""A shell's exit code for death by signal n is 128 + n."""
_TOGETHER_S = 1.0
"""Signals that come so close are one: at the end of its walltime a driver hears from batch system and chain at once,
and a second exception amid the first one's way out would break whatever lock is just being let go of."""
AGAIN = 75
"""Exit code of a driver that was warned: run me again (``EX_TEMPFAIL``)."""


class ExitWatch:
    """Calls ``close`` when the process ends: at the end of the script, by ``sys.exit``, or by a signal."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close: Callable[[], None] | None = close
        self.was_warned = False
        """Its time is over, its run's is not."""
        self._ended_at = -math.inf
        self._before: dict[signal.Signals, signal.Handlers] = {}
        # Threads cannot be started any more when atexit's functions run; these run before that, where Python has them.
        register = getattr(threading, "_register_atexit", atexit.register)
        register(self._at_exit)
        if threading.current_thread() is threading.main_thread():
            self._install()

    def end(self) -> None:
        """Stop watching."""
        self._close = None
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, before)
                elif signal.getsignal(number) == self._on_warning:
                    signal.signal(number, _too_late)
        self._before.clear()

    def _install(self) -> None:
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._on_signal)
                self._before[number] = signal.SIG_DFL
        if _WARNING is not None and signal.getsignal(_WARNING) in (signal.SIG_DFL, _too_late):
            signal.signal(_WARNING, self._on_warning)
            self._before[_WARNING] = signal.SIG_DFL

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """End the script as ``sys.exit`` does, so that its ``with`` and ``finally`` blocks run."""
        self._exit(_SIGNAL_BASE + number)

    def _on_warning(self, _number: int, _frame: FrameType | None) -> None:
        self.was_warned = True
        self._exit(AGAIN)

    def _exit(self, code: int) -> None:
        before, self._ended_at = self._ended_at, time.monotonic()
        if self._ended_at - before > _TOGETHER_S:
            sys.exit(code)

    def _at_exit(self) -> None:
        if self._close is not None:
            self._close()


def _too_late(_number: int, _frame: FrameType | None) -> None:
    """Take a warning that comes after the run was closed: the script is about to end well, and may."""
