"""Settles where results and runs lie, how they are kept, and with whom they are shared.

Rule 1: the environment has the first word, then the manifest.
Rule 2: whom to trust is said by nobody else: not by a manifest that others could have written, nor by a site config
    beside one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.config.sheet import Sheet, from_environment
from scalable_hpc.config.site import SiteRead
from scalable_hpc.config.trust import distrust, this_reader
from scalable_hpc.config.yaml_lines import mark_at

if TYPE_CHECKING:
    from scalable_hpc.config.schema import Project, Target

_PLACE_DIGITS = 8
"""Of a project's place: two projects of one name do not share a runs directory."""


def cache_root(project: Project, sheet: Sheet) -> Path:
    """Return where the cache is."""
    return _root("cache_root", "CACHE_DIR", project.local_cache, ".scalable/cache", sheet)


def cache_group(project: Project, site: SiteRead, sheet: Sheet) -> str | None:
    """Return the group whose results are read as the user's own: the environment's word, the manifest's, the site's."""
    if said := from_environment(sheet.environ, "CACHE_GROUP"):
        sheet.sources["cache_group"] = f"${said[1]}"
        return said[0]
    if project.cache_group is not None:
        sheet.note("cache_group", sheet.mark("project.cache_group"))
        if problem := _distrusted(sheet.path, site):
            text = f"'cache_group' of a manifest that somebody else could have written: it {problem}"
            sheet.error("project.cache_group", text, "E_UNTRUSTED", f"ls -l '{sheet.path}'; copy it and use the copy")
        return project.cache_group
    group = site.facts.trust.cache_group
    if group is not None:
        sheet.note("cache_group", mark_at(site.fact_marks, ("trust", "cache_group")) or site.fact_marks.mark)
    return group


def _distrusted(manifest: Path, site: SiteRead) -> str | None:
    try:
        found = manifest.stat()
    except OSError:  # a run is taken up again whose manifest was moved: its copy is what counts
        return None
    return distrust(found.st_uid, found.st_gid, found.st_mode, this_reader(), site.trust)


def _root(setting: str, variable: str, written: str | None, default: str, sheet: Sheet) -> Path:
    """Return a directory: the environment's word, else the manifest's, else the default beside the manifest."""
    if said := from_environment(sheet.environ, variable):
        sheet.sources[setting] = f"${said[1]}"
        return Path(said[0]).absolute()
    sheet.sources[setting] = "default"
    if written is not None:
        sheet.note(setting, sheet.mark("project.local_cache"))
    return sheet.path_of(written or default)


def runs_root(target: Target, sheet: Sheet) -> Path:
    """Return where runs are made: beside the manifest, or in the site's scratch, in a directory of this project's."""
    if target.scratch is None or from_environment(sheet.environ, "RUNS_DIR"):
        return _root("runs_root", "RUNS_DIR", None, ".scalable/runs", sheet)
    sheet.sources["runs_root"] = str(sheet.mark("target.scratch"))
    place = hashlib.sha256(str(sheet.base_dir.resolve()).encode()).hexdigest()[:_PLACE_DIGITS]
    return sheet.path_of(target.scratch, "target.scratch") / ".scalable" / f"{sheet.base_dir.name}-{place}" / "runs"


def care(setting: str, written: str | None, allowed: tuple[str, ...], sheet: Sheet) -> str:
    """Return one of some words: the environment's, else the manifest's, else the first."""
    if said := from_environment(sheet.environ, setting.upper()):
        sheet.sources[setting] = f"${said[1]}"
        if said[0] not in allowed:
            text = f"${said[1]} must be one of {', '.join(allowed)}, not '{said[0]}'"
            sheet.error(f"project.{setting}", text, "E_BAD_VALUE")
        return said[0]
    sheet.sources[setting] = "default" if written is None else str(sheet.mark(f"project.{setting}"))
    return written or allowed[0]
