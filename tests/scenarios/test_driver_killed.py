"""The driver is killed with SIGKILL in the middle of an ensemble and the same script is started again."""

from __future__ import annotations

import os
import signal

import pytest

from tests.ensembles import Ensemble, ReceiptTaken, make_ensemble, of_kind
from tests.processes import processes_naming
from tests.waiting import wait_until

COUNT = 30


def kill_and_restart(ensemble: Ensemble, env: dict[str, str]) -> set[int]:
    """Kill the driver when a third is done, run it again, and return what had a receipt at the kill."""
    driver = ensemble.start(env=env)
    try:
        wait_until("a third done", lambda: sum(ensemble.counted("end").values()) >= COUNT // 3, timeout=90)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    had_receipt = len(of_kind(ensemble.events(), ReceiptTaken))
    assert had_receipt > 0
    before = ensemble.counted("end")
    again = ensemble.run(env=env)
    assert again.returncode == 0, again.stderr
    assert f"complete {COUNT}" in again.stdout
    after = ensemble.counted("start")
    assert all(after[number] >= 1 for number in range(COUNT))
    # what had a receipt in the first run's journal was known to the second: executed exactly once
    executed_once = [number for number in before if after[number] == 1]
    assert len(executed_once) >= had_receipt
    assert len(ensemble.runs) == 2
    return set(before)


@pytest.mark.timeout(200)
def test_that_a_killed_driver_on_local_is_taken_up_where_it_stopped(tmp_path):
    """Completed scenarios are not executed again, and the dead driver's jobs are gone."""
    target = {
        "provider": "local",
        "capacity": {"cpus": 4},
        "allocations": {"min": 0, "max": 2, "walltime": "00:05:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=0.5, cpus=2)
    kill_and_restart(ensemble, {})
    dead = str(ensemble.runs[0].path)
    wait_until("the first run's processes to be gone", lambda: not processes_naming(dead), timeout=20)


@pytest.mark.slurm
@pytest.mark.timeout(300)
def test_that_a_killed_driver_on_slurm_is_taken_up_where_it_stopped(slurm, tmp_path):
    """Completed scenarios are not executed again, and the dead driver's jobs are cancelled."""
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "allocations": {"min": 0, "max": 2, "walltime": "00:10:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=1.0)
    kill_and_restart(ensemble, slurm.env)
    first = ensemble.runs[0].run_id

    def orphans() -> list[str]:
        listed = slurm.run(["squeue", "-h", "-o", "%j %T"]).splitlines()
        return [line for line in listed if first in line and "COMPLETING" not in line]

    wait_until("the first run's jobs to be gone", lambda: not orphans(), timeout=30)
