"""The job of docs/slurm.md is submitted to a real Slurm, as a reader would do it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.pages import ROOT, Page
from tests.waiting import wait_until

NAMES = {"partition: standard": "partition: batch", "partition=standard": "partition=batch", "--mem=2G": "--mem=1G"}
"""The page's cluster to ours."""


@pytest.mark.slurm
@pytest.mark.timeout(150)
def test_that_the_driver_job_of_the_page_runs_its_ensemble(slurm, tmp_path):
    """The page's driver, in the page's job, asks for the page's allocations; afterwards no job is left."""
    Page(ROOT / "docs" / "slurm.md").lay_out(tmp_path)
    for file in (tmp_path / "scalable.yaml", tmp_path / "driver.sh"):
        text = file.read_text().replace("interface: ib0", f"interface: {slurm.interface}")
        for theirs, ours in NAMES.items():
            text = text.replace(theirs, ours)
        file.write_text(text)
    activate = tmp_path / "venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{tmp_path / "venv" / "bin"}:$PATH"\n')
    command = tmp_path / "venv" / "bin" / "scalable-hpc"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m scalable_hpc.cli "$@"\n')
    command.chmod(0o755)

    submitted = subprocess.run(["sbatch", "--parsable", "driver.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert submitted.returncode == 0, submitted.stderr
    log = tmp_path / f"driver-{submitted.stdout.strip()}.log"
    wait_until("the driver's job to end", lambda: slurm.run(["squeue", "-h"]).strip() == "", timeout=120, every=1.0)

    assert log.read_text().strip() == "60 of 60 succeeded"
