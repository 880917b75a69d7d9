"""Laws of the bar for work in the caller's own thread, on a terminal of our own."""

from __future__ import annotations

import errno
import os
import pty
import sys
from collections.abc import Callable

import pytest

from scalable_hpc.telemetry.counting import counted


@pytest.fixture
def drawn(monkeypatch):
    """Return what work draws on a terminal that stands in the place of stderr."""

    def draw(work: Callable[[], object]) -> str:
        reader, writer = pty.openpty()
        with os.fdopen(writer, "w", buffering=1) as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            patch.setenv("TERM", "xterm")
            work()
        said = b""
        try:
            while chunk := os.read(reader, 1 << 16):  # what was written last may take the kernel a moment
                said += chunk
        except OSError as error:
            if error.errno != errno.EIO:  # the other end is closed
                raise
        finally:
            os.close(reader)
        return said.decode()

    return draw


def test_that_short_work_shows_nothing(drawn):
    """Nobody is told of what is over at once."""
    seen: list[int] = []

    assert drawn(lambda: seen.extend(counted(range(10_000), 10_000, "looking"))) == ""
    assert seen == list(range(10_000))


def test_that_long_work_shows_how_far_it_is(drawn):
    """Every item comes once, in order, and the bar says what is done and of how many."""
    seen: list[int] = []

    said = drawn(lambda: seen.extend(counted(range(2_000), 2_000, "looking", shown_after_s=0.0)))

    assert seen == list(range(2_000))
    assert ("looking" in said, "/2000" in said) == (True, True)


def test_that_a_bar_ends_when_the_work_fails(drawn):
    """The terminal is left as it was, cursor and all."""

    def fail() -> None:
        work = (1 // (1_000 - number) for number in range(2_000))
        with pytest.raises(ZeroDivisionError):
            list(counted(work, 2_000, "looking", shown_after_s=0.0))

    assert drawn(fail).endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
