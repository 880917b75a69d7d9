"""The job script of every site that comes with the package, to the letter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.site import BUILTIN, Place, read_site, site_names
from scalable_hpc.environment import ImportPaths
from scalable_hpc.job_scripts import render_script
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.runs import RunDirectory

GOLDEN = Path(__file__).parents[2] / "golden" / "sites"
BUILTINS = (Place(builtin_directory("site-configs"), "built-in site-configs", BUILTIN),)
TARGETS = {
    "archer2": "partition: standard, qos: standard, account: t01",
    "polaris": "queue: debug, account: climate",
    "aurora": "queue: debug, account: climate",
    "crux": "queue: debug, account: climate",
    "derecho": "queue: main, account: UCAR0001",
    "casper": "queue: casper, account: UCAR0001",
    "gadi": "queue: normal, project: a00",
    "perlmutter": "qos: debug, constraint: cpu, account: m0000",
    "lumi": "partition: debug, account: project_465000001",
    "frontier": "partition: batch, account: abc123",
    "kestrel": "account: climate",
    "deception": "account: climate",
    "stampede3": "partition: skx, account: climate",
    "frontera": "partition: development, account: climate",
}
"""What users of the machine add."""
SITES = list(site_names(BUILTINS))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
ENVIRON = {"HOME": "/home/me", "USER": "me", "SCRATCH": "/scratch/me", "PSCRATCH": "/pscratch/me", "WORK": "/work/me"}


def script_of(site: str) -> str:
    provider = read_site(site, None, BUILTINS, ENVIRON).facts.batch or "local"
    more = f", {TARGETS[site]}" if site in TARGETS else ""
    text = (
        "version: 1\n"
        f"targets: {{here: {{provider: {provider}, site: {site}, walltime: '00:30:00', python: /home/me/venv/bin/python"
        f"{more}}}}}\n"
        "components: {model: {cpus: 2, memory: 512M}}\n"
    )
    manifest = load_manifest("/home/me/ensemble/scalable.yaml", text=text, environ=ENVIRON, site_places=BUILTINS)
    run = RunDirectory(manifest.runs_root / "20261122T084512Z-ab12cd")
    return render_script(manifest, run, AllocationRequest("a0001", "model", 1, 1800, "golden"), ImportPaths())


@pytest.mark.parametrize("site", SITES)
def test_that_the_script_of_a_site_is_what_it_was(site):
    """SCALABLE_HPC_WRITE_GOLDEN=1 writes it anew, to be read before it is kept."""
    text = script_of(site)
    file = GOLDEN / f"{site}.sh"
    if os.environ.get("SCALABLE_HPC_WRITE_GOLDEN"):
        file.write_text(text)

    assert text == file.read_text()


def test_that_bash_and_shellcheck_can_read_them():
    """Each of them; at shellcheck's strictest."""
    files = [GOLDEN / f"{site}.sh" for site in SITES]
    for file in files:
        answer = subprocess.run(["bash", "-n", file], capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stderr) == (0, "")
    if SHELLCHECK.exists():
        assert subprocess.run([SHELLCHECK, *files], capture_output=True, text=True, check=False).stdout == ""


def test_that_every_golden_script_is_of_a_site():
    """Of those that are gone, none is left."""
    assert {file.stem for file in GOLDEN.glob("*.sh")} == set(SITES)
