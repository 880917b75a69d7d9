"""Which file system a file lies on, by a name that other processes, and for shared ones other nodes, know it by too.

Rule 1: two file systems that are mounted at once never get one name; one that gets two names only costs work.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

SHARED = frozenset({"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "panfs", "wekafs", "pvfs2"})
"""File systems whose inode numbers, times and source are the same on every node that mounts them."""
_MOUNTS = Path("/proc/self/mountinfo")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_DEVICE, _ROOT = 2, 3


def name_of(device: int) -> bytes:
    """Return the name of the file system with a device number (``st_dev``)."""
    shared = _shared_by_device().get(device)
    return shared if shared is not None else f"{_boot()} {device}".encode()


def shared_in(mounts: str) -> dict[int, bytes]:
    """Return the shared file systems of a ``mountinfo``, by device number (proc(5))."""
    found = {}
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        fields, (kind, source, *_) = mount.split(), [*rest.split(), "", ""]
        if kind in SHARED and len(fields) > _ROOT and source:
            major, minor = fields[_DEVICE].split(":")
            found[os.makedev(int(major), int(minor))] = f"{kind} {source} {fields[_ROOT]}".encode()
    return found


@functools.cache
def _shared_by_device() -> dict[int, bytes]:
    try:
        return shared_in(_MOUNTS.read_text())
    except OSError:  # another system than Linux, or a container that hides it: all count as local
        return {}


@functools.cache
def _boot() -> str:
    """Return what tells this host's devices from other hosts', and from its own before it was last started."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return f"process {os.getpid()}"
