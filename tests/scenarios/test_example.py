"""The example on real weather runs as the README says."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scalable_hpc.lineage.journal import read_events
from scalable_hpc.runs import find_run
from tests.ensembles import allocations_of

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "solar_siting"


def run_example(place: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    shutil.copytree(EXAMPLE, place / "solar_siting", ignore=shutil.ignore_patterns(".scalable", "__pycache__"))
    command = [sys.executable, "-m", "scalable_hpc.cli", "run", *words]
    command += ["solar_siting/solar_siting.py", "--", "--every", "8"]
    return subprocess.run(command, cwd=place, env={**os.environ, **(env or {})}, capture_output=True, text=True)


def check_results(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stderr
    assert "70 of 70 succeeded" in finished.stdout
    rows = list(csv.DictReader((place / "solar_siting_results" / "energy.csv").read_text().splitlines()))
    assert len(rows) == 70
    assert all(100 < float(row["energy_kwh"]) < 400 for row in rows)
    assert (place / "solar_siting_results" / "energy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(280)
def test_that_the_solar_example_writes_its_table_and_its_picture(tmp_path):
    """On this machine, with a walltime that is far shorter than the work of the whole ensemble."""
    check_results(tmp_path, run_example(tmp_path))


@pytest.mark.slurm
@pytest.mark.timeout(280)
def test_that_the_solar_example_runs_on_slurm(slurm, tmp_path):
    """The same driver with ``--target slurm``, on real nodes."""
    finished = run_example(tmp_path, "--target", "slurm", env=slurm.env)

    check_results(tmp_path, finished)
    events = list(read_events(find_run(tmp_path / "solar_siting" / ".scalable" / "runs").journal))
    nodes = {node for life in allocations_of(events).values() for event in life for node in event.nodes}
    assert nodes
    assert nodes <= set(slurm.node_names)
