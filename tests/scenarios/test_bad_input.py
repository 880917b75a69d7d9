"""Bad input ends in a clear error with an exit code of its own, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def run_driver(base: Path, manifest: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    (base / "scalable.yaml").write_text(manifest)
    (base / "driver.py").write_text(DRIVER)
    return subprocess.run(
        [sys.executable, "-m", "scalable_hpc.cli", "run", "--no-progress", "driver.py"],
        cwd=base,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def slurm_manifest(partition: str, walltime: str, interface: str) -> str:
    return f"""\
version: 1
project: {{name: bad-input}}
targets:
  here:
    provider: slurm
    queue: {partition}
    interface: {interface}
    allocations: {{max: 1, walltime: "{walltime}"}}
"""


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
    finished = run_driver(tmp_path, slurm_manifest("batch", "00:05:00", "lo"), {"PATH": str(empty)})

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


@pytest.mark.parametrize(
    ("queue", "walltime", "cpus", "code", "words"),
    [
        pytest.param("nowhere", "00:05:00", 1, 21, "Unknown queue", id="bad queue"),
        pytest.param("short", "00:30:00", 1, 22, "Job violates queue and/or server resource limits", id="walltime"),
        pytest.param("workq", "00:05:00", 99, 20, "Can Never Run: Insufficient amount of resource", id="too large"),
    ],
)
def test_that_pbs_refusal_reaches_the_user_in_its_own_words(pbs, tmp_path, queue, walltime, cpus, code, words):
    """Also of a job that PBS takes and will never run; no job is left."""
    manifest = slurm_manifest(queue, walltime, "lo").replace("slurm", "pbs").replace("queue:", "poll: 1\n    queue:")
    finished = run_driver(tmp_path, f"{manifest}components: {{model: {{cpus: {cpus}}}}}\n")

    assert finished.returncode == code, finished.stderr
    assert words in finished.stderr
    assert pbs.jobs() == []


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("partition", "walltime", "code", "words"),
    [
        pytest.param("nowhere", "00:05:00", 21, "partition", id="bad partition"),
        pytest.param("debug", "00:30:00", 22, "limit", id="over-limit walltime"),
    ],
)
def test_that_slurms_refusal_reaches_the_user_in_its_own_words(slurm, tmp_path, partition, walltime, code, words):
    """The scheduler's words and the script that was refused; no job is left."""
    finished = run_driver(tmp_path, slurm_manifest(partition, walltime, slurm.interface), slurm.env)

    assert finished.returncode == code, finished.stderr
    assert words in finished.stderr.lower()
    assert "scripts/a0001.sh" in finished.stderr
    assert slurm.run(["squeue", "-h"]).strip() == ""
