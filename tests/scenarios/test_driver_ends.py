"""However a driver ends short of SIGKILL, its journal is closed; its allocations are given back, or left on purpose."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

from scalable_hpc.exits import AGAIN
from scalable_hpc.model.events import AllocationChanged, ReceiptTaken, RunClosed
from tests.ensembles import make_ensemble, of_kind
from tests.processes import processes_naming
from tests.waiting import wait_until

LOCAL = {"provider": "local", "capacity": {"cpus": 2}, "allocations": {"max": 1, "walltime": "00:05:00"}}


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGHUP, 128 + signal.SIGHUP, id="SIGHUP"),
        pytest.param(signal.SIGINT, -signal.SIGINT, id="SIGINT"),
    ],
)
def test_that_a_signalled_driver_closes_its_journal_and_gives_back_its_allocations(tmp_path, number, code):
    """The exit code is the shell's for that signal, nothing of the run is left running."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=50, seconds=0.3, cpus=2)
    driver = ensemble.start()
    try:
        wait_until("two scenarios done", lambda: len(ensemble.counted("end")) >= 2, timeout=60)
        os.kill(driver.pid, number)
        _, err = driver.communicate(timeout=60)
    finally:
        driver.kill()
    events = ensemble.events()

    assert driver.returncode == code, err
    assert len(of_kind(events, RunClosed)) == 1
    last = {event.name: event.state for event in of_kind(events, AllocationChanged)}
    assert set(last.values()) == {"ended"}
    assert processes_naming(str(ensemble.runs[0].path)) == []
    assert not ensemble.runs[0].is_open


def test_that_a_warned_driver_leaves_its_allocations_to_the_next(tmp_path):
    """SIGUSR1: exit code 75, what runs goes on, the script started again takes it over and runs nothing twice."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=12, seconds=1.5, cpus=2)
    driver = ensemble.start()
    try:
        wait_until("two scenarios done", lambda: len(ensemble.counted("end")) >= 2, timeout=60)
        os.kill(driver.pid, signal.SIGUSR1)
        _, err = driver.communicate(timeout=60)
    finally:
        driver.kill()

    assert driver.returncode == AGAIN, err
    assert ensemble.runs[0].is_open
    assert {path.name for path in (ensemble.runs[0].path / "security").iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    again = ensemble.run()
    assert again.returncode == 0, again.stderr
    assert len(ensemble.runs) == 1
    assert {event.name for event in of_kind(ensemble.events(), AllocationChanged)} == {"a0001"}
    assert ensemble.counted("start") == ensemble.counted("end") == dict.fromkeys(range(12), 1)
    assert not ensemble.runs[0].is_open


def test_that_a_full_disk_ends_the_run_with_an_error_and_loses_nothing(tmp_path):
    """The journal cannot grow: every call fails and says why, allocations are given back, and resume goes on."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=60, seconds=0.2, cpus=2)
    driver = ensemble.start()
    try:
        wait_until("ten scenarios done", lambda: len(ensemble.counted("end")) >= 10, timeout=60)
        run = ensemble.runs[0]
        limit = run.journal.stat().st_size + 500
        resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (limit, limit))
        _, err = driver.communicate(timeout=90)
    finally:
        driver.kill()
    before = {event.task_id for event in of_kind(ensemble.events(), ReceiptTaken)}

    assert driver.returncode != 0
    assert "the run directory cannot be written" in err
    assert str(run.path) in err
    assert run.journal.stat().st_size <= limit
    wait_until("nothing of the run to run", lambda: not processes_naming(str(run.path)), timeout=30)
    assert 0 < len(before) < 60

    resumed = subprocess.run(
        [sys.executable, "-m", "scalable_hpc.cli", "resume", run.run_id],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert resumed.returncode == 0, resumed.stderr
    after = {event.task_id for event in of_kind(ensemble.events(), ReceiptTaken) if not event.late}
    assert len(after) == 60
    assert set(ensemble.counted("end").values()) == {1}


def test_that_a_script_which_never_closes_its_session_leaves_nothing_behind(tmp_path):
    """The tutorials' style, ``session.start()`` and no ``close()``, ends as cleanly as ``with``."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=4, seconds=0.0, cpus=2)
    text = ensemble.driver.read_text()
    ensemble.driver.write_text(
        text.replace("    with session as client:\n", "    client = session.start(session.plan())\n    if client:\n")
    )

    finished = ensemble.run()

    assert finished.returncode == 0, finished.stderr
    assert "complete 4" in finished.stdout
    assert len(of_kind(ensemble.events(), RunClosed)) == 1
    assert processes_naming(str(ensemble.runs[0].path)) == []
