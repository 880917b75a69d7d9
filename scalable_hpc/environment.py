"""The variables that drivers and workers are given, and the directories where they find what the user imports."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.cache.layout import GROUP
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.runs import RunDirectory


@dataclass(frozen=True, slots=True)
class ImportPaths:
    """Where Python finds what is not installed with its interpreter."""

    user: tuple[str, ...] = ()
    """Directories of ``sys.path`` that are the user's own: slots must find the driver's modules too."""
    package: str | None = None
    """``PYTHONPATH`` of a checkout of this package that runs without being installed; None: it is installed."""

    def variables(self) -> dict[str, str]:
        """Return what makes another process find this package."""
        return {} if self.package is None else {"PYTHONPATH": self.package}


def import_paths() -> ImportPaths:
    """Return those of this process."""
    package_parent = Path(__file__).resolve().parent.parent
    package = None
    if not _is_installed(package_parent):
        package = os.pathsep.join(filter(None, [str(package_parent), os.environ.get("PYTHONPATH", "")]))
    entries = dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path)
    return ImportPaths(
        tuple(str(path) for path in entries if _is_visible(path) and not _is_installed(path)),
        package,
    )


def environment_of(
    manifest: ResolvedManifest, run: RunDirectory, worker_type: str, paths: ImportPaths | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the variables that every process of an allocation gets; the user's own come last and win.

    Args:
        manifest: with the user's variables.
        run: whose workers they are.
        worker_type: of the allocation.
        paths: where modules are found (default: where this process finds them).
    """
    paths = paths or import_paths()
    ours = {
        "SCALABLE_HPC_CACHE_DIR": str(manifest.cache_root),
        "SCALABLE_HPC_CACHE_DURABILITY": manifest.cache_durability,
        "SCALABLE_HPC_CACHE_VERIFY": manifest.cache_verify,
        # nodes may not see the home directory, where the user's own lies
        "SCALABLE_HPC_STORE_KEY": str(run.store_key),
        "SCALABLE_HPC_PYTHONPATH": os.pathsep.join(paths.user),
    }
    if manifest.cache_group is not None:
        ours[GROUP] = manifest.cache_group
    kind = manifest.worker_types[worker_type]
    return tuple({**ours, **paths.variables(), **dict(manifest.target.env), **dict(kind.env)}.items())


def driver_environment(manifest: ResolvedManifest) -> tuple[tuple[str, str], ...]:
    """Return the variables that a driver gets that is a batch job."""
    return tuple({**import_paths().variables(), **dict(manifest.target.env)}.items())


def _is_visible(path: Path) -> bool:
    """Whether the path is a directory that this user may look at."""
    try:
        return path.is_dir()
    except PermissionError:
        return False


def _is_installed(path: Path) -> bool:
    """Whether a directory belongs to the interpreter or its environment, so that workers have it anyway."""
    homes = {Path(place).resolve() for place in (*sysconfig.get_paths().values(), sys.base_prefix) if place}
    return any(path == home or home in path.parents for home in homes if home != Path("/"))
