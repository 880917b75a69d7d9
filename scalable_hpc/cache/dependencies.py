"""What ``depends_on=`` names, as digests: functions by code, libraries by version, paths by content."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from scalable_hpc.cache.encode import CodeOf, Unencodable, digest
from scalable_hpc.cache.inputs import input_file_digest, input_tree_digest
from scalable_hpc.cache.owner import label_of, source_of, top_of
from scalable_hpc.cache.static import module_digest

Dependency = str | os.PathLike[str] | Callable[..., Any] | ModuleType


def dependency_digest(dependency: Dependency, code_of: CodeOf) -> tuple[str, bytes]:
    """Return a dependency's name and what it is now.

    Raises:
        Unencodable: it cannot be found or read.
    """
    if isinstance(dependency, ModuleType):
        return _module(dependency.__name__)
    if isinstance(dependency, str):
        return _module(dependency)
    if isinstance(dependency, os.PathLike):
        return _path(dependency)
    return label_of(dependency), digest(dependency, code_of)


def _path(path: os.PathLike[str]) -> tuple[str, bytes]:
    name = os.fspath(path)
    try:
        return name, (input_tree_digest if Path(name).is_dir() else input_file_digest)(name)
    except OSError as err:
        raise Unencodable("path", f"depends_on {name!r}", str(err)) from err


def _module(name: str) -> tuple[str, bytes]:
    if source_of(name, "") is not None:
        return name, module_digest(name, "").digest
    return name, version_of(name).encode()


@functools.cache
def version_of(name: str) -> str:
    """Return the version of a library by its import name or its distribution's name.

    Raises:
        Unencodable: nothing of that name is installed.
    """
    if top_of(name) in sys.stdlib_module_names:
        return f"python {sys.version_info.major}.{sys.version_info.minor}"
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        providers = importlib.metadata.packages_distributions().get(top_of(name), [])
    if not providers:
        raise Unencodable("library", f"depends_on {name!r}", "no installed distribution or module has that name")
    return ", ".join(sorted(f"{provider} {importlib.metadata.version(provider)}" for provider in set(providers)))
