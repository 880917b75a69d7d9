"""Lays a target over its site: one tree whose every key still knows which file, line or command set it.

Rule 1: an upper layer replaces lists and values, and is merged into mappings key by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scalable_hpc.config.issues import Mark, ValidationIssue
from scalable_hpc.config.normal import normalise
from scalable_hpc.config.yaml_lines import Section, as_tree, copied, merge

OVERRIDE = Mark("override", None)
"""Where explicit overrides are written: on the command line or in the caller's code."""
_TOP_LEVEL = ("project", "components", "tasks")
_SAME_AS = {"walltime": ("allocations", "walltime"), "max_workers": ("capacity", "cpus")}
"""Short spellings of a setting, and where it is kept."""


def override_tree(overrides: Mapping[str, object], target: str) -> Section:
    """Return explicit overrides (dotted names) as a partial manifest.

    A name belongs to the target (``walltime``, ``allocations.max``) unless it starts with ``project.``,
    ``components.`` or ``tasks.``.
    """
    tree = Section(OVERRIDE)
    for name, value in overrides.items():
        steps = name.split(".")
        if steps[0] not in _TOP_LEVEL:
            steps = ["targets", target, *steps]
        part = tree
        for step in steps[:-1]:
            if not isinstance(part.get(step), Section):
                part.put(step, Section(OVERRIDE), OVERRIDE)
            part = part[step]
        part.put(steps[-1], as_tree(value, OVERRIDE), OVERRIDE)
    return tree


def stack(layers: Iterable[Section], provider: str) -> tuple[Section, list[ValidationIssue]]:
    """Return the layers, lowest first, as one tree of settings for this provider, and what to say about it."""
    result = Section(Mark("default", None))
    said: list[ValidationIssue] = []
    for layer in layers:
        settled = copied(layer)
        normalise(settled, ("",), provider)  # a site may speak of other providers: not worth a word
        said.extend(_spell_out(settled))
        result = merge(result, settled)
    return result, said


def _spell_out(layer: Section) -> list[ValidationIssue]:
    """Move short spellings to where the setting is kept, so that layers meet there."""
    said: list[ValidationIssue] = []
    for short, (group, key) in _SAME_AS.items():
        if layer.get(short) is None:
            continue
        mark = layer.key_marks[short]
        value = layer.drop(short)
        if not isinstance(layer.get(group), Section):
            layer.put(group, Section(mark), mark)
        section = layer[group]
        if section.get(key) is None:
            section.put(key, value, mark)
        else:
            text = f"'{short}' has no effect here: {group}.{key} says the same and is taken"
            said.append(ValidationIssue(short, text, "W_NO_EFFECT", mark.line, mark.file))
    return said
