"""Files and directories that a function returns: kept with its result by content, and put back where they are missing.

Whoever reads the result finds at its path what was there when it was made. What is there already is left alone; what
else lies in a directory stays.

Rule 1: a file is written aside and renamed: nobody finds half of one.
Rule 2: content is compared as that of inputs is, and in full where the function was declared with ``check_output``.
"""

from __future__ import annotations

import errno
import os
import pickle
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scalable_hpc.cache.content import file_digest
from scalable_hpc.cache.inputs import input_file_digest
from scalable_hpc.cache.layout import write_all
from scalable_hpc.cache.markers import DirType, FileType, PathType
from scalable_hpc.cache.record import FilePart

_Member = tuple[str, int, bytes, Any]
"""A file's name below the directory, its mode, its digest, and its content."""

StandIn = Callable[[FilePart], pickle.PickleBuffer]


def reduced(output: PathType, stand_in: StandIn) -> tuple[Any, ...]:
    """Return how an output is pickled into a result's record: with its content, in buffers of its own.

    Args:
        output: The file or directory.
        stand_in: What gives a buffer that stands for a file until the record is written.

    Raises:
        OSError: there is nothing at its path, it cannot be read, or it is not what its type says.
    """
    if isinstance(output, DirType):
        folders, members = _listed(Path(output.path), stand_in)
        return put_back_directory, (type(output), output.path, output.is_strict, folders, members)
    return put_back_file, (type(output), output.path, output.is_strict, _member(Path(output.path), "", stand_in))


def put_back_file(kind: type[FileType], path: str, is_strict: bool, member: _Member) -> FileType:  # noqa: FBT001
    """Return a kept file, after putting it back if need be.

    Raises:
        OSError: it cannot be put back.
    """
    _put_back(Path(path), member, is_strict=is_strict)
    output = kind(path)
    output.is_strict = is_strict
    return output


def put_back_directory(
    kind: type[DirType],
    path: str,
    is_strict: bool,  # noqa: FBT001
    folders: Iterable[str],
    members: Iterable[_Member],
) -> DirType:
    """Return a kept directory, after putting back what is missing or changed below it.

    Raises:
        OSError: it cannot be put back.
    """
    top = Path(path)
    for folder in ("", *folders):
        (top / folder).mkdir(parents=True, exist_ok=True)
    for member in members:
        _put_back(top / member[0], member, is_strict=is_strict)
    output = kind(path)
    output.is_strict = is_strict
    return output


def demand_strictness(value: object) -> None:
    """Mark every output in a result as one to be compared in full: the result itself, or what its containers hold."""
    if isinstance(value, PathType):
        value.is_strict = True
    elif isinstance(value, list | tuple):
        for item in value:
            demand_strictness(item)
    elif isinstance(value, dict):
        demand_strictness(list(value.values()))


def _listed(
    top: Path, stand_in: StandIn, name: str = "", above: tuple[tuple[int, int], ...] = ()
) -> tuple[list[str], list[_Member]]:
    """Return all folders and files below a directory, each by its name there; links are followed, as by its readers."""
    status = (top / name).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(top / name))
    folders: list[str] = []
    members: list[_Member] = []
    for path in sorted((top / name).iterdir()):
        below = os.path.join(name, path.name)  # noqa: PTH118 - text, as it is pickled
        if path.is_dir():
            more_folders, more_members = _listed(top, stand_in, below, (*above, identity))
            folders += [below, *more_folders]
            members += more_members
        else:
            members.append(_member(path, below, stand_in))
    return folders, members


def _member(path: Path, name: str, stand_in: StandIn) -> _Member:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"not a regular file: {str(path)!r}")
    digest = file_digest(path)
    part = FilePart(str(path.absolute()), status.st_size, digest)
    return name, stat.S_IMODE(status.st_mode), digest, stand_in(part)


def _put_back(path: Path, member: _Member, *, is_strict: bool) -> None:
    _, mode, digest, content = member
    try:
        if (file_digest if is_strict else input_file_digest)(path) == digest:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            write_all(descriptor, content)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
