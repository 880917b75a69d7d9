"""``<run_dir>/scheduler.json``: where workers find this driver, and with which certificate they may come in."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from scalable_hpc.cluster.private_files import write_private
from scalable_hpc.cluster.security import TlsFiles

VERSION = 1


def announcement_path(run_dir: Path) -> Path:
    """Return where the announcement of a run lies."""
    return run_dir / "scheduler.json"


def announce(run_dir: Path, run_id: str, address: str, tls: TlsFiles | None) -> None:
    """Write the announcement; workers that wait for a driver join at once.

    Raises:
        OSError: the run directory cannot be written.
    """
    content = {
        "version": VERSION,
        "run_id": run_id,
        "address": address,
        "tls": tls.as_dict() if tls else None,
        "driver": {"host": socket.gethostname(), "pid": os.getpid()},
    }
    write_private(announcement_path(run_dir), json.dumps(content, indent=1).encode() + b"\n")


def withdraw(run_dir: Path) -> None:
    """Delete the announcement: the run is over, nobody need wait for another driver."""
    announcement_path(run_dir).unlink(missing_ok=True)
