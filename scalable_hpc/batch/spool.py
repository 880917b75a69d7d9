# pathlib would double the time that a shepherd takes to start.
# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH108, PTH116, PTH118, PTH123
"""The spool of local jobs on disk: one directory per job, small JSON files, and who is alive.

    <spool>/shepherds.log   what a shepherd said when it failed; empty otherwise
    <spool>/local-7/
      request.json   what was asked for, and by which driver; written once, before the job has an id
      script         the script as it was when submitted
      claim/by.json  who decides over the job: its shepherd, or whoever cancelled it before it had one
      state.json     what the shepherd, then whoever finds the shepherd dead, says about the job
      places.json    the names of what it was given, where capacity has names
      output.txt     the job's output, where the script names no other file

Rule 1: imports nothing that takes time: the shepherd of every job starts with this module.
Rule 2: files appear whole (written aside, renamed); a file that cannot be read counts as not there.
Only the last state is fsynced: after a power cut no job is left running, and the boot id tells.
"""

from __future__ import annotations

import json
import os
import time
from _thread import get_ident  # threading itself takes as long to import as the rest of this module
from contextlib import suppress

REQUEST = "request.json"
SCRIPT = "script"
CLAIM = "claim"
STATE = "state.json"
PLACES = "places.json"
OUTPUT = "output.txt"
SHEPHERDS_LOG = "shepherds.log"

ALIVE, DEAD, ELSEWHERE = "alive", "dead", "elsewhere"

HEARTBEAT_S = 30.0
"""How often a shepherd touches its claim, for drivers on other hosts that share the file system."""
SILENT_S = 180.0
"""A shepherd elsewhere that has not done so for this long (six beats: NFS caches, clocks apart) is dead."""


def write_json(path: str, value: object, *, durable: bool = False) -> None:
    """Replace a file by the JSON of ``value``; readers see the old one or the new one, whole."""
    aside = _aside(path)
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(json.dumps(value).encode())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            os.unlink(aside)
        raise


def read_json(path: str) -> dict[str, object] | None:
    """Return a file's JSON object; None when it is missing, torn or something else."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def places_of(directory: str) -> tuple[str, ...]:
    """Return the names of what the job was given; empty where capacity has no names."""
    named = (read_json(os.path.join(directory, PLACES)) or {}).get("places")
    return tuple(str(one) for one in named) if isinstance(named, list) else ()


def claim(directory: str, identity: dict[str, object]) -> bool:
    """Become the one who decides over the job; False when somebody else is already.

    A directory with a file in it is renamed into place: that is atomic with its content on every file system, and
    fails when the place is taken.
    """
    aside = _aside(os.path.join(directory, CLAIM))
    os.mkdir(aside, 0o700)
    write_json(os.path.join(aside, "by.json"), identity)
    try:
        os.rename(aside, os.path.join(directory, CLAIM))
    except OSError:
        os.unlink(os.path.join(aside, "by.json"))
        os.rmdir(aside)
        return False
    return True


def claimed_by(directory: str) -> dict[str, object] | None:
    """Return the identity that decides over the job, or None while nobody does."""
    return read_json(os.path.join(directory, CLAIM, "by.json"))


def beat(directory: str) -> None:
    """Say that the shepherd is alive, to those who cannot look at its process."""
    with suppress(OSError):
        os.utime(os.path.join(directory, CLAIM, "by.json"))


def identity_of(pid: int) -> dict[str, object]:
    """Return what makes a process one and only: host, boot, pid and start time (process ids are reused)."""
    return {"host": os.uname().nodename, "boot": _boot_id(), "pid": pid, "start": _start_ticks(pid)}


def life_of(identity: dict[str, object], directory: str | None = None) -> str:
    """Return ALIVE, DEAD or ELSEWHERE (on another host, and not known to be dead).

    Args:
        identity: from ``identity_of``.
        directory: the job's, to look for a heartbeat when the process is on another host.
    """
    if identity.get("host") != os.uname().nodename:
        if directory is not None:
            with suppress(OSError):
                beaten = os.stat(os.path.join(directory, CLAIM, "by.json")).st_mtime
                return DEAD if time.time() - beaten > SILENT_S else ELSEWHERE
        return ELSEWHERE
    pid, start = identity.get("pid"), identity.get("start")
    if identity.get("boot") != _boot_id() or not isinstance(pid, int) or start is None:
        return DEAD
    return ALIVE if _start_ticks(pid) == start else DEAD


def _aside(path: str) -> str:
    """Return a name beside ``path`` that no other process, and no other thread of ours, uses."""
    return f"{path}.{os.getpid()}.{get_ident()}.new"


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None for one that is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name, in parentheses, may hold spaces and parentheses itself.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else int(fields[19])


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
