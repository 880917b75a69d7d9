"""Whose files may say what is run: presets and templates become shell code in the user's own jobs.

A file counts when it belongs to the user, to root, or to somebody whom a site policy names, and nobody else can write
it or its folder. Policies come from the package, the site's admin and the user; a project cannot vouch for itself.

Rule 1: what is checked is what is read: owner and mode are taken from the open file, not from its name.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.errors import SiteError

_ROOT = 0


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is trusted besides root and the user."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def and_also(self, other: Trust) -> Trust:
        """Return the policy that trusts both."""
        return Trust(self.users | other.users, self.groups | other.groups)


NOBODY_ELSE = Trust()
"""Only the user and root."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and the groups that nobody but the reader is in."""

    user: int
    own_groups: frozenset[int] = field(default=frozenset())


def distrust(owner: int, group: int, mode: int, reader: Reader, trust: Trust) -> str | None:
    """Say why a file of this owner, group and mode is not read, or None."""
    if owner not in {_ROOT, reader.user} | trust.users and group not in trust.groups:
        return f"belongs to '{_login(owner)}', whom no site policy trusts"
    if mode & stat.S_IWOTH:
        return "can be written by everybody"
    if mode & stat.S_IWGRP and group not in {_ROOT} | reader.own_groups | trust.groups:
        return f"can be written by the group '{_group(group)}', which no site policy trusts"
    return None


def read_trusted(path: Path, trust: Trust, reader: Reader | None = None) -> str:
    """Return the text of a file that only trusted people can have written.

    Raises:
        SiteError: somebody else could have; says who, and what to do.
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    reader = this_reader() if reader is None else reader
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        _refuse(path, os.fstat(file.fileno()), reader, trust)
        for folder in dict.fromkeys((path.parent, path.resolve().parent)):
            _refuse(folder, folder.stat(), reader, trust)
        return file.read()


def this_reader() -> Reader:
    """Return this process's user, with the private group that many systems give to each user."""
    user = os.geteuid()
    group = os.getegid()
    return Reader(user, frozenset({group} if _group(group) == _login(user) else ()))


def trust_in(users: Iterable[str], groups: Iterable[str]) -> Trust:
    """Return a policy by names; those that this machine does not know are nobody here."""
    return Trust(
        frozenset(found for name in users if (found := _user_id(name)) is not None),
        frozenset(found for name in groups if (found := _group_id(name)) is not None),
    )


def _refuse(path: Path, found: os.stat_result, reader: Reader, trust: Trust) -> None:
    problem = distrust(found.st_uid, found.st_gid, found.st_mode, reader, trust)
    if problem is not None:
        hint = (
            f"ls -ld '{path}'; copy it and read the copy, or name the owner in trust: of ~/.config/scalable_hpc/sites"
        )
        raise SiteError(f"'{path}' is not read: it {problem}", hint=f"{hint}/defaults.yaml")


def _login(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _group(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _user_id(name: str) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # nobody's name, or nothing that could be one
        return None


def _group_id(name: str) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
