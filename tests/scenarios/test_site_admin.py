"""The way of a machine's admin: a draft from the live Slurm, corrected, checked, installed; and what its users see."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

MANIFEST = """\
version: 1
targets:
  cluster: {{provider: slurm, site: {site}, account: science{more}}}
components:
  work: {{cpus: 1, memory: 200M}}
"""
DRIVER = """\
import psutil
from scalable_hpc import ScalableSession

with ScalableSession.from_yaml("scalable.yaml") as client:
    print(client.submit(pow, 2, 10).result())
    ports = {c.laddr.port for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN}
    print("listening in the range:", bool(ports & set(range(42000, 42900))))
"""


@dataclass
class Machine:
    """A login node: the admin's directory, a user's home and project."""

    root: Path
    env: dict[str, str]

    def call(self, *words: str, code: int = 0) -> str:
        """Run a command of ours as the user; return all that it says."""
        command = [sys.executable, "-m", "scalable_hpc.cli", *words]
        done = subprocess.run(
            command, cwd=self.root / "project", env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def manifest(self, site: str = "juniper", more: str = "") -> None:
        (self.root / "project" / "scalable.yaml").write_text(MANIFEST.format(site=site, more=more))

    def install(self, text: str, folder: str) -> Path:
        file = self.root / folder / "sites" / "juniper.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o755)
        file.write_text(text)
        file.chmod(0o644)
        return file


@pytest.fixture
def machine(slurm, tmp_path) -> Machine:
    (tmp_path / "project").mkdir()
    env = {**os.environ, **slurm.env, "HOME": str(tmp_path / "home"), "SCALABLE_HPC_SITE_DIR": str(tmp_path / "etc")}
    env.pop("XDG_CONFIG_HOME", None)
    return Machine(tmp_path, env)


@pytest.mark.slurm
def test_that_an_admin_makes_a_preset_from_the_live_slurm_and_users_see_it(slurm, machine):
    """Drafted, corrected, checked, installed; a user's plan shows each value with its layer."""
    project = machine.root / "project"
    machine.call("site", "new", "--name", "juniper", "--output", "juniper.yaml")
    draft = (project / "juniper.yaml").read_text()
    assert "batch: {default: true, walltime: " in draft
    assert "# it is DOWN: closed: " in draft
    assert "# only for the accounts vip: private: " in draft
    assert "qoses:" in draft

    corrected = draft.replace("# ? interface: ib0", f"interface: {slurm.interface}\nwalltime: 5m\npartiton: debug")
    (project / "juniper.yaml").write_text(corrected)
    assert "partition" in machine.call("site", "check", "juniper.yaml", code=13)
    corrected = corrected.replace("partiton: debug", "partition: debug")
    (project / "juniper.yaml").write_text(corrected)
    assert "no mistakes found" in machine.call("site", "check", "juniper.yaml")

    installed = machine.install(corrected, "etc")
    (row,) = (line for line in machine.call("site", "list").splitlines() if line.startswith("juniper "))
    assert row.split() == ["juniper", "slurm", "admin", "juniper"]
    machine.manifest()
    plan = {line.split()[0]: line for line in machine.call("plan").splitlines() if line.startswith("  target.")}
    line = corrected.splitlines().index(f"interface: {slurm.interface}") + 1
    assert plan["target.interface"].split(maxsplit=1)[1] == f"{slurm.interface}  [admin: {installed}:{line}]"
    assert plan["target.partition"].endswith(f"debug  [admin: {installed}:{line + 2}]")
    assert "[project: scalable.yaml:3]" in plan["target.account"]


@pytest.mark.slurm
def test_that_work_runs_by_what_the_admin_installed(slurm, machine):
    """Partition, network interface and the ports that a firewall leaves open are the preset's."""
    draft = machine.call("site", "new", "--name", "juniper")
    draft = draft.replace("# ? interface: ib0", f"interface: {slurm.interface}\nwalltime: 5m\npartition: debug")
    draft = draft.replace("# ? scheduler_ports: 40000-40100", "scheduler_ports: 42000-42899")
    machine.install(draft.replace("# ? poll_floor: 30s", "poll_floor: 1s"), "etc")
    machine.manifest()
    (machine.root / "project" / "driver.py").write_text(DRIVER)

    said = machine.call("run", "--no-progress", "driver.py")
    assert "1024" in said
    assert "listening in the range: True" in said


@pytest.mark.slurm
def test_that_a_request_beyond_the_machines_limits_never_reaches_slurm(slurm, machine):
    """The limits are those that Slurm told of itself; the refusal says why for each partition."""
    machine.install(machine.call("site", "new", "--name", "juniper"), "etc")
    machine.manifest(more=f", partition: debug, walltime: 30m, interface: {slurm.interface}")
    (machine.root / "project" / "driver.py").write_text(DRIVER)

    said = machine.call("run", "--no-progress", "driver.py", code=10)
    assert "does not fit partition 'debug' of site 'juniper'" in said
    assert "debug: walltime 00:30:00 is longer than 00:05:00" in said
    assert "batch: fits" in said
    assert slurm.run(["squeue", "-h"]).strip() == ""
    assert not (machine.root / "project" / ".scalable" / "runs").exists()


@pytest.mark.slurm
def test_that_a_users_own_file_lies_over_the_admins(slurm, machine):
    """Key by key, with the layer of each."""
    machine.install(
        machine.call("site", "new", "--name", "juniper") + f"interface: {slurm.interface}\nidle: 9s\n", "etc"
    )
    machine.install("idle: 7s\n", "home/.config/scalable_hpc")
    machine.manifest()

    plan = machine.call("plan")
    assert f"[admin: {machine.root}/etc/sites/juniper.yaml:" in plan
    assert f"7 s  [user: {machine.root}/home/.config/scalable_hpc/sites/juniper.yaml:1]" in plan
    shown = machine.call("site", "show", "juniper", "--layers")
    assert "over 9s [admin: " in shown
