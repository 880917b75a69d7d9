"""A run whose driver was killed is finished from its journal alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from scalable_hpc.errors import RunDirectoryError
from tests.ensembles import ReceiptTaken, make_ensemble, of_kind
from tests.processes import processes_naming
from tests.waiting import wait_until

LOCAL = {"provider": "local", "capacity": {"cpus": 2}, "allocations": {"max": 1, "walltime": "00:05:00"}}
COUNT = 40
"""Enough to last while the commands of this test run beside it on a busy machine."""


KILLER = """\
import os, sys
from scalable_hpc import ScalableSession


def kill(path):
    with open(path, "a") as log:
        log.write("x")
    if len(open(path).read()) < 3:
        os.abort()
    return "at last"


if __name__ == "__main__":
    session = ScalableSession.from_yaml("scalable.yaml")
    with session as client:
        killed = client.submit(kill, os.path.abspath("times"))
        print(repr(killed.exception()))
"""


@pytest.mark.timeout(400)  # four drivers, one after the other, on a machine that may be busy
def test_that_a_convicted_call_is_not_run_again_unless_its_user_says_so(tmp_path):
    """Not by ``resume``, not by the script on its run; with ``--retry-quarantined`` it is, and may do better."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=1, seconds=0.1, cpus=2)
    ensemble.driver.write_text(KILLER)
    times = ensemble.base / "times"
    first = command(ensemble, "run", ensemble.driver.name)
    assert "TaskKilled" in first.stdout, first.stderr
    assert times.read_text() == "xx"
    run_id = ensemble.runs[0].run_id

    resumed = command(ensemble, "resume", run_id)
    assert resumed.returncode == 30, resumed.stderr
    again = command(ensemble, "run", "--run", run_id, ensemble.driver.name)
    assert "it was quarantined under an earlier driver" in again.stdout
    assert times.read_text() == "xx"

    retried = command(ensemble, "resume", run_id, "--retry-quarantined")
    assert times.read_text() == "xxx", retried.stderr
    assert retried.returncode == 0, "the second submission of the same call has its result too"
    assert "TaskRevived" in {type(event).__name__ for event in ensemble.events()}


def command(ensemble, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scalable_hpc.cli", *words],
        cwd=ensemble.base,
        env={**os.environ, **(env or {}), "SCALABLE_HPC_PROGRESS": "0"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_that_resume_finishes_a_dead_drivers_run_without_its_script(tmp_path):
    """Nothing that had a receipt is run again; the script is not needed, its results are in the cache."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=COUNT, seconds=0.5, cpus=2)
    driver = ensemble.start()
    try:
        wait_until("four scenarios done", lambda: sum(ensemble.counted("end").values()) >= 4, timeout=60)
        run_id = ensemble.runs[0].run_id
        busy = command(ensemble, "resume", run_id)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    before = {event.task_id for event in of_kind(ensemble.events(), ReceiptTaken)}
    assert len(before) < COUNT, "nothing was left to resume"
    text = ensemble.driver.read_text()
    ensemble.driver.unlink()

    assert busy.returncode == 24
    assert f"process {driver.pid} on" in busy.stderr
    status = command(ensemble, "status")
    assert f"to finish it: scalable-hpc resume {run_id}" in status.stdout, status.stderr

    resumed = command(ensemble, "resume", run_id[:12])

    assert resumed.returncode == 0, resumed.stderr
    receipts = [event.task_id for event in of_kind(ensemble.events(), ReceiptTaken) if not event.late]
    assert len(receipts) == len(set(receipts)) == COUNT
    assert len(ensemble.runs) == 1
    executed = ensemble.counted("start")
    assert len([number for number in executed if executed[number] == 1]) >= len(before)
    names = [event.allocation for event in of_kind(ensemble.events(), ReceiptTaken) if event.allocation]
    assert len(set(names)) == 1, "the dead driver's allocation was not taken over"

    ensemble.driver.write_text(text)
    again = ensemble.run()
    assert again.returncode == 0, again.stderr
    assert ensemble.counted("start") == executed


def test_that_cancel_stops_a_living_driver_and_sweeps_a_dead_one(batch_system, tmp_path):
    """A living one closes its run, which nobody else may drive; of a dead one the jobs are cancelled in their grace."""
    ensemble = make_ensemble(
        tmp_path, target=batch_system.target(), count=200, seconds=0.5, cpus=min(2, batch_system.cpus)
    )
    driver = ensemble.start(env=batch_system.env)
    try:
        batch_system.wait("a scenario done", lambda: ensemble.counted("end"), 60)
        run_id = ensemble.runs[0].run_id

        refused = command(ensemble, "resume", run_id, env=batch_system.env)
        asked = command(ensemble, "cancel", run_id, env=batch_system.env)

        driver.communicate(timeout=60 * batch_system.slowness)
    finally:
        driver.kill()
    assert refused.returncode == RunDirectoryError.exit_code
    assert f"process {driver.pid} on {os.uname().nodename}" in refused.stderr
    assert asked.returncode == 0, asked.stderr
    assert driver.returncode == 128 + signal.SIGTERM
    assert not ensemble.runs[0].is_open
    batch_system.wait("no job of it", lambda: batch_system.jobs(ensemble) == [], 20)

    before = sum(ensemble.counted("end").values())
    second = ensemble.start(env=batch_system.env)
    try:
        batch_system.wait("another scenario done", lambda: sum(ensemble.counted("end").values()) > before, 60)
    finally:
        os.kill(second.pid, signal.SIGKILL)
        second.communicate()
    (job_id,) = batch_system.jobs(ensemble)
    swept = command(ensemble, "cancel", ensemble.runs[-1].run_id, env=batch_system.env)

    assert swept.returncode == 0, swept.stderr
    assert f"cancelled its jobs {job_id}" in swept.stderr
    assert not ensemble.runs[-1].is_open
    batch_system.wait("no job left", lambda: batch_system.jobs(ensemble) == [], 20)
    left = str(ensemble.runs[-1].path)
    wait_until("the dead one's processes to be gone", lambda: not processes_naming(left), timeout=30)
