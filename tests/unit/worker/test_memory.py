"""Laws of stopping attempts that hold too much memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker.memory import NODE_SHARE, MemoryGuard, Sample, Watched, choose

SAMPLES = st.lists(
    st.builds(Sample, st.uuids().map(str), st.integers(0, 2**40), st.none() | st.integers(1, 2**40)), max_size=20
)


@given(SAMPLES, st.none() | st.integers(1, 2**44))
def test_that_nobody_within_limits_is_stopped(samples, node_memory):
    """Stopped are those over their own limit, else the largest of a worker that is over its limit, else nobody."""
    chosen = choose(samples, node_memory=node_memory)

    greedy = [one for one in samples if one.allowed is not None and one.held > one.allowed]
    together = sum(one.held for one in samples)
    if greedy:
        assert [one.attempt for one in chosen] == [one.attempt for one in greedy]
    elif node_memory is not None and together > NODE_SHARE * node_memory:
        assert [one.held for one in chosen] == [max(one.held for one in samples)]
    else:
        assert chosen == []
    assert all(one.because for one in chosen)


@pytest.fixture
def hog():
    """A minder that holds 32 MiB, none of its slot's, and below it a process that holds 64 MiB; both pids."""
    holding = "import sys, time; block = bytearray(b'x') * (64 << 20); print('held', flush=True); time.sleep(600)"
    minding = f"""
import subprocess, sys
own = bytearray(b'x') * (32 << 20)
with subprocess.Popen([sys.executable, '-c', {holding!r}], stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    print(child.pid, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", minding], stdout=subprocess.PIPE) as minder:
        slot = int(minder.stdout.readline())
        yield minder.pid, slot
        with suppress(ProcessLookupError):
            os.kill(slot, signal.SIGKILL)


@pytest.mark.parametrize(("allowed", "is_stopped"), [(48 << 20, True), (90 << 20, False)])
def test_that_a_real_process_is_measured(hog, allowed, is_stopped):
    """Over its limit it is reported to be stopped, with what it held, its minder left out; within, only noted."""
    minder, slot = hog
    stopped, noted = [], threading.Event()
    has_stopped = threading.Event()

    def stop(excess):
        stopped.append(excess)
        os.kill(slot, signal.SIGKILL)
        has_stopped.set()

    guard = MemoryGuard(
        node_memory=None,
        running=lambda: [Watched("task.1", minder, allowed)],
        stop=stop,
        note=lambda attempt, held: noted.set() if (attempt, held > 64 << 20) == ("task.1", True) else None,
    )
    guard.start()
    assert noted.wait(10)
    if is_stopped:
        assert has_stopped.wait(10)
    guard.close()

    assert bool(stopped) == is_stopped
    assert all(excess.held > 64 << 20 for excess in stopped)
