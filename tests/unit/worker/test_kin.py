"""Laws of finding the processes that belong together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker import kin
from scalable_hpc.worker.kin import ProcessFacts


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_that_descent_is_followed_to_its_end(parents):
    """Exactly those whose chain of parents leads to a root, also through processes listed later."""
    table = [ProcessFacts(pid, parent, 0, 0) for pid, parent in enumerate(parents, start=100)]
    table = [ProcessFacts(one.pid, one.parent + 100 if one.parent < len(parents) else 1, 0, 0) for one in table]
    parent_of = {one.pid: one.parent for one in table}

    found = kin.descendants([100], table)

    def leads_to_root(pid):
        seen = set()
        while pid in parent_of and pid != 100 and pid not in seen:
            seen.add(pid)
            pid = parent_of[pid]
        return pid == 100

    assert found == {pid for pid in parent_of if leads_to_root(pid)}


@pytest.fixture
def family():
    """A process with a child that has left its session and a grandchild; all print their pids."""
    with subprocess.Popen(
        [sys.executable, "-c", tree(2)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MARK_OF_TEST": "family-1"},
    ) as root:
        pids = [int(root.stdout.readline()) for _ in range(3)]
        yield root.pid, pids
        kin.kill_all(pids)


def tree(depth):
    child = (
        f"subprocess.Popen([sys.executable, '-c', {tree(depth - 1)!r}], start_new_session=True)" if depth else "None"
    )
    return f"import os, subprocess, sys, time\nchild = {child}\nprint(os.getpid(), flush=True)\ntime.sleep(600)"


def test_that_children_that_left_the_group_are_found(family):
    """By descent in the process table, and without it."""
    root, pids = family

    assert kin.descendants([root], kin.process_table()) == set(pids)
    assert kin.family(root) == set(pids)
    assert {kin.carries_mark(pid, "MARK_OF_TEST=family-1") for pid in pids} == {True}
    assert not kin.carries_mark(root, "MARK_OF_TEST=family")


def test_that_killing_spares_no_one_and_minds_no_gap(family):
    """All are dead, and killing them again is no error."""
    _, pids = family

    kin.kill_all(pids)
    kin.kill_all(pids)
    kin.kill_group(pids[0])

    ends = time.monotonic() + 10
    while any(kin.resident_bytes(pid) for pid in pids) and time.monotonic() < ends:
        time.sleep(0.01)
    assert [kin.resident_bytes(pid) for pid in pids] == [0, 0, 0]


def test_that_shared_memory_is_divided_among_its_holders():
    """What a parent and its forked child share counts once for both together."""
    block = bytearray(os.urandom(1 << 20) * 32)
    alone = kin.proportional_bytes(os.getpid())
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        together = kin.proportional_bytes(os.getpid()) + kin.proportional_bytes(child)
        resident = kin.resident_bytes(os.getpid()) + kin.resident_bytes(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert together < alone + len(block) // 2
    assert resident > together + len(block) // 2


def test_that_a_process_that_is_gone_holds_nothing():
    """Between two looks anything may end."""
    with subprocess.Popen(["true"]) as gone:
        pass

    assert kin.resident_bytes(gone.pid) == kin.proportional_bytes(gone.pid) == 0
    assert kin.family(gone.pid) == {gone.pid}
    assert not kin.carries_mark(gone.pid, "A=1")
