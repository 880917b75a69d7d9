"""A whole module of the user's and all that it imports, as a digest, read from source files alone.

For modules that are not loaded yet (imports inside functions) or are used as a whole: nothing is run, so the digest
is the same before and after the import. It is wider than need be: any edit of such a file counts.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from blake3 import blake3

from scalable_hpc.cache.owner import is_users_module, source_of
from scalable_hpc.cache.source import file_imports

_INIT = "__init__"


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A source file as it was when it was read."""

    path: str
    mtime_ns: int
    size: int

    def holds(self) -> bool:
        """Say whether the file has not been touched since."""
        try:
            now = os.stat(self.path)  # noqa: PTH116 - asked at every call, and pathlib takes five times as long
        except OSError:
            return False
        return (now.st_mtime_ns, now.st_size) == (self.mtime_ns, self.size)


@dataclass(frozen=True, slots=True)
class StaticModule:
    """The digest of a module and its imports, and the files that it was made from."""

    digest: bytes
    files: tuple[FileStamp, ...]


def module_digest(name: str, home: str) -> StaticModule:
    """Return the digest of the user's module ``name`` and of every module of the user's that it imports.

    A name that leads to no source file of the user's counts by its name alone.
    """
    hasher = blake3()
    stamps: list[FileStamp] = []
    seen = {name}
    waiting = [name]
    found: list[tuple[str, bytes]] = []
    while waiting:
        current = waiting.pop()
        path = source_of(current, home)
        read = None if path is None else _read(path)
        if path is None or read is None:
            found.append((current, b""))
            continue
        stamp, digest, imports = read
        stamps.append(stamp)
        found.append((current, digest))
        package = current if path.stem == _INIT else current.rpartition(".")[0]
        new = {target for entry in imports for target in _targets(package, *entry, home)} - seen
        seen |= new
        waiting += sorted(new)
    for current, digest in sorted(found):
        hasher.update(f"{len(current)}:{current}:{len(digest)}:".encode())
        hasher.update(digest)
    return StaticModule(hasher.digest(), tuple(stamps))


def module_label(module: ModuleType, home: str) -> bytes:
    """Return what a module counts for as a value: its name, and its source where that is the user's."""
    name = module.__name__.encode()
    return name + b"\0" + module_digest(module.__name__, home).digest if is_users_module(module, home) else name


def resolve(package: str, module: str, level: int) -> str:
    """Return the absolute name that an import statement means; empty where it leads out of its package."""
    if level == 0:
        return module
    try:
        return importlib.util.resolve_name("." * level + module, package)
    except ImportError:
        return ""


def submodules(module: str, names: tuple[str, ...], home: str) -> list[str]:
    """Return those names taken from a module that are modules of the user's themselves."""
    return [full for full in (f"{module}.{name}" for name in names if name != "*") if source_of(full, home) is not None]


def _targets(package: str, module: str, level: int, names: tuple[str, ...], home: str) -> list[str]:
    full = resolve(package, module, level)
    if not full or source_of(full, home) is None:
        # a namespace package has no file, yet modules below it
        return submodules(full, names, home) if full else []
    return [full, *submodules(full, names, home)]


def _read(path: Path) -> tuple[FileStamp, bytes, list[tuple[str, int, tuple[str, ...]]]] | None:
    try:
        now = path.stat()
    except OSError:
        return None
    stamp = FileStamp(str(path), now.st_mtime_ns, now.st_size)
    read = _parsed(stamp)
    return None if read is None else (stamp, *read)


@functools.lru_cache(maxsize=4096)
def _parsed(stamp: FileStamp) -> tuple[bytes, list[tuple[str, int, tuple[str, ...]]]] | None:
    return file_imports(Path(stamp.path))
