"""Laws of single flight: who wants one result at once computes it once, and nobody waits for what will not come."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scalable_hpc.cache.decorator import cacheable, set_default_store_root
from scalable_hpc.cache.flight import FIRST_LOOK_S, Flight
from scalable_hpc.cache.shared import default_store
from tests.cache_support import ROOT
from tests.waiting import wait_until

KEY = "ab" * 32
OTHER = "cd" * 32
RUNS: list[object] = []


@pytest.fixture(autouse=True)
def root(tmp_path):
    """A store of this test's own."""
    set_default_store_root(tmp_path / "cache")
    RUNS.clear()
    yield tmp_path / "cache"
    default_store().close()
    set_default_store_root(None)


def start(program: str, *args: object) -> subprocess.Popen:
    """Run text as a program, in a process that goes on by itself."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


CALLER = """
    import os, sys, time
    from scalable_hpc.cache.decorator import cacheable, set_default_store_root
    set_default_store_root(sys.argv[1])

    @cacheable
    def slow(x):
        print("computes", flush=True)
        time.sleep({seconds})
        return 2 * x

    print("ready", flush=True)
    print(slow(21), flush=True)
"""


def test_that_simultaneous_processes_compute_a_call_once(tmp_path):
    """Six callers, one execution, six results."""
    program = CALLER.format(seconds=1.0)
    callers = [start(program, tmp_path / "cache") for _ in range(6)]
    said = [caller.communicate(timeout=60)[0].split() for caller in callers]

    assert [words[-1] for words in said] == ["42"] * 6
    assert sum(words.count("computes") for words in said) == 1
    assert len(list((tmp_path / "cache" / "v1" / "locks").iterdir())) == 1


def test_that_the_death_of_an_owner_frees_those_who_wait(tmp_path):
    """One of them succeeds it; the others get that one's result."""
    owner = start(CALLER.format(seconds=100), tmp_path / "cache")
    assert [owner.stdout.readline(), owner.stdout.readline()] == ["ready\n", "computes\n"]
    waiters = [start(CALLER.format(seconds=0.5), tmp_path / "cache") for _ in range(3)]
    for waiter in waiters:
        assert waiter.stdout.readline() == "ready\n"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    said = [waiter.communicate(timeout=60)[0].split() for waiter in waiters]

    assert [words[-1] for words in said] == ["42"] * 3
    assert sum(words.count("computes") for words in said) == 1


def test_that_threads_compute_a_call_once():
    """Eight threads of one process, one execution."""
    barrier = threading.Barrier(8)

    @cacheable(ignore="RUNS")
    def slow(x):
        RUNS.append(x)
        time.sleep(0.2)
        return x + 1

    def ask(_):
        barrier.wait()
        return slow(1)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(ask, range(8)))

    assert (results, RUNS) == ([2] * 8, [1])


def waiting_threads() -> int:
    """How many threads of this process wait for another one's computation, and have looked again at least once."""
    found = 0
    for top in list(sys._current_frames().values()):
        frame = top
        while frame is not None and frame.f_code is not Flight._wait.__code__:
            frame = frame.f_back
        found += frame is not None and frame.f_locals.get("pause", 0.0) > FIRST_LOOK_S
    return found


def test_that_those_who_waited_in_vain_go_on_at_once():
    """When the owner's call raises, the others do not fail one after the other."""
    together = threading.Barrier(3)

    @cacheable(ignore=("RUNS", "together", "begun", "waiting_threads", "wait_until"))
    def failing():
        RUNS.append(1)
        if len(RUNS) == 1:
            begun.set()
            wait_until("the others wait", lambda: waiting_threads() == 3, timeout=60, every=0.01)
        else:
            together.wait(timeout=60)  # none of them gets past this alone
        raise KeyError("no")

    begun = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(failing)
        begun.wait()
        others = [pool.submit(failing) for _ in range(3)]

    assert {type(each.exception()) for each in (first, *others)} == {KeyError}
    assert len(RUNS) == 4


def test_that_a_call_that_makes_itself_again_does_not_wait_for_itself():
    """The key does not show what is ignored, so that a call may meet its own key again."""

    @cacheable(ignore=("depth", "RUNS"))
    def dig(x, depth):
        RUNS.append(depth)
        return x if depth == 0 else dig(x, depth - 1)

    assert (dig(5, 3), RUNS) == (5, [3, 2, 1, 0])


def test_that_calls_that_may_recur_do_not_wait_for_each_other_in_a_ring(tmp_path):
    """Two threads, each holding what the other one wants: the call that may recur goes ahead."""
    inside = threading.Barrier(2)

    def holding(mine, wanted):
        with Flight(tmp_path, mine, may_recur=True):
            inside.wait()
            with Flight(tmp_path, wanted, may_recur=True):
                return True

    with ThreadPoolExecutor(2) as pool:
        rings = [pool.submit(holding, KEY, OTHER), pool.submit(holding, OTHER, KEY)]
        assert [ring.result(timeout=20) for ring in rings] == [True, True]


def test_that_nested_calls_wait_where_no_ring_can_be(tmp_path):
    """Who holds one call waits for another that is shown whole by its key."""
    order = []
    inside = threading.Event()

    def first():
        with Flight(tmp_path, KEY, may_recur=False) as flight:
            flight.begin()
            inside.set()
            time.sleep(0.1)
            order.append("first")
            flight.land()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(first)
        inside.wait()
        with Flight(tmp_path, OTHER, may_recur=True), Flight(tmp_path, KEY, may_recur=False):
            order.append("second")
        done.result()

    assert order == ["first", "second"]


def test_that_a_forked_child_does_not_keep_its_parents_locks(tmp_path):
    """A child that lives on after its parent was killed delays nobody."""
    program = """
        import os, sys, time
        from pathlib import Path
        from scalable_hpc.cache.flight import Flight
        with Flight(Path(sys.argv[1]), sys.argv[2], may_recur=False):
            if os.fork() == 0:
                print(os.getpid(), flush=True)
                time.sleep(30)
                os._exit(0)
            time.sleep(30)
    """
    owner = start(program, tmp_path, KEY)
    child = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    begun = time.monotonic()
    with Flight(tmp_path, KEY, may_recur=False):
        waited = time.monotonic() - begun
    os.kill(child, signal.SIGKILL)
    owner.stdout.close()

    assert waited < 5


@pytest.mark.parametrize("broken", ["no locks", "no directory"])
def test_that_calls_are_answered_where_no_lock_is_to_be_had(tmp_path, root, monkeypatch, broken):
    """A file system without locks, or a directory that cannot be made: everybody computes."""

    @cacheable(ignore="RUNS")
    def add(x):
        RUNS.append(x)
        return x + 1

    if broken == "no locks":

        def refuse(*_):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(fcntl, "fcntl", refuse)
    else:
        (root / "v1").mkdir(parents=True)
        (root / "v1" / "locks").write_text("")

    assert (add(1), add(1), RUNS) == (2, 2, [1])


def test_that_no_lock_file_stays_open():
    """Neither after a result nor after an exception."""

    @cacheable
    def divide(x, y):
        return x / y

    divide(1, 2)
    count = open_files()
    for number in range(20):
        divide(1, number + 3)
        with pytest.raises(ZeroDivisionError):
            divide(number, 0)

    assert open_files() == count
