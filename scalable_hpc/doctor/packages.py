"""Which packages an interpreter has, the same way on the driver's host and on a node."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

from scalable_hpc.doctor.facts import PackageSeen
from scalable_hpc.version import __version__

NAMES = ("dask", "distributed", "cloudpickle")
"""What driver and workers speak to each other with, beside ourselves."""


def packages_here(modules: Sequence[str]) -> tuple[PackageSeen, ...]:
    """Return ourselves, what we build on, and the user's modules, which are imported."""
    ours = PackageSeen("scalable-hpc", __version__)
    return (ours, *(_installed(name) for name in NAMES), *(_module(name) for name in modules))


def python_here() -> str:
    """Return the version of this interpreter."""
    return ".".join(str(part) for part in sys.version_info[:3])


def _installed(name: str) -> PackageSeen:
    try:
        return PackageSeen(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return PackageSeen(name, None, error="it is not installed")


def _module(name: str) -> PackageSeen:
    try:
        module = import_module(name)
    except Exception as err:  # noqa: BLE001  (a module of the user's may raise anything)
        return PackageSeen(name, None, digest="", error=f"{type(err).__name__}: {err}")
    file = getattr(module, "__file__", None)
    try:
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError as err:
        return PackageSeen(name, None, digest="", error=f"'{file}': {err.strerror}")
    return PackageSeen(name, str(getattr(module, "__version__", "unversioned")), digest=digest)
