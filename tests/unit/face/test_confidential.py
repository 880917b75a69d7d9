"""Laws of secrets on their way to the workers."""

from __future__ import annotations

import json
import stat
import subprocess
from dataclasses import replace

import pytest

from scalable_hpc.chain.driver_script import DriverJob, render_driver
from scalable_hpc.confidential import remove_secrets, secrets_file, write_secrets
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.environment import driver_environment, environment_of
from scalable_hpc.errors import ManifestError
from scalable_hpc.job_scripts import render_script
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.planning import make_plan
from scalable_hpc.runs import create_run

WORD = "hunter2-$(touch pwned)'`x`"
MANIFEST = f"""
version: 1
targets:
  here: {{provider: local, env: {{HF_TOKEN: "{WORD}", LEVEL: "3"}}}}
components:
  "a model/7": {{cpus: 1, env: {{DATABASE: "postgres://me:{WORD}@host"}}}}
"""


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    return load_manifest(tmp_path / "scalable.yaml")


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path / "runs")


def test_that_a_plan_shows_no_secret(manifest):
    """Neither its words nor its data; what is hidden is named."""
    plan = make_plan(manifest)

    assert "hunter2" not in str(plan)
    assert "hunter2" not in json.dumps(plan.to_dict())
    assert "target.env.HF_TOKEN" in plan.settings
    assert "export LEVEL=3" in plan.scripts["a model/7"]


def test_that_a_drivers_job_shows_no_secret(manifest, run):
    """Where the driver is a batch job it reads its own from a private file, too."""
    job = DriverJob(1, 3600, 1, None, None, "python3", "/", 60, None)
    slurm = replace(manifest, target=replace(manifest.target, provider="slurm"))
    script = render_driver(slurm, run, job)

    assert "hunter2" not in script
    assert f"source {secrets_file(run, None)}" in script
    assert ("HF_TOKEN", WORD) in driver_environment(slurm)


def test_that_a_secret_that_is_refused_is_not_quoted(tmp_path):
    """The message names the variable and the line."""
    text = MANIFEST.replace('LEVEL: "3"', 'API_KEY: "hunter2\\nx"')
    (tmp_path / "scalable.yaml").write_text(text)
    with pytest.raises(ManifestError) as refused:
        load_manifest(tmp_path / "scalable.yaml")

    assert "scalable.yaml:4: API_KEY is '(hidden)': holds a line break" in str(refused.value)


def test_that_a_job_reads_its_secrets_from_a_private_file(manifest, run):
    """The script names the file; the shell that reads it has every value to the letter."""
    name = "a model/7"
    write_secrets(run, name, environment_of(manifest, run, name))
    path = secrets_file(run, name)
    script = render_script(manifest, run, AllocationRequest("a0001", name, 1, 60, "test"))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.parent == run.path
    assert "hunter2" not in script
    shell = script.partition("\ncd -- ")[0] + '\nprintf "%s\\n" "$HF_TOKEN" "$DATABASE"\n'
    said = subprocess.run(["bash"], input=shell, cwd=run.path, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [WORD, f"postgres://me:{WORD}@host"]
    assert not (run.path / "pwned").exists()


def test_that_nothing_is_written_where_nothing_is_secret(run):
    """And a script that reads no such file needs none."""
    write_secrets(run, "work", [("LEVEL", "3"), ("SCALABLE_HPC_STORE_KEY", "/a/path")])

    assert not run.secrets.exists()


def test_that_secrets_are_gone_with_the_last_job(run):
    """Of a run whose next driver waits in the queue, that driver's stay."""
    for kind in ("work", None):
        write_secrets(run, kind, [("TOKEN", "x")])
    run.driver_order.touch()
    remove_secrets(run)
    assert [each.name for each in run.secrets.iterdir()] == ["driver.sh"]

    run.driver_order.unlink()
    remove_secrets(run)
    assert not run.secrets.exists()
