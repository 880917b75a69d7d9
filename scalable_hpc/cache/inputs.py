"""Digests of input files and directories: read once, and known from then on to all processes of the user.

A file is known again by its file system, inode, size, mtime and ctime. One that was touched so lately that it could be
touched again without its times showing it is read every time, as git does.

Rule 1: what cannot be known for certain is read. Ages are told by this node's clock: a file server whose clock is
    seconds behind, and whose times are as coarse, would have to be waited for longer.
Rule 2: a file that is changed through a mapping, its times set back and its inode's ctime forged, is beyond this.
"""

from __future__ import annotations

import functools
import os
import struct
import time
from pathlib import Path

from blake3 import blake3

from scalable_hpc.cache import file_systems
from scalable_hpc.cache.content import digest_of_open, open_regular, tree_digest
from scalable_hpc.cache.decorator import default_store_root
from scalable_hpc.cache.layout import open_layout
from scalable_hpc.cache.stat_memo import StatMemo
from scalable_hpc.errors import StoreError

WORTHWHILE = 64 * 1024
"""Bytes below which reading a file costs no more than remembering it."""
SETTLED_NS = 3_000_000_000
"""Age at which a file's times can be trusted: the coarsest clocks of file systems tick every two seconds."""
_MARK = struct.Struct("<QQqq")


def input_file_digest(path: str | os.PathLike[str]) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of a file's content, reading it only if need be.

    Raises:
        OSError: it is not there, not readable, or not a regular file.
    """
    # opened even where nothing will be read: only that makes an NFS client ask the server for today's times
    descriptor = open_regular(path)
    try:
        before = os.fstat(descriptor)
        memo = _memo() if before.st_size >= WORTHWHILE else None
        if memo is None:
            return digest_of_open(descriptor)
        mark = mark_of(before)
        known = memo.recall(mark)
        if known is not None:
            return known
        started = time.time_ns()
        digest = digest_of_open(descriptor)
        if is_settled(before, started) and mark_of(os.fstat(descriptor)) == mark:
            memo.remember(mark, digest)
        return digest
    finally:
        os.close(descriptor)


def input_tree_digest(path: str | os.PathLike[str]) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of all names and contents below a directory, reading only what it must.

    Raises:
        OSError: something below is not readable, or is neither a file nor a directory.
    """
    return tree_digest(path, input_file_digest)


def mark_of(status: os.stat_result) -> bytes:
    """Return what a file is known again by (32 bytes)."""
    hasher = blake3(_MARK.pack(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    hasher.update(file_systems.name_of(status.st_dev))
    return hasher.digest()


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Say whether any later change of a file is bound to show in its times."""
    return max(status.st_mtime_ns, status.st_ctime_ns) < now_ns - SETTLED_NS


def _memo() -> StatMemo | None:
    try:
        return _memo_of(default_store_root())
    except StoreError:
        return None


@functools.cache
def _memo_of(root: str) -> StatMemo:
    return StatMemo(open_layout(Path(root), create=True).stat_memo)
