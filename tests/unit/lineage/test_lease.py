"""One writer per run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.lineage.lease import HEARTBEAT_NAME, STALE_S, Holder, Lease, read_holder, this_process
from tests.unit.lineage.support import NOW, Clock

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from scalable_hpc.lineage.lease import Lease\n"
    "lease = Lease.take(Path(sys.argv[1]))\n"
    "print('held', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def first_driver(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    yield driver
    driver.kill()
    driver.wait()
    driver.stdout.close()


def elsewhere(beat: float) -> Holder:
    return Holder("login2", 4711, NOW - 1000, beat)


def leave_heartbeat(run_dir, holder: Holder) -> None:
    fields = {"host": holder.host, "pid": holder.pid, "started": holder.started, "beat": holder.beat}
    (run_dir / HEARTBEAT_NAME).write_text(json.dumps(fields))


def test_that_a_second_driver_is_refused_and_the_first_one_named(tmp_path, first_driver):
    """The error says which process on which host has it."""
    with pytest.raises(RunDirectoryError, match=f"process {first_driver.pid} on {os.uname().nodename}"):
        Lease.take(tmp_path)


def test_that_a_killed_driver_holds_nothing(tmp_path, first_driver):
    """After SIGKILL its successor takes over at once, however fresh the heartbeat."""
    os.kill(first_driver.pid, signal.SIGKILL)
    first_driver.wait()
    lease = Lease.take(tmp_path)

    assert read_holder(tmp_path).pid == os.getpid()
    lease.release()


def test_that_two_sessions_of_one_process_exclude_each_other(tmp_path):
    """A lock that only other processes respect would not do."""
    lease = Lease.take(tmp_path)

    with pytest.raises(RunDirectoryError, match=str(os.getpid())):
        Lease.take(tmp_path)
    lease.release()
    Lease.take(tmp_path).release()


def test_that_a_fresh_heartbeat_from_another_host_is_respected(tmp_path):
    """Where a file system does not tell one node of another's lock, the heartbeat decides."""
    leave_heartbeat(tmp_path, elsewhere(beat=NOW - STALE_S + 1))

    with pytest.raises(RunDirectoryError, match="process 4711 on login2"):
        Lease.take(tmp_path, clock=Clock())


def test_that_a_stale_heartbeat_from_another_host_is_not(tmp_path):
    """A driver whose node died does not hold its run for ever."""
    leave_heartbeat(tmp_path, elsewhere(beat=NOW - STALE_S - 1))

    Lease.take(tmp_path, clock=Clock()).release()


def test_that_a_refused_driver_leaves_no_lock(tmp_path):
    """Once the other heartbeat is stale, the refused one may try again."""
    leave_heartbeat(tmp_path, elsewhere(beat=NOW))
    clock = Clock()
    with pytest.raises(RunDirectoryError):
        Lease.take(tmp_path, clock=clock)
    clock.now += STALE_S + 1

    Lease.take(tmp_path, clock=clock).release()


def test_that_a_beat_is_new_and_private(tmp_path):
    """The heartbeat moves with the clock and is nobody else's to read."""
    clock = Clock()
    lease = Lease.take(tmp_path, clock=clock)
    clock.now += 10
    lease.beat()

    assert read_holder(tmp_path).beat == clock.now
    assert (tmp_path / HEARTBEAT_NAME).stat().st_mode & 0o777 == 0o600
    lease.release()
    assert read_holder(tmp_path) is None


def test_that_release_leaves_anothers_heartbeat_alone(tmp_path):
    """A driver that was taken for dead and comes to itself must not erase its successor's."""
    lease = Lease.take(tmp_path, clock=Clock(), me=this_process(NOW))
    leave_heartbeat(tmp_path, elsewhere(NOW))
    lease.release()

    assert read_holder(tmp_path).host == "login2"


def test_that_a_missing_directory_is_told(tmp_path):
    """Not a traceback of the lock library."""
    with pytest.raises(RunDirectoryError, match="missing"):
        Lease.take(tmp_path / "missing")


def test_that_an_unreadable_heartbeat_is_no_holder(tmp_path):
    """Half a file is not a driver."""
    (tmp_path / HEARTBEAT_NAME).write_text('{"host": "login2", "pi')

    assert read_holder(tmp_path) is None
    Lease.take(tmp_path).release()
