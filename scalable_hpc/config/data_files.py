"""Finds the templates and site configs that come with the package, in a checkout, an editable install and a wheel."""

from __future__ import annotations

from pathlib import Path

from scalable_hpc.errors import SiteError

_PACKAGE = Path(__file__).resolve().parents[1]
_MARKERS = {"templates": "base.sh.j2", "site-configs": "defaults.yaml"}
"""A file that tells our folder from another package's folder of the same name beside us in site-packages."""


def builtin_directory(kind: str) -> Path:
    """Return our own ``"templates"`` or ``"site-configs"``.

    Beside the package first: that is a checkout, or an editable install of one, whose stale copy in site-packages
    must not win. Then in the package's data, where a wheel puts them.

    Raises:
        SiteError: neither is there; the installation is incomplete.
    """
    for folder in (_PACKAGE.parent / kind, _PACKAGE / "_data" / kind):
        if (folder / _MARKERS[kind]).is_file():
            return folder
    raise SiteError(
        f"scalable_hpc's own {kind} are missing from '{_PACKAGE}'",
        hint="python -m pip install --force-reinstall scalable-hpc",
    )
