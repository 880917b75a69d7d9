"""A timeout ends what nothing else would, and costs the slot that ran it and nobody else."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cloudpickle
import psutil
import pytest

from scalable_hpc.cache.serial import loads
from scalable_hpc.model.messages import AttemptDone
from scalable_hpc.model.tasks import Ending, Receipt
from tests.worker_bench import CourierBench

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def bench(tmp_path):
    with CourierBench(tmp_path, slots=2) as bench:
        yield bench


def loop_for_ever(pids):
    """A pure-Python loop that swallows whatever is raised in it."""
    Path(pids).write_text(str(os.getpid()))
    while True:
        with suppress(BaseException):
            while True:
                pass


def call_for_ever(pids):
    """A C call that never returns and never gives the GIL back: no thread of this process can do anything."""
    Path(pids).write_text(str(os.getpid()))
    ctypes.PyDLL(None).pause()


def wait_for_a_tree(pids):
    """Children and their children, each in a session of its own and deaf to SIGTERM."""
    script = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "depth = int(sys.argv[1])\n"
        "open(sys.argv[2], 'a').write(f'{os.getpid()} ')\n"
        "if depth: subprocess.Popen([sys.executable, __file__, str(depth - 1), sys.argv[2]], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    program = Path(pids).with_suffix(".py")
    program.write_text(script)
    with Path(pids).open("a") as file:
        file.write(f"{os.getpid()} ")
    subprocess.run([sys.executable, str(program), "2", pids], start_new_session=True)


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()


@pytest.mark.parametrize(("endless", "processes"), [(loop_for_ever, 1), (call_for_ever, 1), (wait_for_a_tree, 4)])
def test_that_a_timeout_ends_it_with_all_its_processes_and_its_neighbour_goes_on(bench, tmp_path, endless, processes):
    """Within a second of its timeout; the neighbour keeps its slot, and the seat has another slot at once."""
    pids = tmp_path / "pids"
    neighbour = bench.envelope(wait_for, str(tmp_path / "release"))
    carried = bench.send(neighbour)
    bench.until_running(neighbour)
    [its_slot] = [one.lease.slot for one in bench.courier.running()]

    [ended] = bench.run(bench.envelope(endless, str(pids), timeout_s=2.0))
    [next_one] = bench.run(bench.envelope(os.getpid))

    assert ended.ending is Ending.TIMEOUT
    assert 2.0 <= ended.ran_s < 4.0
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == processes
    bench.until(lambda: not any(is_alive(pid) for pid in started))
    assert isinstance(next_one, Receipt)
    assert [one.lease.slot for one in bench.courier.running()] == [its_slot]
    (tmp_path / "release").touch()
    carried.result(30)
    [told] = [done.receipt for done in bench.heard(AttemptDone) if done.receipt.attempt == neighbour.attempt]
    assert loads(told.result.inline) == its_slot.pid


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
