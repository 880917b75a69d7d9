"""``scalable-hpc doctor`` on this machine, on a real Slurm, and where something is really wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

COMPONENTS = "components:\n  model: {cpus: 1, memory: 200M}\n"


def doctor(base: Path, *words: str, code: int, **env: str) -> dict[str, list[dict[str, str]]]:
    """Ask for JSON; return the findings of each check."""
    command = [sys.executable, "-m", "scalable_hpc.cli", "doctor", "--format", "json", *words]
    done = subprocess.run(
        command, cwd=base, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    findings: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        findings.setdefault(finding["check"], []).append(finding)
    return findings


def manifest(base: Path, target: str) -> None:
    (base / "scalable.yaml").write_text(f"version: 1\ntargets:\n  here: {target}\n{COMPONENTS}")
    (base / "mymodel.py").write_text("__version__ = '7.1'\n")


def left(base: Path) -> list[str]:
    """What lies about after the doctor has gone."""
    runs = base / ".scalable" / "runs"
    return sorted(path.name for path in base.iterdir() if path.name.startswith(".scalable-doctor")) + (
        sorted(path.name for path in runs.iterdir()) if runs.is_dir() else []
    )


def test_that_this_machine_is_found_well_and_left_as_it_was(tmp_path):
    """A real job, a real connection each way, modules of one's own compared; no file is left behind."""
    manifest(tmp_path, "{provider: local}")

    findings = doctor(tmp_path, "--module", "mymodel", code=0)
    assert findings["network"][0]["said"].endswith(": open")
    assert "mymodel 7.1" in findings["packages"][0]["said"]
    assert "TLSv1.3" in findings["tls"][0]["said"]
    assert left(tmp_path) == []


def test_that_a_job_that_fails_before_its_python_is_shown_with_its_words(tmp_path):
    """What the set-up printed is in the finding, and the exit code says that something is wrong."""
    manifest(tmp_path, "{provider: local, setup: ['echo the licence server is down >&2; exit 7']}")

    findings = doctor(tmp_path, code=41)
    assert findings["probe"][0]["level"] == "wrong"
    assert "the licence server is down" in findings["probe"][0]["said"]


def test_that_nodes_that_find_other_modules_than_the_driver_are_found_out(tmp_path):
    """A module that the driver has and the job has not is wrong, whichever directory hides it."""
    manifest(tmp_path, "{provider: local, env: {SCALABLE_HPC_PYTHONPATH: ''}, work_dir: elsewhere}")
    (tmp_path / "elsewhere").mkdir()

    findings = doctor(tmp_path, "--module", "mymodel", code=41)
    assert "has no mymodel: ModuleNotFoundError" in findings["packages"][0]["said"]


def test_that_nodes_with_another_release_of_dask_are_found_out(tmp_path):
    """An older one that lies before ours on the nodes' path alone; the remedy says what to install."""
    older = tmp_path / "older" / "dask-2020.1.0.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: dask\nVersion: 2020.1.0\n")
    manifest(tmp_path, f"{{provider: local, env: {{PYTHONPATH: '{older.parent}:{os.environ.get('PYTHONPATH', '')}'}}}}")

    (found,) = doctor(tmp_path, code=41)["packages"]
    assert "has dask 2020.1.0, the driver" in found["said"]
    assert "-m pip install 'dask==" in found["remedy"]


RUNTIME = """#!/bin/bash
# Runs the command in no image at all: what stands before it is options, and the image.
while [[ $1 != *.sif ]]; do shift; done
shift
exec "$@"
"""


def test_that_a_runtime_that_does_not_run_the_image_is_found_out(tmp_path):
    """The job's words name it, the probe sees no sign of it."""
    (tmp_path / "apptainer").write_text(RUNTIME)
    (tmp_path / "apptainer").chmod(0o755)
    (tmp_path / "model.sif").touch()
    manifest(tmp_path, f"{{provider: local, containers: auto, python: ['{sys.executable}']}}")
    file = tmp_path / "scalable.yaml"
    file.write_text(file.read_text().replace("cpus: 1,", f"cpus: 1, image: {tmp_path}/model.sif,"))

    (found,) = doctor(tmp_path, code=40, PATH=f"{tmp_path}:{os.environ['PATH']}")["container"]
    assert found["level"] == "doubtful"
    assert "shows no sign of running image" in found["said"]
    assert found["remedy"].startswith("scalable-hpc render")


@pytest.mark.slurm
def test_that_limits_of_a_real_slurms_accounts_are_found_before_anything_is_submitted(slurm, tmp_path):
    """A QOS that is too short, one that is not there, an account that may run one job at a time."""
    common = "provider: slurm, walltime: 5m, interface: lo"

    def said(words: str, code: int) -> str:
        manifest(tmp_path, f"{{{common}, {words}}}")
        return "\n".join(each["said"] for each in doctor(tmp_path, "--no-probe", code=code)["limits"])

    assert "QOS 'short' allows a walltime of 00:02:00 at most" in said("account: science, qos: short", 41)
    assert "QOS 'secret' is not open to account 'science'" in said("account: science, qos: secret", 41)
    one = said("account: capped, allocations: {max: 3}", 40)
    assert "account 'capped' allows 1 such job at once, the target up to 3" in one
    assert slurm.run(["squeue", "-h"]).strip() == ""


@pytest.mark.slurm
@pytest.mark.timeout(90)
def test_that_a_real_slurm_is_looked_at_from_its_nodes(slurm, tmp_path):
    """All is well on the right interface; a wrong one, and a directory that nodes do not share, are found out."""
    settings = "provider: slurm, poll: 1s, walltime: 5m"
    manifest(tmp_path, f"{{{settings}, interface: {slurm.interface}}}")
    well = doctor(tmp_path, "--module", "mymodel", code=0)
    assert "fits 'batch'" in well["limits"][0]["said"]
    assert {finding["level"] for finding in well["network"]} == {"ok"}

    manifest(tmp_path, f"{{{settings}, interface: lo}}")
    (inward, outward) = doctor(tmp_path, code=41)["network"]
    assert "to driver 127.0.0.1" in inward["said"]
    assert (inward["level"], outward["level"]) == ("wrong", "wrong")

    manifest(tmp_path, f"{{{settings}, interface: {slurm.interface}}}")
    nobodys = Path("/dev/shm") / f"doctor-{os.getpid()}"  # each node of the cluster has its own
    try:
        blind = doctor(tmp_path, code=41, SCALABLE_HPC_RUNS_DIR=str(nobodys))
    finally:
        nobodys.rmdir()
    words = [finding["said"] for finding in blind["shared directories"] if finding["level"] == "wrong"]
    assert any(f"does not see the run directory '{nobodys}'" in said for said in words)
    assert blind["python"][0]["level"] == "ok", "the rest was looked at nonetheless"
    assert slurm.run(["squeue", "-h"]).strip() == ""


@pytest.mark.slurm
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_that_who_ends_the_doctor_leaves_no_job_in_the_queue_and_no_keys(slurm, tmp_path, ending):
    """Its job waits in a partition that is down; the terminal is closed, or somebody is tired of waiting."""
    manifest(tmp_path, "{provider: slurm, poll: 1s, interface: lo, partition: closed}")
    command = [sys.executable, "-m", "scalable_hpc.cli", "doctor"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        wait_until("its job to wait", lambda: slurm.run(["squeue", "-h"]).strip(), timeout=30)
        asked.send_signal(ending)
        said = "".join(asked.communicate(timeout=30))

    assert asked.returncode == 130, said
    assert "Traceback" not in said
    assert slurm.run(["squeue", "-h"]).strip() == ""
    assert left(tmp_path) == []


def test_that_a_pbs_is_looked_at_from_its_node(pbs, tmp_path):
    """The probe is one of its jobs; its queues' limits are what every user may ask for, without ``qmgr``."""
    common = "provider: pbs, interface: lo, poll: 1s, walltime: 5m"
    manifest(tmp_path, f"{{{common}, queue: workq}}")

    findings = doctor(tmp_path, code=0)
    assert findings["probe"][0]["level"] == "ok", findings
    assert {finding["level"] for finding in findings["network"]} == {"ok"}
    assert "fits 'workq'" in findings["limits"][0]["said"]

    manifest(tmp_path, f"{{{common}, queue: limited, allocations: {{max: 3}}}}")
    said = [each["said"] for each in doctor(tmp_path, "--no-probe", code=40)["limits"]]
    assert "queue 'limited' allows 2 such jobs at once, the target up to 3" in said
    manifest(tmp_path, f"{{{common}, queue: short}}")
    said = [each["said"] for each in doctor(tmp_path, "--no-probe", code=41)["limits"]]
    assert "its longest walltime is 00:02:00" in said[0]
    assert pbs.jobs() == []
