"""Bad input ends in a clear error with an exit code of its own, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ensembles import Ensemble

DRIVER = """
from scalable_hpc import ScalableSession

def double(x):
    return 2 * x

with ScalableSession.from_yaml("scalable.yaml") as client:
    print(client.gather(client.map(double, range(3))))
"""

MANIFEST = """\
version: 1
project:
  name: bad-input
targets:
  here:
    provider: local
    allocations:
      max: 1
      walltime: "00:05:00"
"""


def run_driver(
    base: Path, manifest: str, env: Mapping[str, str] | None = None, *, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    (base / "scalable.yaml").write_text(manifest)
    (base / "driver.py").write_text(DRIVER)
    return subprocess.run(
        [sys.executable, "-m", "scalable_hpc.cli", "run", "--no-progress", "driver.py"],
        cwd=base,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        pytest.param(("max: 1", "mx: 1"), 10, ["scalable.yaml:8", "'mx'", "'max'"], id="unknown key"),
        pytest.param(('"00:05:00"', '"soon"'), 11, ["scalable.yaml:9", "'soon'", "HH:MM:SS"], id="bad walltime"),
        pytest.param(('"00:05:00"', "12:00:00"), 11, ["scalable.yaml:9", "43200", '"12:00:00"'], id="YAML integer"),
        pytest.param(("provider: local", "provider: slrum"), 10, ["scalable.yaml:6", "'slrum'"], id="unknown provider"),
    ],
)
def test_that_a_wrong_manifest_is_refused_by_file_line_and_value(tmp_path, change, code, words):
    """The message names file, line, value and what is allowed; no run directory is made."""
    finished = run_driver(tmp_path, MANIFEST.replace(*change))

    assert finished.returncode == code, finished.stderr
    assert [word for word in words if word not in finished.stderr] == [], finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / ".scalable").exists()


def test_that_an_unknown_target_is_refused_with_the_nearest_name(tmp_path):
    """The message lists the targets there are."""
    finished = run_driver(tmp_path, MANIFEST, {"SCALABLE_HPC_TARGET": "her"})

    assert finished.returncode == 12
    assert "'her'" in finished.stderr
    assert "'here'" in finished.stderr
    assert not (tmp_path / ".scalable").exists()


def test_that_a_missing_sbatch_is_named(tmp_path):
    """No command of Slurm on PATH: said before anything is made."""
    empty = tmp_path / "bin"
    empty.mkdir()
    finished = run_driver(tmp_path, MANIFEST.replace("provider: local", "provider: slurm"), {"PATH": str(empty)})

    assert finished.returncode == 23, finished.stderr
    assert "'sbatch'" in finished.stderr
    assert not (tmp_path / ".scalable" / "runs").exists()


def test_that_an_unwritable_run_directory_is_named(tmp_path):
    """The place, the reason and the variable to set."""
    (tmp_path / "file").write_text("in the way")
    finished = run_driver(tmp_path, MANIFEST, {"SCALABLE_HPC_RUNS_DIR": str(tmp_path / "file" / "runs")})

    assert finished.returncode == 24, finished.stderr
    assert str(tmp_path / "file") in finished.stderr
    assert "SCALABLE_HPC_RUNS_DIR" in finished.stderr


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(None, ["'qsub'", "module load pbs"], id="no PBS"),
        pytest.param("echo 'Version: 6.1.2' >&2", ["'Version: 6.1.2'", "Torque"], id="Torque"),
    ],
)
def test_that_a_machine_without_pbs_is_told_so(tmp_path, answer, words):
    """No command of PBS on PATH, or one that is not PBS's: said before anything is made."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("qsub", "qstat", "qselect", "qdel") if answer else ():
        (programs / name).write_text(f"#!/bin/sh\n{answer}\n")
        (programs / name).chmod(0o755)
    manifest = MANIFEST.replace("provider: local", "provider: pbs")
    finished = run_driver(tmp_path, manifest, {"PATH": str(programs)})

    assert finished.returncode == 23, finished.stderr
    assert [word for word in words if word not in finished.stderr] == [], finished.stderr
    assert not (tmp_path / ".scalable" / "runs").exists()


def test_that_a_refusal_reaches_the_user_in_the_batch_systems_own_words(batch_system, tmp_path):
    """What it does not take, and what it takes and will never run: its words, an exit code each, and no job left."""
    for number, refusal in enumerate(batch_system.refusals):
        base = tmp_path / str(number)
        base.mkdir()
        manifest = {"version": 1, "targets": {"here": batch_system.target(**refusal.asked)}}
        manifest["components"] = {"model": {"cpus": refusal.cpus}}
        finished = run_driver(base, json.dumps(manifest), batch_system.env, timeout=60 * batch_system.slowness)

        assert finished.returncode == refusal.code, finished.stderr
        assert [word for word in refusal.words if word not in finished.stderr] == [], finished.stderr
        assert batch_system.jobs(Ensemble(base, 0)) == []
