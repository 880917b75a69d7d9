"""The file that holds the keys by which a store's records are known to be ours: made once, read by every process.

    ~/.config/scalable_hpc/store.key    or what $SCALABLE_HPC_STORE_KEY names; 0600
    <run directory>/store.key           the same keys, for workers that do not see the home directory; 0600

Each line is a key, 64 hex digits. The first one seals, all of them are believed: a key is changed by putting a new
line on top (``renew_key``), and given up by removing its line (``give_up_old_keys``).

Rule 1: nothing is made before a store is opened for writing; whoever makes it first, all get the same.
Rule 2: a file that others could have written, or may read, is no key.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from scalable_hpc.cache.layout import DIRECTORY_MODE, FILE_MODE, is_ours, sync_directory, trusted_group, write_all
from scalable_hpc.cache.seal import KEY_SIZE, Keys
from scalable_hpc.errors import StoreError

VARIABLE = "SCALABLE_HPC_STORE_KEY"
_FILE = "store.key"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HALF_WRITTEN_S, _PAUSE_S = 1.0, 0.02
"""How long, and how often, a file is read again that its maker may be writing, where it could not be made in one go."""


def key_path() -> Path:
    """Return where this user's keys lie.

    Raises:
        StoreError: there is no home directory, and nothing else names a place.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if configured := os.environ.get("XDG_CONFIG_HOME"):
        return Path(configured) / "scalable_hpc" / _FILE
    if home := os.environ.get("HOME"):
        return Path(home) / ".config" / "scalable_hpc" / _FILE
    raise StoreError(
        "there is no place for the key of the result store: HOME is not set",
        hint=f"export {VARIABLE}=/a/path/of/yours/store.key",
    )


def keys_here(*, create: bool) -> Keys:
    """Return the keys that this process believes.

    Args:
        create: Make the user's key where there is none; otherwise there may be no keys, and nothing is believed.

    Raises:
        StoreError: there can be none, or the file is not one that may be trusted.
    """
    return _keys_of_user(create=create) + _lent.keys


def share_keys(path: Path) -> None:
    """Write this user's keys to a file that workers read, and believe from now on what that held before, too.

    Args:
        path: In a directory that is the user's alone.

    Raises:
        StoreError: it cannot be written, or what is there may not be trusted.
    """
    there = _read(path) or Keys(())
    wanted = _keys_of_user(create=True) + there
    if wanted.all != there.all:
        _write(path, wanted, anew=True)
    _lent.keys = _lent.keys + there


def renew_key(*, keep_old: bool = True) -> int:
    """Put a new key on top of this user's; return how many older ones are still believed.

    Args:
        keep_old: Whether they are.

    Raises:
        StoreError: there is no key yet, or its file may not be trusted or cannot be written.
    """
    return _change(lambda keys: Keys((secrets.token_bytes(KEY_SIZE), *(keys.all if keep_old else ()))))


def give_up_old_keys() -> None:
    """Believe nothing any more but what the key on top has sealed.

    Raises:
        StoreError: as for ``renew_key``.
    """
    _change(lambda keys: Keys(keys.all[:1]))


def _change(change: Callable[[Keys], Keys]) -> int:
    from filelock import FileLock  # slow to import, and every process reads keys

    path = key_path()
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), mode=FILE_MODE):
            keys = _read(path)
            if keys is None:
                raise StoreError(
                    f"there is no key of a result store to change: {str(path)!r} is not there",
                    hint="it is made when a cache is first written to",
                )
            changed = change(keys)
            _write(path, changed, anew=True)
    except OSError as err:
        raise _unusable("written", path, err) from err
    _known[str(path)] = changed
    return len(changed.all) - 1


class _Lent:
    """Keys of runs that this process has taken up."""

    keys = Keys(())


_lent = _Lent()
_known: dict[str, Keys] = {}


def _keys_of_user(*, create: bool) -> Keys:
    path = key_path()
    keys = _known.get(str(path))
    if keys is None:
        keys = _read(path)
        if keys is None and create:
            keys = _make(path)
        if keys is None:
            return Keys(())
        _known[str(path)] = keys
    return keys


def _read(path: Path) -> Keys | None:
    """Return the keys in a file; None where there is none."""
    deadline = time.monotonic() + _HALF_WRITTEN_S
    while True:
        try:
            keys = _parsed(path)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise _unusable("read", path, err) from err
        if keys is not None:
            return keys
        if time.monotonic() > deadline:
            raise StoreError(
                f"not a key of a result store: {str(path)!r} should hold lines of {2 * KEY_SIZE} hex digits",
                hint=f"if it is yours and was damaged, put it away: mv {path} {path}.damaged",
            )
        time.sleep(_PAUSE_S)


def _parsed(path: Path) -> Keys | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        _check(path, status)
        text = os.read(descriptor, status.st_size + 1).decode(errors="replace")
    finally:
        os.close(descriptor)
    try:
        keys = [bytes.fromhex(line) for line in text.split()]
    except ValueError:
        return None
    return Keys(keys) if keys and all(len(key) == KEY_SIZE for key in keys) and text.endswith("\n") else None


def _check(path: Path, status: os.stat_result) -> None:
    if not is_ours(status):
        raise StoreError(
            f"the key of the result store {str(path)!r} belongs to user id {status.st_uid}, not to you",
            hint=f"export {VARIABLE}=/a/path/of/yours/store.key",
        )
    is_groups = status.st_gid == trusted_group() and not status.st_mode & stat.S_IWGRP
    if status.st_mode & (stat.S_IRWXO if is_groups else _OTHERS):
        raise StoreError(
            f"the key of the result store {str(path)!r} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}; if others may have read it, replace it: mv {path} {path}.old",
        )


def _make(path: Path) -> Keys:
    try:
        for folder in reversed(path.parents):
            if not folder.exists():
                folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)  # nobody else's to write, whatever the umask
    except OSError as err:
        raise _unusable("written", path, err) from err
    mine = Keys([secrets.token_bytes(KEY_SIZE)])
    _write(path, mine, anew=False)
    keys = _read(path)  # perhaps somebody else's, who was quicker
    return mine if keys is None else keys


def _write(path: Path, keys: Keys, *, anew: bool) -> None:
    """Write a key file in one go; without ``anew`` only where there is none."""
    text = "".join(f"{key.hex()}\n" for key in keys.all).encode()
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        try:
            _create(aside, text)
            if anew:
                _dress_as(path, aside)
                aside.replace(path)
            else:
                _link(aside, path, text)
        finally:
            aside.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError:
        pass
    except OSError as err:
        raise _unusable("written", path, err) from err


def _dress_as(old: Path, new: Path) -> None:
    """Let a new file be read by whom the old one was: a group's key stays the group's."""
    with contextlib.suppress(FileNotFoundError):
        status = old.stat()
        if status.st_gid != new.stat().st_gid:
            os.chown(new, -1, status.st_gid)
        new.chmod(stat.S_IMODE(status.st_mode))


def _link(aside: Path, path: Path, text: bytes) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: who reads half of it reads again
        _create(path, text)


def _create(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        write_all(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(what: str, path: Path, err: OSError) -> StoreError:
    return StoreError(
        f"the key of the result store cannot be {what}: {str(path)!r}: {err.strerror}",
        hint=f"export {VARIABLE}=/a/path/of/yours/store.key",
    )
