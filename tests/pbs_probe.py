"""Looks at the PBS of this machine with one small job, before anything is tried on it: what it is asked with, what its
nodes see of us, and how they reach us. What will not do is told at once, with what to do about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import scalable_hpc
from scalable_hpc.batch.pbs import PbsBackend
from scalable_hpc.batch.pbs_survey_text import read_machine
from scalable_hpc.errors import ScalableError
from scalable_hpc.model.allocations import JobObservation, JobState

PATIENCE_S = 900.0
"""Until the job has run: a scheduler may take its cycle, and others may be before us."""

_REPORT = """
import json, psutil, shutil, socket, sys
found = {"host": socket.gethostname(), "commands": [n for n in ("qsub", "qstat", "qselect", "qdel") if shutil.which(n)]}
found["reached"], found["networks"] = [], list(psutil.net_if_addrs())
for name, address, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((address, port), 5).close()
        found["reached"].append(name)
    except OSError:
        pass
import scalable_hpc.worker
open("report.json", "w").write(json.dumps(found))
"""


class Unfit(Exception):
    """This PBS cannot be tried, or not with what was said on the command line."""


@dataclass(frozen=True)
class Seen:
    """What the job found."""

    server: str
    """As job ids end."""
    keeps_history: bool
    interface: str | None
    """By which nodes reach us; None: by the host's name."""
    cpus: int
    """Of the largest node."""
    commands: tuple[str, ...]
    """Of PBS, that a job finds on its PATH."""


def look(directory: Path, options: list[str], interface: str | None) -> Seen:
    """Run the job and return what it found.

    Raises:
        Unfit: with the reason, and the way out.
    """
    backend = PbsBackend()
    try:
        backend.check()
        with _listening(interface) as addresses:
            script = _written(directory, options, addresses)
            job_id = asyncio.run(backend.submit(script))
            try:
                last = _wait(backend, job_id, directory / "ended")
            finally:
                with contextlib.suppress(ScalableError):
                    asyncio.run(backend.cancel([job_id]))
    except ScalableError as err:
        raise Unfit(f"{err}{_HINTS.get(getpass.getuser(), '')}") from err
    report = _read(directory, last)
    if not report["reached"] and addresses:
        tried = ", ".join(f"{name} {address}" for name, address, _ in addresses)
        raise Unfit(f"its node {report['host']!r} reaches this host by none of: {tried}; see --pbs-interface")
    shared = [name for name in report["reached"] if name in report["networks"]]  # a target's name is for both ends
    is_here = report["host"] == socket.gethostname() and interface is None
    nodes = subprocess.run(["pbsnodes", "-a"], capture_output=True, text=True, check=False).stdout
    machine = read_machine(server="create queue x\n", nodes=nodes, name="", version="")
    return Seen(
        server=job_id.partition(".")[2],
        keeps_history=backend.history == "on",
        interface=None if is_here else next(iter(shared), None),
        cpus=machine.partitions[0].cpus or 1,
        commands=tuple(report["commands"]),
    )


_HINTS = {"root": "\nPBS runs no jobs of root: be another user (su USER -c 'pytest --pbs ...')"}


@contextlib.contextmanager
def _listening(interface: str | None) -> Iterator[list[tuple[str, str, int]]]:
    """Listen on each of our networks, or on the one that was named; yield their names, addresses and ports."""
    with contextlib.ExitStack() as stack:
        found = []
        for name, addresses in psutil.net_if_addrs().items():
            for one in addresses:
                if one.family is socket.AF_INET and interface in (None, name):
                    line = stack.enter_context(socket.create_server((one.address, 0)))
                    threading.Thread(target=_accept, args=(line,), daemon=True).start()
                    found.append((name, one.address, line.getsockname()[1]))
        if not found:
            raise Unfit(f"this host has no network {interface!r} with an IPv4 address")
        # those that lead somewhere before the loopback, which leads a node to itself
        yield sorted(found, key=lambda one: one[1].startswith("127."))


def _accept(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            line.accept()[0].close()


def _written(directory: Path, options: list[str], addresses: list[tuple[str, str, int]]) -> Path:
    (directory / "report.py").write_text(_REPORT)
    package = Path(scalable_hpc.__file__).parents[1]
    python = shlex.join([sys.executable, str(directory / "report.py"), json.dumps(addresses)])
    lines = ["#!/bin/bash", "#PBS -N shpc-probe", "#PBS -l select=1:ncpus=1", "#PBS -l walltime=00:05:00", "#PBS -j oe"]
    lines += [f"#PBS -o {directory}/output", *(f"#PBS {option}" for option in options)]
    lines += [f"cd {shlex.quote(str(directory))} || exit 3", "touch began", "trap 'touch ended' EXIT"]
    lines += [f"PYTHONPATH={shlex.quote(str(package))} {python} >said 2>&1"]
    script = directory / "probe.sh"
    script.write_text("\n".join([*lines, ""]))
    return script


def _wait(backend: PbsBackend, job_id: str, mark: Path) -> JobObservation:
    end = time.monotonic() + PATIENCE_S
    while True:
        seen = asyncio.run(backend.status([job_id]))[job_id]
        if seen.state is JobState.ENDED or mark.exists():
            return seen
        if time.monotonic() > end or seen.state is JobState.HELD or "Never" in seen.because:
            raise Unfit(f"its job {job_id} has not run within {PATIENCE_S:g} s: '{seen.raw}'; see --pbs-queue")
        time.sleep(1.0)


def _read(directory: Path, last: JobObservation) -> dict[str, Any]:
    until = time.monotonic() + 20  # files of a node may take a moment to be seen here
    while not (report := directory / "report.json").exists() and time.monotonic() < until:
        time.sleep(0.5)
    if report.exists():
        found: dict[str, Any] = json.loads(report.read_text())
        return found
    if not (directory / "began").exists():
        raise Unfit(f"its node does not see {str(directory)!r} (the job: '{last.raw}'); see --pbs-directory")
    said = (directory / "said").read_text() if (directory / "said").exists() else ""
    raise Unfit(f"its node cannot run {sys.executable!r} with this package: {said.strip()[-500:]!r}")


def home() -> Path:
    """Return the real home directory: nodes see it, and tests have another one."""
    import pwd

    return Path(pwd.getpwuid(os.getuid()).pw_dir)
