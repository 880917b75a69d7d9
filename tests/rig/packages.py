"""Debian's packages and what this machine allows: the only room that changes anything outside the rig's root.

Rule 1: packages are installed only where a command is missing, as root, with apt.
Rule 2: no daemon of a package is ever started by its installation.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.rig.settings import MemoryLimit, Mode, SlurmUnavailable

# Daemons are in sbin, which an ordinary user's PATH often leaves out.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# command -> the Debian package that brings it
BASE = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
# mariadb-server-core is the bare server: no service and no system database come with it.
ACCOUNTING = {
    "slurmdbd": "slurmdbd",
    "sacctmgr": "slurm-client",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
}
# Brings no command of its own, but slurmdbd cannot store anything without it.
ACCOUNTING_PLUGIN = "slurm-wlm-mysql-plugin"

POLICY = Path("/usr/sbin/policy-rc.d")
APT_SECONDS = 900


def missing_commands(*, accounting: bool) -> list[str]:
    """The commands that a rig needs and this machine lacks."""
    wanted = BASE | (ACCOUNTING if accounting else {})
    return [command for command in wanted if shutil.which(command, path=PATH) is None]


def install(*, accounting: bool) -> list[str]:
    """Install what is missing; the names of the packages asked for, none where nothing was missing.

    Raises:
        SlurmUnavailable: something is missing that cannot be installed here; says why.
    """
    if not sys.platform.startswith("linux"):
        raise SlurmUnavailable(f"Slurm needs Linux, this is {sys.platform}")
    missing = missing_commands(accounting=accounting)
    if not missing:
        return []
    lacks = f"not installed: {', '.join(missing)}"
    if shutil.which("apt-get", path=PATH) is None:
        raise SlurmUnavailable(f"{lacks}; no apt-get to install them with")
    if os.geteuid() != 0:
        raise SlurmUnavailable(f"{lacks}; only root can install them")
    packages = set(BASE.values())
    if accounting:
        packages |= {*ACCOUNTING.values(), ACCOUNTING_PLUGIN}
    with no_daemons_started():
        _apt_install(sorted(packages), lacks)
    still = missing_commands(accounting=accounting)
    if still:
        raise SlurmUnavailable(f"packages are installed, yet these commands are missing: {', '.join(still)}")
    return sorted(packages)


def _apt_install(packages: list[str], lacks: str) -> None:
    def apt(*arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["-y", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
        return subprocess.run(
            ["apt-get", *options, *arguments],
            env={**os.environ, "PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=APT_SECONDS,
            check=False,
        )

    wanted = ("install", "--no-install-recommends", *packages)
    try:
        done = apt(*wanted)
        if done.returncode != 0:  # package lists may be absent or older than the archive
            updated = apt("update")
            done = apt(*wanted) if updated.returncode == 0 else updated
    except subprocess.TimeoutExpired as err:
        raise SlurmUnavailable(f"{lacks}; apt-get did not end within {APT_SECONDS} s") from err
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-8:])
        raise SlurmUnavailable(f"{lacks}; apt-get failed:\n{tail}")


@contextlib.contextmanager
def no_daemons_started() -> Iterator[None]:
    """Forbid the packages' own scripts to start daemons, where the machine does not forbid it already."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def namespaces_possible() -> bool:
    """Whether a process here may have its own network, with cables, and its own host name and process table."""
    if os.geteuid() != 0:
        return False
    trial = "ip link add probe0 type veth peer name probe1 && ip link add probe2 type bridge && hostname probe"
    namespaces = ["--net", "--uts", "--mount", "--pid", "--ipc", "--fork", "--mount-proc"]
    return _succeeds(["unshare", *namespaces, "sh", "-c", trial])


def memory_cgroups_possible() -> bool:
    """Whether Slurm can be given version 1 memory and freezer cgroups, which 22.05 needs for a true OUT_OF_MEMORY."""
    mounted = {fields[1]: fields[2] for fields in map(str.split, Path("/proc/mounts").read_text().splitlines())}
    for controller in ("memory", "freezer"):
        directory = Path("/sys/fs/cgroup") / controller
        if mounted.get(str(directory)) != "cgroup":
            return False
        trial = directory / f"shpc-probe-{os.getpid()}"
        try:
            trial.mkdir()
            trial.rmdir()
        except OSError:
            return False
    return True


def capabilities(mode: Mode, memory_limit: MemoryLimit) -> tuple[bool, bool]:
    """(namespaces, memory cgroups): each tried only where the settings leave it open or ask for it."""
    return (
        mode in ("auto", "netns") and namespaces_possible(),
        memory_limit in ("auto", "cgroup") and memory_cgroups_possible(),
    )


def _succeeds(argv: list[str]) -> bool:
    try:
        done = subprocess.run(argv, env={"PATH": PATH}, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
