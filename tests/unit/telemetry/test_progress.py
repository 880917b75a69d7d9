"""The live display, on a terminal and without one."""

import io
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
from rich.console import Console

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView
from scalable_hpc.telemetry.frame import LINES_MOST, draw_frame, say_counts, say_fleet
from scalable_hpc.telemetry.progress import LiveScreen, PlainScreen, ProgressDisplay, open_screen

S = AllocationState


@dataclass(frozen=True)
class Counts:
    done: int = 0
    running: int = 0
    waiting: int = 0
    failed: int = 0
    cancelled: int = 0
    hits: int = 0
    excluded: tuple[str, ...] = ()
    budget: str = ""


def allocation(name, state=S.LIVE, **more):
    facts = {"slots": 4, "walltime_s": 60, "submitted_at": 0.0, "because": "a worker registered"}
    if state is S.LIVE:
        facts |= {"live_slots": 4, "busy": 3, "ends_at": 160.0}
    return AllocationView(name=name, worker_type="cpu", state=state, **(facts | more))


FLEET = (
    allocation("a0002", S.PENDING, pending_because="Resources"),
    allocation("a0001"),
)
SOME = Counts(done=12, running=3, waiting=45, failed=1, hits=40)


def test_that_hosts_that_are_kept_away_from_are_named():
    """Whoever watches should know that a node is bad."""
    assert say_counts(Counts(done=1, excluded=("n07", "n12"))).endswith(", keeps away from n07, n12")
    assert "keeps away" not in say_counts(Counts(done=1))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_that_hits_are_part_of_what_was_asked_for():
    """A run whose every call is known is complete at once."""
    frame = draw_frame(Counts(hits=40), (), 0.0)

    assert (frame.done, frame.total) == (40, 40)


def test_that_an_allocation_shows_its_state_slots_and_time_left():
    """Live ones first; a pending one says what it waits for."""
    first, second = draw_frame(SOME, FLEET, 100.0).lines

    assert (first.name, first.state, first.slots, first.left) == ("a0001", "live", "3/4", "00:01:00")
    assert (second.name, second.slots, second.left, second.because) == ("a0002", "-", "", "Resources")


def test_that_a_large_fleet_is_summed_up():
    """Two hundred allocations do not scroll the terminal away."""
    fleet = [allocation(f"a{n:04d}", S.LIVE if n < 150 else S.PENDING) for n in range(200)]

    frame = draw_frame(SOME, fleet, 100.0)

    assert len(frame.lines) == LINES_MOST
    assert frame.rest == f"and {200 - LINES_MOST} more: {150 - LINES_MOST} live, 50 pending"


def test_that_counts_and_fleet_are_said_in_words():
    """What is shown needs no colour and no table."""
    assert say_counts(SOME) == "12 done, 3 running, 45 waiting, 1 failed, 40 cache hits"
    assert say_fleet(FLEET, 100.0) == "1 live (3 of 4 slots busy, first ends in 00:01:00), 1 pending"
    assert say_fleet((), 100.0) == "no allocations"


def test_that_without_a_terminal_there_are_lines_now_and_then():
    """At most one line in ten seconds, none when nothing changed, and the last state at the end."""
    stream = io.StringIO()
    screen = open_screen("run", stream)
    for now, done in [(0, 0), (1, 1), (9.9, 2), (10, 3), (30, 3), (31, 4), (32, 5)]:
        screen.show(Counts(done=done), (), now)
    screen.close()

    assert isinstance(screen, PlainScreen)
    said = [line.split(",")[0] for line in stream.getvalue().splitlines()]
    assert said == [f"scalable-hpc: {done} done" for done in (0, 3, 4, 5)]


def test_that_a_dumb_terminal_gets_plain_lines(monkeypatch):
    """What cannot move its cursor is written to like a log."""
    monkeypatch.setenv("TERM", "dumb")

    assert isinstance(open_screen("run", Terminal()), PlainScreen)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_that_a_terminal_gets_a_picture_and_no_colour_where_none_is_wanted(monkeypatch, no_color):
    """The picture says everything in words; ``NO_COLOR`` takes the colours away, nothing else."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    screen = open_screen("scalable-hpc", stream)
    screen.show(SOME, FLEET, 100.0)
    screen.close()

    drawn = stream.getvalue()
    for words in ("12 done", "a0001", "live", "3/4", "00:01:00", "pending", "Resources", "40 cache hits"):
        assert words in drawn
    assert ("\x1b[32m" in drawn) == (no_color == "")


def test_that_the_last_state_stays_on_the_screen():
    """The display is looked at once more when it stops."""
    shown = []
    drawn = threading.Event()

    class Screen:
        def show(self, counts, allocations, now):
            shown.append((counts.done, len(allocations), now))
            drawn.set()

        def close(self):
            shown.append("closed")

    done = iter(range(100))
    display = ProgressDisplay(
        lambda: (Counts(done=next(done)), FLEET), "run", screen=Screen(), clock=lambda: 5.0, every_s=0.001
    )
    display.start()
    assert drawn.wait(10)
    display.stop()
    display.stop()

    assert shown[0] == (0, 2, 5.0)
    assert shown[-1] == "closed"
    assert shown[-2][0] == len(shown) - 2


def test_that_a_display_that_cannot_look_ends_and_the_run_goes_on(caplog):
    """Whatever goes wrong in the display is said once and hurts nobody."""
    stream = io.StringIO()

    def gone():
        raise RuntimeError("the loop is closed")

    display = ProgressDisplay(gone, "run", screen=PlainScreen(stream), every_s=0.001)
    display.start()
    display.stop()

    assert stream.getvalue() == ""
    assert "The progress display ended" in caplog.text


def test_that_a_live_screen_draws_in_place():
    """The second drawing replaces the first one."""
    stream = Terminal()
    screen = LiveScreen(Console(file=stream, force_terminal=True, width=100, color_system=None), "run")
    screen.show(Counts(done=1, waiting=1), (), 0.0)
    screen.show(Counts(done=2), (), 0.0)
    screen.close()

    assert "2/2" in stream.getvalue()
    assert "\x1b[1A" in stream.getvalue()


def test_that_rich_is_imported_only_where_a_terminal_is_drawn_on():
    """Importing the display is quick; without a terminal rich is never needed."""
    code = (
        "import sys, io; from scalable_hpc.telemetry.progress import open_screen;"
        "open_screen('run', io.StringIO()); assert 'rich' not in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_that_a_waiting_allocation_says_why_and_for_how_long():
    """The scheduler's reason and forecast stand in its line."""
    seen = AllocationView(
        "a1", "cpu", AllocationState.PENDING, 4, 60, 0.0, pending_because="Resources", expected_start=820.0
    )

    [line] = draw_frame(Counts(waiting=1), [seen], 100.0).lines

    assert line.because == "Resources, may start in 00:12:00"
