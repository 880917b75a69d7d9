"""Files that only their owner may read, and that others see whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

SECRET = 0o600
SCRIPT = 0o700
_DIRECTORY = 0o700


def make_private_directory(path: Path) -> Path:
    """Create a directory (and its parents) for the owner alone, or close an existing one to others."""
    path.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
    path.chmod(_DIRECTORY)
    return path


def write_private(path: Path, data: bytes, *, mode: int = SECRET) -> None:
    """Write aside, fsync, rename: a reader on any node finds the old content or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)  # the umask may have taken bits away that a script needs
        file.write(data)
        file.flush()
        os.fsync(handle)
    aside.replace(path)
