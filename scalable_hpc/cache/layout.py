"""Where a store's files lie, and whose they must be.

    <root>/v1/  README  CACHEDIR.TAG  packs/  blobs/  aside/  quarantine/  stat-memo/  locks/  notes/

Rule 1: directories are 0700 and files 0600; what another user owns is refused, since records are unpickled. Where a
    group is trusted, directories are 02770 and files 0640 of that group's, and what it owns is not refused.
Rule 2: files are written aside and renamed, or appended to by their one writer.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.errors import StoreError

VERSION = "v1"
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_GROUP_DIRECTORY_MODE = 0o2770
"""What is made below belongs to the group, too."""
_GROUP_FILE_MODE = 0o640
GROUP = "SCALABLE_HPC_CACHE_GROUP"
"""Names a group whose members share a cache, and trust each other as they do themselves. A driver has it from its
manifest or site; its workers, and programs without a session, find it in the environment."""
_README = """\
This directory holds results of scalable_hpc, kept so that they need not be computed again.

packs/       results up to 64 KiB, many to a file; each file has one writer and only ever grows
blobs/       larger results, one to a file, named by the BLAKE3 digest of their content
aside/       files that are still being written
quarantine/  records whose digest did not match; nothing reads them again
stat-memo/   digests of input files, so that each is read once
locks/       one file per host, by which its processes agree on who computes what
upkeep.lock  held while cache gc is at work
notes/       what results were computed from, and how often they were found; for people

It is safe to delete the whole directory while no run is using it: everything in it can be computed again.
"""
_CACHEDIR_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This directory can be left out of backups: see https://bford.info/cachedir/
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of one store."""

    packs: Path
    blobs: Path
    aside: Path
    quarantine: Path
    stat_memo: Path
    """Made when the first digest is remembered."""
    locks: Path
    """Made when the first result is computed by ``@cacheable`` itself."""
    notes: Path
    """Made when there is something to note."""


def open_layout(root: Path, *, create: bool) -> Layout:
    """Return a store's directories, made if they are not there and ``create`` allows it.

    Raises:
        StoreError: they cannot be made, or are another user's.
    """
    top = root / VERSION
    names = ("packs", "blobs", "aside", "quarantine", "stat-memo", "locks", "notes")
    layout = Layout(*(top / name for name in names))
    try:
        if create and not layout.quarantine.is_dir():
            _make(layout, top)
        for directory in (root, top, layout.packs, layout.blobs):
            _check_owner(directory)
    except FileNotFoundError as err:
        raise StoreError(f"no result store at {str(root)!r}") from err
    except OSError as err:
        raise StoreError(
            f"the result store {str(root)!r} cannot be opened: {err.strerror}",
            hint="set SCALABLE_HPC_CACHE_DIR to a directory that you can write to",
        ) from err
    return layout


def is_gone(err: OSError) -> bool:
    """Say whether an error means that what was there is not there (any more): a file server may tell it so, too."""
    return err.errno in {errno.ENOENT, errno.ESTALE}


def is_ours(status: os.stat_result) -> bool:
    """Say whether what was looked at belongs to this process's user, or to the group that it trusts."""
    if status.st_uid == os.geteuid():
        return True
    return status.st_gid == trusted_group() and not status.st_mode & stat.S_IWOTH


def trusted_group() -> int | None:
    """Return the id of the group whose members' results are trusted, if one was declared and is there.

    Raises:
        StoreError: there is no such group.
    """
    name = _declared.group or os.environ.get(GROUP)
    return _group_id(name) if name else None


def trust_group(name: str | None) -> None:
    """Declare, by name or number, the group that this process trusts; None returns to the environment's."""
    _declared.group = name


class _Declared:
    """What a session has said, once one has."""

    group: str | None = None


_declared = _Declared()


@functools.cache
def _group_id(name: str) -> int:
    import grp

    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError as err:
        raise StoreError(
            f"there is no group {name!r} on this machine, with which the cache is to be shared "
            f"(${GROUP}, project.cache_group, or trust.cache_group of the site)",
            hint=f"getent group {name}",
        ) from err


def file_mode() -> int:
    """Return the mode of new files: the user's alone, or to be read by the trusted group too."""
    return FILE_MODE if trusted_group() is None else _GROUP_FILE_MODE


def share_file(descriptor: int) -> None:
    """Let the trusted group, if there is one, read a new file, whatever the umask.

    Raises:
        OSError: that cannot be done.
    """
    if trusted_group() is not None:
        os.fchmod(descriptor, _GROUP_FILE_MODE)


def make_directory(directory: Path) -> None:
    """Make a directory of the store, unless it is there: the user's alone, or the trusted group's.

    Raises:
        OSError: it cannot be made.
    """
    group = trusted_group()
    try:
        directory.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        if not directory.is_dir():
            raise
        return
    if group is not None:
        os.chown(directory, -1, group)
        directory.chmod(_GROUP_DIRECTORY_MODE)


def make_parents(path: Path) -> list[Path]:
    """Make what is missing above a path, so that nobody else can write there, whatever the umask; return that.

    Raises:
        OSError: it cannot be made.
    """
    missing = [parent for parent in path.parents if not parent.exists()]
    for directory in reversed(missing):
        make_directory(directory)
    return missing


def sync_directory(directory: Path) -> None:
    """Make names that were made or renamed in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``, however many calls it takes."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _make(layout: Layout, top: Path) -> None:
    missing = make_parents(layout.packs)
    for directory in (layout.packs, layout.blobs, layout.aside, layout.quarantine):
        make_directory(directory)
    for name, text in (("README", _README), ("CACHEDIR.TAG", _CACHEDIR_TAG)):
        _write_once(top / name, text)
    for directory in {top, *(each.parent for each in missing)}:
        sync_directory(directory)


def _write_once(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode())
    except FileExistsError:
        return
    try:
        write_all(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _check_owner(directory: Path) -> None:
    status = directory.stat()
    if not is_ours(status):
        raise StoreError(
            f"the result store {str(directory)!r} belongs to user id {status.st_uid}, not to you ({os.geteuid()}): "
            "its records will not be opened",
            hint="set SCALABLE_HPC_CACHE_DIR to a directory of your own",
        )
