"""Reads ``scalable.yaml`` version 1 for one target, with its overlay, its site and explicit overrides.

``load_manifest`` answers with a ResolvedManifest or raises the first problem, telling all of them;
``validate_manifest`` reports every problem of every target and overlay.

Rule 1: what other targets say never stops this one; it is a warning.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.config.check import check, nearest, one_of
from scalable_hpc.config.issues import Mark, ValidationIssue, ValidationReport, error_for, in_order
from scalable_hpc.config.layers import override_tree, stack
from scalable_hpc.config.resolve import resolve
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.config.sheet import Sheet, from_environment
from scalable_hpc.config.site import SITE_OF_PROVIDER, Place, places, read_site
from scalable_hpc.config.views import Source, issues_of_others, issues_of_unused_overlays, look
from scalable_hpc.config.yaml_lines import YamlProblem, mark_at, parse_yaml
from scalable_hpc.errors import ManifestError, SiteError, UnknownTargetError

if TYPE_CHECKING:
    from scalable_hpc.config.schema import Target

__all__ = ["ValidationIssue", "ValidationReport", "load_manifest", "validate_manifest"]

DEFAULT_PATH = "scalable.yaml"
AUTO = "auto"
"""The name of a target, or of a target's site, that means: choose for me."""


def load_manifest(
    path: str | os.PathLike[str] | None = None,
    target: str | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    site_places: Sequence[Place] | None = None,
) -> ResolvedManifest:
    """Read a manifest for one target.

    Args:
        path: the manifest; None: ``$SCALABLE_HPC_MANIFEST``, ``$SCALABLE_MANIFEST`` or ``./scalable.yaml``.
        target: its name; None: ``$SCALABLE_HPC_TARGET``, ``$SCALABLE_TARGET``, the only target, or ``local``.
        overrides: dotted settings that win over everything: ``{"walltime": "00:30:00", "components.gcam.cpus": 4}``.
        text: what the file held, when a run is taken up again; None: it is read now.
        environ: the environment; None: the process's.
        site_places: where site configs are looked for; None: the usual places.

    Raises:
        ManifestError: the manifest is missing or wrong (``WalltimeError``, ``UnknownTargetError``).
        SiteError: a site config is missing or wrong.
    """
    source = _read(path, environ, site_places, text)
    name = _choose(source, target)
    found = _resolve(source, name, overrides or {})
    if found.site_error is not None:
        raise found.site_error
    if found.resolved is None or found.errors:
        raise error_for(found.errors)
    others = [replace(issue, code="W_OTHER_TARGET") for issue in issues_of_others(source, name)]
    return replace(found.resolved, warnings=tuple(in_order([*found.warnings, *others])))


def validate_manifest(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    site_places: Sequence[Place] | None = None,
) -> ValidationReport:
    """Return everything that is wrong with a manifest, in every target and overlay.

    Raises:
        ManifestError: there is no such file, or it cannot be opened.
    """
    try:
        source = _read(path, environ, site_places)
    except _Unreadable as err:
        return ValidationReport(errors=(err.issue,))
    found = [_resolve(source, name, {}) for name in source.target_names]
    errors = [issue for one in found for issue in one.errors] + list(issues_of_unused_overlays(source))
    warnings = [issue for one in found for issue in one.warnings]
    if source.implies_target:
        text = "there are no targets: work runs on this machine"
        warnings.append(ValidationIssue("targets", text, "W_NO_TARGETS", None, source.shown))
    return ValidationReport(errors=tuple(in_order(errors)), warnings=tuple(in_order(warnings)))


class _Unreadable(ManifestError):
    """The file is no YAML mapping; keeps its one issue."""

    def __init__(self, issue: ValidationIssue) -> None:
        super().__init__(str(issue), hint=issue.hint)
        self.issue = issue


@dataclass(slots=True)
class _Found:
    """What came of resolving a manifest for one target."""

    resolved: ResolvedManifest | None = None
    errors: list[ValidationIssue] = field(default_factory=list)
    warnings: list[ValidationIssue] = field(default_factory=list)
    site_error: SiteError | None = None


def _read(
    path: str | os.PathLike[str] | None,
    environ: Mapping[str, str] | None,
    site_places: Sequence[Place] | None,
    text: str | None = None,
) -> Source:
    environ = os.environ if environ is None else environ
    said = from_environment(environ, "MANIFEST")
    file = Path(path if path is not None else said[0] if said else DEFAULT_PATH)
    try:
        text = file.read_text(encoding="utf-8") if text is None else text
    except FileNotFoundError as err:
        hint = "give its path, set SCALABLE_HPC_MANIFEST, or change directory"
        raise ManifestError(f"no manifest at '{file}'", hint=hint) from err
    except (OSError, UnicodeDecodeError) as err:
        raise ManifestError(f"cannot read the manifest '{file}': {err}", hint=f"ls -l {file}") from err
    file = file.absolute()
    try:
        tree = parse_yaml(text, file, file.name, environ)
    except YamlProblem as err:
        raise _Unreadable(err.issue) from err
    implies_target = not tree.get("targets")
    if implies_target:
        tree.put("targets", override_tree({"provider": "local"}, "local")["targets"], Mark("default", None))
    where = places(file.parent, environ) if site_places is None else tuple(site_places)
    return Source(file, file.name, tree, environ, where, implies_target)


def _choose(source: Source, asked: str | None) -> str:
    """Return the name of the target to use."""
    names = source.target_names
    by = ""
    if asked is None and (said := from_environment(source.environ, "TARGET")):
        asked, by = said[0], f" (from {said[1]})"
    if asked is None or (asked == AUTO and AUTO not in names):
        if len(names) == 1:
            return names[0]
        if "local" in names:
            return "local"
        raise UnknownTargetError(
            f"{source.shown} has several targets and none was chosen: {one_of(names)}",
            hint=f"--target {names[0]}, or export SCALABLE_HPC_TARGET={names[0]}",
        )
    if asked not in names:
        raise UnknownTargetError(
            f"{source.shown} has no target '{asked}'{by}{nearest(asked, names)}",
            hint=f"its targets are: {one_of(names)}",
        )
    return asked


def _site_of(target: Target, source: Source) -> str:
    """Return the name of a target's site; ``auto`` is the one that this machine has the signs of.

    Raises:
        SiteError: this machine has the signs of several.
    """
    fallback = SITE_OF_PROVIDER[target.provider]
    if target.site != AUTO:
        return target.site or fallback
    from scalable_hpc.config.recognise import the_one
    from scalable_hpc.config.surroundings import sites_here

    found, _ = sites_here(source.places, source.environ, target.provider)
    one = the_one(found)
    if found and one is None:
        names = [each.site for each in found]
        raise SiteError(f"this machine may be any of {one_of(names)}", hint=f"write site: {names[0]}, not site: auto")
    return fallback if one is None else one.site


def _resolve(source: Source, name: str, overrides: Mapping[str, object]) -> _Found:
    """Look at the manifest through one target, lay the target over its site, and settle every setting."""
    from scalable_hpc.config.schema import Manifest, Target

    view = look(source, name, overrides)
    manifest, errors = check(Manifest, view.tree)
    found = _Found(errors=[*view.errors, *errors], warnings=list(view.warnings))
    if manifest is None or view.target is None or found.errors:
        return found
    declared = manifest.targets[name]
    try:
        site = _site_of(declared, source)
        read = read_site(site, declared.provider, source.places, source.environ)
    except SiteError as err:
        mark = mark_at(view.target, ("site",)) or view.target.mark
        issue = ValidationIssue(f"targets.{name}.site", err.message, "E_SITE", mark.line, mark.file, err.hint)
        return replace(found, errors=[issue], site_error=SiteError(str(issue), hint=err.hint))
    settings, said = stack([*read.layers, view.target], declared.provider)
    target, errors = check(Target, settings, ("targets", name))
    found.warnings.extend(replace(issue, path=f"targets.{name}.{issue.path}") for issue in said)
    if target is None:
        return replace(found, errors=errors)
    sheet = Sheet(source.path, name, view.tree, settings, source.environ, read.layer_of)
    resolved = resolve(manifest, target, read, sheet)
    return replace(found, resolved=resolved, errors=sheet.errors, warnings=[*found.warnings, *sheet.warnings])
