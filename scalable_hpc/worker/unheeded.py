"""The signals that a batch system sends to every process of a job that is about to end, and our deafness to them.

What runs may use its grace time: only the launcher acts on them. Slots, nursery and courier take note and go on.

Rule 1: a Python handler that does nothing, never SIG_IGN, which every program that user code starts would inherit.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Unheeded:
    """Deafness of one process, and whether there was anything to hear."""

    def __init__(self) -> None:
        self.was_told_to_end = False
        """Whether one that means the end (not a warning) has come since this was last set to False."""
        self._blocked = threading.local()

    def begin(self) -> None:
        """Heed nothing from now on, nor what was blocked until now; also undoes what user code has changed."""
        for number in SIGNALS:
            if signal.getsignal(number) != self._take_note:
                signal.signal(number, self._take_note)
                signal.siginterrupt(number, False)

    def begin_blocked(self) -> None:
        """Like ``begin`` in a process that was started with signals blocked: lets them come now.

        All of them: the launcher blocks SIGCHLD too, and without it the nursery would not hear of a slot's death.
        """
        self.begin()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def spare_children(self) -> None:
        """Give forked children the usual handlers back: ``multiprocessing`` ends its workers with SIGTERM.

        The signals are blocked meanwhile: one that came between fork and handler would be unheeded, and lost.
        """
        os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._heed_again)

    def _take_note(self, number: int, _: FrameType | None) -> None:
        self.was_told_to_end = self.was_told_to_end or number != signal.SIGUSR1

    def _block(self) -> None:
        self._blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked.before)

    def _heed_again(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) == self._take_note:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        self._unblock()
