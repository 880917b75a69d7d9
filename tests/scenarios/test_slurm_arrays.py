"""Allocations that are asked for together, as one array of jobs of a real Slurm."""

from __future__ import annotations

import pytest

from tests.ensembles import AttemptFailed, ReceiptTaken, allocations_of, make_ensemble, of_kind
from tests.waiting import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]

NAMES = ["a0001", "a0002", "a0003", "a0004"]


def test_that_four_allocations_by_one_submission_live_and_end_each_by_itself(slurm, tmp_path):
    """One is cancelled: the others go on, and it is replaced. Each has its own name, id, log and recorder."""
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "poll": 1,
        "keep_logs": True,
        "allocations": {"max": 4, "array": 10, "walltime": "00:10:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=100, seconds=1.0)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("all four work", lambda: len(ensemble.counted("end")) >= 16, timeout=50)
        jobs = {name: life[-1].job_id for name, life in allocations_of(ensemble.events()).items()}
        slurm.run(["scancel", jobs["a0003"]])
        out, err = driver.communicate(timeout=80)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"

    events = ensemble.events()
    lives, array = allocations_of(events), jobs["a0001"].partition("_")[0]
    assert jobs == {name: f"{array}_{int(name[1:])}" for name in NAMES}
    assert lives["a0003"][-1].reason == "cancelled"
    assert {lives[name][-1].reason for name in NAMES if name != "a0003"} == {"completed"}
    assert {event.allocation for event in of_kind(events, AttemptFailed)} <= {"a0003"}
    assert not any(event.charged for event in of_kind(events, AttemptFailed))
    assert {event.allocation for event in of_kind(events, ReceiptTaken)} >= {*NAMES}
    assert len(of_kind(events, ReceiptTaken)) == 100
    run = ensemble.runs[0]
    assert all(run.log_of(name).stat().st_size for name in NAMES)
    assert {path.name for path in run.scripts.iterdir()} <= {"a0001.sh", "a0005.sh"}
    assert f"job {array}_2 on" in ensemble.report()
