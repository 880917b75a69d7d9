"""The work sheet of one resolution: where things were written, what was found wrong, who set what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.config.issues import Mark, ValidationIssue
from scalable_hpc.config.layers import OVERRIDE
from scalable_hpc.config.site import PROJECT
from scalable_hpc.config.yaml_lines import Section, mark_at, walk


def from_environment(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """Return the value and the name of ``SCALABLE_HPC_<name>``, else of ``SCALABLE_<name>``; empty is unset."""
    for variable in (f"SCALABLE_HPC_{name}", f"SCALABLE_{name}"):
        if value := environ.get(variable):
            return value, variable
    return None


@dataclass(slots=True)
class Sheet:
    """Collects errors, warnings and sources while a manifest is resolved for one target."""

    path: Path
    """The manifest."""
    target_name: str
    tree: Section
    """The manifest as seen through the target."""
    settings: Section
    """The target over its site."""
    environ: Mapping[str, str]
    layer_of: Mapping[Path, str] = field(default_factory=dict)
    """Site config to its layer."""
    errors: list[ValidationIssue] = field(default_factory=list)
    warnings: list[ValidationIssue] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    """Of settings that are called otherwise where they are written."""

    @property
    def base_dir(self) -> Path:
        """Where relative paths of the manifest start."""
        return self.path.parent

    def __post_init__(self) -> None:
        for part in ("project", "components", "tasks"):
            section = self.tree.get(part)
            if isinstance(section, Section):
                walk(section, self._note, (part,))
        walk(self.settings, self._note, ("target",))

    def _note(self, where: tuple[str, ...], mark: Mark) -> None:
        self.sources[".".join(where)] = str(mark)

    def note(self, setting: str, mark: Mark) -> None:
        """Take down where a setting was written that has another name there."""
        self.marks[setting] = mark
        self.sources[setting] = str(mark)

    def mark(self, where: str) -> Mark:
        """Return where a setting was written; of one that was not, where its section was."""
        if where in self.marks:
            return self.marks[where]
        first, *rest = where.split(".")
        tree, steps = (self.settings, rest) if first == "target" else (self.tree, [first, *rest])
        return mark_at(tree, tuple(steps)) or Mark(self.path.name, None, self.path)

    def layer(self, where: str) -> str:
        """Return which layer set a setting: a site's, ``project``, ``command line``, ``environment``, ``default``."""
        source = self.sources.get(where, "default")
        if source.startswith("$"):
            return "environment"
        mark = self.mark(where)
        if str(mark) != source or (mark.path is None and mark is not OVERRIDE):
            return "default"
        return "command line" if mark is OVERRIDE else self.layer_of.get(mark.path or self.path, PROJECT)

    def is_own(self, where: str) -> bool:
        """Whether the manifest itself, or an override, says it: not a site, not a default."""
        return where in self.sources and (self.mark(where).path == self.path or self.mark(where) is OVERRIDE)

    def error(self, where: str, message: str, code: str, hint: str | None = None) -> None:
        """Note something that is wrong."""
        self.errors.append(self._issue(where, message, code, hint))

    def warn(self, where: str, message: str, code: str, hint: str | None = None) -> None:
        """Note something that is not as it seems."""
        self.warnings.append(self._issue(where, message, code, hint))

    def _issue(self, where: str, message: str, code: str, hint: str | None) -> ValidationIssue:
        mark = self.mark(where)
        shown = f"targets.{self.target_name}{where.removeprefix('target')}" if where.startswith("target.") else where
        return ValidationIssue(shown, message, code, mark.line, mark.file, hint)

    def path_of(self, text: str, where: str | None = None) -> Path:
        """Return a path as absolute: relative ones start where the setting's file lies, ``~`` is the home."""
        home = self.environ.get("HOME")
        if home and (text == "~" or text.startswith("~/")):
            text = home + text[1:]
        written = self.mark(where).path if where is not None else None
        return (written.parent if written is not None else self.base_dir) / text
