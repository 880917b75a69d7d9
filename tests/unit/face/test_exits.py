"""What a driver's signals do while a run lives, and after."""

from __future__ import annotations

import signal
import subprocess
import sys

from scalable_hpc.exits import AGAIN

SCRIPT = """
import os, signal, sys
from scalable_hpc.exits import ExitWatch
closed = []
watch = ExitWatch(lambda: closed.append(True))
{story}
print("to the end", len(closed), watch.was_warned)
"""


def run(story: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT.format(story=story)], capture_output=True, text=True)


def test_that_a_warning_ends_the_script_with_the_code_that_says_again():
    """As ``sys.exit`` does: the run is closed on the way."""
    warned = run("os.kill(os.getpid(), signal.SIGUSR1)")

    assert (warned.returncode, warned.stdout) == (AGAIN, "")


def test_that_signals_that_come_together_end_the_script_once():
    """The first one's code, and its way out is not cut short by the second one; that it is a warning is known."""
    story = """
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    os.kill(os.getpid(), signal.SIGUSR1)
    print("let go", watch.was_warned)
"""
    both = run(story)

    assert (both.returncode, both.stdout.strip()) == (128 + signal.SIGTERM, "let go True")


def test_that_a_warning_after_the_run_was_closed_changes_nothing():
    """The script prints its last lines and ends well: its chain must not take it for cut off."""
    late = run("watch.end(); os.kill(os.getpid(), signal.SIGUSR1)")

    assert (late.returncode, late.stdout.strip()) == (0, "to the end 0 False")


def test_that_the_next_run_of_a_script_is_warned_again():
    """A session after a session."""
    again = run("watch.end(); watch = ExitWatch(lambda: None); os.kill(os.getpid(), signal.SIGUSR1)")

    assert again.returncode == AGAIN


def test_that_a_users_own_handler_is_left_alone():
    """Whatever it is for."""
    own = run("watch.end(); signal.signal(signal.SIGUSR1, lambda *_: print('mine')); ExitWatch(lambda: None)\n"
              "os.kill(os.getpid(), signal.SIGUSR1)")  # fmt: skip

    assert own.stdout.splitlines()[0] == "mine"
    assert own.returncode == 0


def test_that_ended_means_undone_for_the_signals_that_end():
    """A run that is over takes no signal of the script's."""
    ended = run("watch.end(); os.kill(os.getpid(), signal.SIGTERM)")

    assert ended.returncode == -signal.SIGTERM
