"""A driver that is a chain of batch jobs, on a real Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scalable_hpc.chain.book import BEGAN, DONE, STOPPED, SUBMITTED, Book
from scalable_hpc.model.events import ReceiptTaken
from tests.ensembles import allocations_of, make_ensemble, of_kind
from tests.waiting import wait_until

COUNT = 28


def submit(base: Path, env, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scalable_hpc.cli", "submit", *words]
    return subprocess.run(command, cwd=base, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def target_of(slurm) -> dict:
    return {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "poll": "1s",
        "allocations": {"min": 0, "max": 1, "walltime": "00:10:00"},
    }


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_that_a_driver_goes_on_over_three_links_to_the_end(slurm, tmp_path):
    """Links of one minute, an ensemble of two: it completes, nothing is run twice, one allocation serves all."""
    ensemble = make_ensemble(tmp_path, target=target_of(slurm), count=COUNT, seconds=16.0)

    submitted = submit(tmp_path, slurm.env, "driver.py", "--walltime", "00:01:00", "--memory", "500M")
    assert submitted.returncode == 0, submitted.stderr
    run = ensemble.runs[-1]
    assert submitted.stdout.strip() == run.run_id
    book = Book(run)
    wait_until("the end of the chain", lambda: book.last(DONE) or book.last(STOPPED), timeout=380)

    logs = "".join(path.read_text() for path in sorted(run.logs.glob("driver-*.log")))
    assert book.last(STOPPED) is None, logs
    assert f"complete {COUNT}" in logs
    assert book.last(BEGAN).link >= 3
    assert ensemble.counted("start") == ensemble.counted("end") == dict.fromkeys(range(COUNT), 1)
    computed = [event for event in of_kind(ensemble.events(), ReceiptTaken) if not event.reused]
    assert len(computed) == COUNT
    assert len(allocations_of(ensemble.events())) == 1, "each link should take over the allocation of the one before"
    assert not run.is_chained
    wait_until("an empty queue", lambda: not slurm.run(["squeue", "-h"]).strip(), timeout=30)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_that_a_link_that_gets_nowhere_ends_the_chain_with_the_reason(slurm, tmp_path):
    """Tasks of ten minutes under a driver of one: the second link would do no better."""
    make_ensemble(tmp_path, target=target_of(slurm), count=1, seconds=600.0)
    submitted = submit(tmp_path, slurm.env, "driver.py", "--walltime", "00:01:00", "--memory", "500M")
    assert submitted.returncode == 0, submitted.stderr
    run = make_ensemble_run(tmp_path)
    book = Book(run)
    stopped = wait_until("the end of the chain", lambda: book.last(STOPPED), timeout=200)

    assert "got nowhere" in stopped.because
    assert book.last(SUBMITTED, 2) is not None, "the successor was in the queue all the time"
    wait_until("an empty queue", lambda: not slurm.run(["squeue", "-h"]).strip(), timeout=60)


def make_ensemble_run(base: Path):
    from scalable_hpc.runs import list_runs

    return list_runs(base / ".scalable" / "runs")[-1]
