"""The live display of a run on a terminal, and plain lines where there is none; in a thread of its own.

Rule 1: it looks, at most twice a second, and changes nothing; when there is nothing to look at any more it ends.
Rule 2: everything goes to stderr: stdout belongs to the driver script.
Rule 3: rich is imported when a terminal is drawn on, not before.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from scalable_hpc.model.fleet import AllocationView
from scalable_hpc.telemetry.frame import Counts, Frame, draw_frame, say_counts, say_fleet

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

logger = logging.getLogger(__name__)

Look = Callable[[], tuple[Counts, Sequence[AllocationView]]]
"""Tells how far the run is; called in the display's thread. Whatever it raises ends the display."""

DRAW_EVERY_S = 0.5
"""Quick enough to seem live; each look takes a turn on the engine's loop."""
LINE_EVERY_S = 10.0
"""Between two plain lines: a log of an hour stays readable."""
_BAR_WIDTH = 32
_COLOURS = {
    "live": "green",
    "draining": "yellow",
    "starting": "cyan",
    "pending": "blue",
    "submitting": "blue",
    "closing": "magenta",
    "ended": "dim",
}


class Screen(Protocol):
    """Where the display shows itself."""

    def show(self, counts: Counts, allocations: Sequence[AllocationView], now: float) -> None:
        """Show how far the run is."""

    def close(self) -> None:
        """Leave the last state on the screen."""


class PlainScreen:
    """One line at a time, for logs: when something changed, and no more often than every ten seconds."""

    def __init__(self, stream: TextIO, every_s: float = LINE_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s
        self._shown_at: float | None = None
        self._shown = ""
        self._pending = ""

    def show(self, counts: Counts, allocations: Sequence[AllocationView], now: float) -> None:
        """Print a line if it is time."""
        tasks = say_counts(counts)
        self._pending = f"scalable-hpc: {tasks}; {say_fleet(allocations, now)}"
        if tasks != self._shown and (self._shown_at is None or now - self._shown_at >= self._every_s):
            self._print(tasks, now)

    def close(self) -> None:
        """Print the last state, if it was not."""
        if self._pending:
            self._print("", 0.0)

    def _print(self, tasks: str, now: float) -> None:
        print(self._pending, file=self._stream, flush=True)
        self._pending, self._shown, self._shown_at = "", tasks, now


class LiveScreen:
    """A bar and a table that are drawn over and over in the same place."""

    def __init__(self, console: Console, title: str) -> None:
        from rich.live import Live

        self._title = title
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stderr=True,
            # What the driver prints goes above the display; but into a file it must go as it is.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()

    def show(self, counts: Counts, allocations: Sequence[AllocationView], now: float) -> None:
        """Draw anew."""
        self._live.update(_render(self._title, draw_frame(counts, allocations, now)), refresh=True)

    def close(self) -> None:
        """Leave the last drawing where it is."""
        self._live.stop()


def open_screen(title: str, stream: TextIO) -> Screen:
    """Return a live screen on a terminal, a plain one elsewhere; ``NO_COLOR`` is followed, ``TERM=dumb`` is plain."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return PlainScreen(stream)
    from rich.console import Console

    return LiveScreen(Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")), highlight=False), title)


class ProgressDisplay:
    """Shows a run until it is stopped."""

    def __init__(
        self,
        look: Look,
        title: str,
        *,
        screen: Screen | None = None,
        clock: Callable[[], float] = time.time,
        every_s: float = DRAW_EVERY_S,
    ) -> None:
        self._look = look
        self._screen = screen or open_screen(title, sys.stderr)
        self._clock = clock
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scalable-hpc progress", daemon=True)

    def start(self) -> None:
        """Begin to show."""
        self._thread.start()

    def stop(self) -> None:
        """Show the last state, leave it, and end; a second call does nothing."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._every_s):
                self._show()
            self._show()
        except Exception:
            # A display must never end a run: it says so and is gone.
            logger.warning("The progress display ended; the run goes on", exc_info=True)
        finally:
            self._screen.close()

    def _show(self) -> None:
        counts, allocations = self._look()
        self._screen.show(counts, allocations, self._clock())


def _render(title: str, frame: Frame) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, frame.total), completed=frame.done, width=_BAR_WIDTH)
    head.add_row(Text(title, style="bold"), bar, Text(f"{frame.done:,}/{frame.total:,}"))
    parts: list[RenderableType] = [head, Text(frame.tasks)]
    if frame.lines:
        table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
        for column in ("allocation", "state", "busy", "time left"):
            table.add_column(column, no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True, style="dim")
        for line in frame.lines:
            state = Text(line.state, style=_COLOURS.get(line.state, ""))
            table.add_row(line.name, state, line.slots, line.left, Text(line.because))
        parts.append(table)
    if frame.rest:
        parts.append(Text(frame.rest, style="dim"))
    return Group(*parts)
