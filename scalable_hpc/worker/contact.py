"""The way to the run's scheduler, read from ``scheduler.json``, and whether to trust it.

Whoever can write that file makes this worker run their code, so it must be ours and ours alone.

Rule 1: no defaults: a file of another owner, with wider modes or of another version is refused, not repaired.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.errors import RunDirectoryError

FILE_NAME = "scheduler.json"
VERSION = 1
WAIT_S = 60.0
"""A driver writes the file before it submits, but a parallel file system may show it to a node much later."""
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the run's certificate authority, certificate and key."""

    ca: str
    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class SchedulerContact:
    """Where the run's scheduler listens."""

    run_id: str
    address: str
    tls: TlsFiles | None
    driver_host: str
    driver_pid: int


def _refuse_unless_private(what: str, path: Path, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.geteuid():
        raise RunDirectoryError(
            f"{what} {str(path)!r} belongs to uid {facts.st_uid}, not to {os.geteuid()}: it is not trusted",
            hint=f"ls -ld {path}",
        )
    if mode & 0o077:
        raise RunDirectoryError(
            f"{what} {str(path)!r} is open to others (mode {mode:04o}): it is not trusted",
            hint=f"chmod go= {path}",
        )


def _read_private(what: str, path: Path) -> bytes:
    """Return the bytes of a file after checking owner and mode of the very file that was opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise RunDirectoryError(f"{what} {str(path)!r} is not a regular file: it is not trusted")
        _refuse_unless_private(what, path, facts)
        return stream.read()


def read_contact(run_dir: Path) -> SchedulerContact:
    """Read and check ``scheduler.json`` of a run.

    Raises:
        FileNotFoundError: the file is not there (yet).
        RunDirectoryError: directory, file or TLS key are not private to us, or the file cannot be understood.
    """
    _refuse_unless_private("run directory", run_dir, run_dir.stat())
    path = run_dir / FILE_NAME
    try:
        raw = _read_private("scheduler file", path)
        contact = _parse(raw)
        if contact.tls is not None:
            _read_private("TLS key", Path(contact.tls.key))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise RunDirectoryError(f"cannot read {str(path)!r}: {err!r}", hint=f"cat {path}") from err
    return contact


def _parse(raw: bytes) -> SchedulerContact:
    found = json.loads(raw)
    if found["version"] != VERSION:
        raise ValueError(f"version {found['version']!r}, this release reads version {VERSION}")
    tls = found["tls"]
    return SchedulerContact(
        run_id=str(found["run_id"]),
        address=str(found["address"]),
        tls=None if tls is None else TlsFiles(str(tls["ca"]), str(tls["cert"]), str(tls["key"])),
        driver_host=str(found["driver"]["host"]),
        driver_pid=int(found["driver"]["pid"]),
    )


def wait_for_contact(
    run_dir: Path,
    *,
    timeout_s: float = WAIT_S,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> SchedulerContact:
    """Read the contact as soon as its file is there.

    Raises:
        RunDirectoryError: not there in time, or not to be trusted.
    """
    until = clock() + timeout_s
    while True:
        try:
            return read_contact(run_dir)
        except FileNotFoundError as err:
            if clock() >= until:
                raise RunDirectoryError(
                    f"{str(run_dir / FILE_NAME)!r} did not appear within {timeout_s:.0f} s:"
                    " the driver is gone, or this node does not see the run directory",
                    hint=f"ls -l {run_dir}",
                ) from err
        pause(_LOOK_EVERY_S)


def is_answered(address: str, *, timeout_s: float = 2.0) -> bool:
    """Tell whether somebody accepts connections at ``tls://host:port``."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s):
            return True
    except (OSError, ValueError):
        return False
