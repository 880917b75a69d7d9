"""The driver is killed with SIGKILL in the middle of an ensemble: the next one goes on with its allocations."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping

import pytest

from scalable_hpc.model.events import AttemptFailed, AttemptRejoined, RunOpened
from tests.ensembles import (
    AllocationChanged,
    Ensemble,
    FleetNote,
    ReceiptTaken,
    make_ensemble,
    of_kind,
)
from tests.processes import processes_naming
from tests.waiting import wait_until

COUNT = 30
LOCAL = {"provider": "local", "capacity": {"cpus": 4}, "allocations": {"min": 0, "max": 2, "walltime": "00:05:00"}}


def kill_in_the_middle(
    ensemble: Ensemble, driver: subprocess.Popen[str], done: int = COUNT // 3, *, seconds: float = 90
) -> int:
    """Kill a driver when so many scenarios are done, and return how many receipts it had journalled."""
    try:
        wait_until(
            f"{done} are done",
            lambda: len(ensemble.counted("end")) >= done or driver.poll() is not None,
            timeout=seconds,
        )
    finally:
        driver.send_signal(signal.SIGKILL)
        _, said = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, said
    receipts = len(of_kind(ensemble.events(), ReceiptTaken))
    assert 0 < receipts < COUNT
    return receipts


def resume(ensemble: Ensemble, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Go on with the run, without its script."""
    return subprocess.Popen(
        [sys.executable, "-m", "scalable_hpc.cli", "resume", ensemble.runs[0].run_id],
        cwd=ensemble.base,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def jobs_of(ensemble: Ensemble) -> list[str | None]:
    """Every batch job that the run ever had."""
    jobs = {event.name: event.job_id for event in of_kind(ensemble.events(), AllocationChanged) if event.job_id}
    return list(jobs.values())


def check_that_nothing_was_done_twice(ensemble: Ensemble, jobs_before: list[str | None], *, drivers: int = 2) -> None:
    """One run, the same jobs, every scenario executed once, no attempt sent a second time."""
    events = ensemble.events()
    assert len(ensemble.runs) == 1
    assert len(of_kind(events, RunOpened)) == drivers
    assert set(ensemble.counted("start").values()) == {1}
    assert len(ensemble.counted("end")) == COUNT
    assert jobs_of(ensemble) == jobs_before
    assert [note.kind for note in of_kind(events, FleetNote)].count("adopted") == drivers - 1
    # sent again is only what the dead driver had placed and not sent, or what had ended, which the store knows
    failed = of_kind(events, AttemptFailed)
    assert [event.because for event in failed if "came back without it" not in event.traceback] == []
    assert not [event for event in failed if event.charged]
    found = [event for event in of_kind(events, ReceiptTaken) if event.reused]
    assert of_kind(events, AttemptRejoined) or failed or found, "what ran was brought back, or had ended by then"
    ended = {event.name: event.state for event in of_kind(events, AllocationChanged)}
    assert set(ended.values()) == {"ended"}
    summary = json.loads((ensemble.runs[0].path / "summary.json").read_text())
    counted = summary["tasks"]
    assert (counted["submitted"], counted["done"], counted["hits"]) == (COUNT, COUNT, 0), "each call is one task"


@pytest.mark.timeout(300)
def test_that_a_killed_drivers_run_is_gone_on_with(batch_system, tmp_path):
    """By resume, which is killed too, and then by the script: the same run, the same jobs, nothing run twice."""
    target = batch_system.target(most=2)
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=1.0, cpus=min(2, batch_system.cpus))
    seconds = 90 * batch_system.slowness
    before = kill_in_the_middle(ensemble, ensemble.start(env=batch_system.env), seconds=seconds)
    jobs = jobs_of(ensemble)

    resumed = resume(ensemble, batch_system.env)
    after = kill_in_the_middle(ensemble, resumed, 2 * COUNT // 3, seconds=seconds)
    finished = ensemble.run(env=batch_system.env, timeout=150 * batch_system.slowness)

    assert finished.returncode == 0, finished.stderr
    assert f"complete {COUNT}" in finished.stdout
    assert "whose driver was killed: takes over its jobs" in finished.stderr
    assert after > before
    check_that_nothing_was_done_twice(ensemble, jobs, drivers=3)
    assert batch_system.jobs(ensemble) == []
    assert not (ensemble.runs[0].path / "security").exists()
    wait_until("nothing of it to run", lambda: not processes_naming(str(ensemble.runs[0].path)), timeout=20)


@pytest.mark.timeout(200)
def test_that_resume_takes_over_the_killed_drivers_allocations(tmp_path):
    """Without the script; the keys that its workers come in with are its owner's alone while it runs."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=COUNT, seconds=1.0, cpus=2)
    kill_in_the_middle(ensemble, ensemble.start())
    jobs = jobs_of(ensemble)
    keys = list((ensemble.runs[0].path / "security").iterdir())
    modes = {stat.S_IMODE(key.stat().st_mode) for key in keys}

    resumed = resume(ensemble, {})
    _, said = resumed.communicate(timeout=150)

    assert resumed.returncode == 0, said
    check_that_nothing_was_done_twice(ensemble, jobs)
    assert len(keys) == 3
    assert modes == {0o600}
    assert not any(key.exists() for key in keys)


@pytest.mark.timeout(120)
def test_that_another_script_sweeps_instead(tmp_path):
    """A script that was changed is not the dead driver's: it begins a run, and the dead one's jobs are cancelled."""
    ensemble = make_ensemble(tmp_path, target=LOCAL, count=COUNT, seconds=0.5, cpus=2)
    kill_in_the_middle(ensemble, ensemble.start())
    ensemble.driver.write_text(ensemble.driver.read_text() + "# changed\n")

    again = ensemble.run()

    assert again.returncode == 0, again.stderr
    assert len(ensemble.runs) == 2
    assert "was left by its driver: cancelled its jobs" in again.stderr
    dead = str(ensemble.runs[0].path)
    wait_until("the first run's processes to be gone", lambda: not processes_naming(dead), timeout=20)


@pytest.mark.timeout(120)
def test_that_orphans_end_by_themselves_after_their_grace(tmp_path):
    """Nobody comes: what runs is stopped, and nothing is left on the machine."""
    ensemble = make_ensemble(tmp_path, target={**LOCAL, "orphan_grace": "3s"}, count=COUNT, seconds=1.0, cpus=2)
    kill_in_the_middle(ensemble, ensemble.start())

    run = str(ensemble.runs[0].path)
    wait_until("the run's processes to be gone", lambda: not processes_naming(run), timeout=60)
    done = ensemble.counted("end")

    restart_needs_a_new_job = ensemble.run()
    assert restart_needs_a_new_job.returncode == 0, restart_needs_a_new_job.stderr
    assert all(ensemble.counted("start")[number] == 1 for number in done)
