"""A manifest as read, and how it looks through one of its targets: overlay laid over, other targets left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.config.check import check, nearest, one_of
from scalable_hpc.config.issues import ValidationIssue
from scalable_hpc.config.layers import OVERRIDE, override_tree
from scalable_hpc.config.normal import normalise
from scalable_hpc.config.site import SITE_OF_PROVIDER, Place
from scalable_hpc.config.yaml_lines import Section, copied, merge


@dataclass(frozen=True, slots=True)
class Source:
    """A manifest as read, before any target is chosen."""

    path: Path
    shown: str
    """How messages call the file."""
    tree: Section
    environ: Mapping[str, str]
    places: tuple[Place, ...]
    implies_target: bool
    """The file has no targets: this machine is meant."""

    @property
    def target_names(self) -> list[str]:
        """The targets, in the file's order; one nameless target where ``targets`` is no mapping."""
        targets = self.tree.get("targets")
        return list(targets) if isinstance(targets, Section) else [""]

    @property
    def overlays(self) -> Section:
        """The overlays; empty where the file has none."""
        overlays = self.tree.get("overlays")
        return overlays if isinstance(overlays, Section) else Section(self.tree.mark)


@dataclass(frozen=True, slots=True)
class View:
    """A manifest seen through one target."""

    tree: Section
    target: Section | None
    """The target in the tree; None where it is no mapping."""
    errors: tuple[ValidationIssue, ...]
    warnings: tuple[ValidationIssue, ...]


def look(source: Source, name: str, overrides: Mapping[str, object] | None = None) -> View:
    """Return the manifest seen through a target and the overlay that it names, under explicit overrides."""
    target = _section(source.tree, name)
    asked = (overrides or {}).get("overlay") or (None if target is None else target.get("overlay"))
    if target is None or not asked:
        return _through(source, name, None, overrides or {})
    overlay = str(asked)
    if overlay in source.overlays:
        view = _through(source, name, overlay, overrides or {})
        return View(view.tree, view.target, tuple(_misshapen(source, overlay)), view.warnings)
    mark = OVERRIDE if "overlay" in (overrides or {}) else target.key_marks["overlay"]
    issue = ValidationIssue(
        path=f"targets.{name}.overlay",
        message=f"overlay is '{overlay}', which is not there{nearest(overlay, source.overlays)}",
        code="E_UNKNOWN_OVERLAY",
        line=mark.line,
        file=mark.file,
        hint=f"overlays of this manifest: {one_of(source.overlays)}",
    )
    view = _through(source, name, None, overrides or {})
    return View(view.tree, view.target, (issue,), view.warnings)


def _misshapen(source: Source, overlay: str) -> Iterator[ValidationIssue]:
    """Yield what is wrong with an overlay as a whole."""
    content, mark = source.overlays[overlay], source.overlays.key_marks[overlay]
    where = f"overlays.{overlay}"
    if content is not None and not isinstance(content, Section):
        message = f"{where} must be a mapping (key: value): a part of a manifest"
        yield ValidationIssue(where, message, "E_BAD_VALUE", mark.line, mark.file)
    elif content is not None and "overlays" in content:
        mark = content.key_marks["overlays"]
        yield ValidationIssue(
            f"{where}.overlays",
            f"{where} holds overlays itself: they stand beside each other",
            "E_BAD_VALUE",
            mark.line,
            mark.file,
        )


def _through(source: Source, name: str, overlay: str | None, overrides: Mapping[str, object]) -> View:
    tree = copied(source.tree)
    if isinstance(tree.get("overlays"), Section):
        tree.drop("overlays")
    if overlay is not None and isinstance(source.overlays.get(overlay), Section):
        tree = merge(tree, source.overlays[overlay])
    if overrides:
        tree = merge(tree, override_tree(overrides, name))
    if isinstance(tree.get("targets"), Section):
        for other in [key for key in tree["targets"] if key != name]:
            tree["targets"].drop(other)
    target = _section(tree, name)
    warnings: list[ValidationIssue] = []
    if target is not None:
        provider = str(target.get("provider"))
        warnings = normalise(target, ("targets", name), provider if provider in SITE_OF_PROVIDER else None)
    return View(tree, target, (), tuple(warnings))


def _section(tree: Section, name: str) -> Section | None:
    targets = tree.get("targets")
    section = targets.get(name) if isinstance(targets, Section) else None
    return section if isinstance(section, Section) else None


def issues_of_others(source: Source, chosen: str) -> Iterator[ValidationIssue]:
    """Yield what is wrong in the targets that were not chosen."""
    from scalable_hpc.config.schema import Manifest

    for name in source.target_names:
        if name != chosen:
            view = look(source, name)
            yield from view.errors
            found = check(Manifest, view.tree)[1]
            yield from (issue for issue in found if issue.path.startswith(f"targets.{name}"))


def issues_of_unused_overlays(source: Source) -> Iterator[ValidationIssue]:
    """Yield what would be wrong under the overlays that no target names."""
    from scalable_hpc.config.schema import Manifest

    sections = (_section(source.tree, name) for name in source.target_names)
    used = {str(section.get("overlay")) for section in sections if section is not None}
    for overlay in source.overlays:
        if overlay not in used:
            yield from _misshapen(source, overlay)
            for name in source.target_names:
                yield from check(Manifest, _through(source, name, overlay, {}).tree)[1]
