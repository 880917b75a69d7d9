"""YAML as text with line numbers: every scalar keeps what was written, every key where it was written.

Scalars stay text (the schema gives them their types), so ``account: 0123`` keeps its zero and ``partition: no``
is not a boolean; what YAML 1.1 would have made of a scalar stays beside it in ``Scalar.meaning``.

Rule 1: nothing here knows what a manifest is.
Rule 2: a problem inside the tree (unset variable, key written twice) stays in the tree, so that a reader who does
not use that part is not bothered; only text that is no YAML at all raises.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalable_hpc.config.issues import Mark, ValidationIssue
from scalable_hpc.config.safety import control_problem
from scalable_hpc.config.variables import expand, inserted

if TYPE_CHECKING:
    import yaml

_MERGE_TAG = "tag:yaml.org,2002:merge"
_DEEPEST = 50
"""Levels of nesting; a manifest needs six, an anchor that contains itself has no end."""


class Scalar(str):
    """A scalar as written, after ``${VAR}`` expansion.

    ``meaning`` is what YAML 1.1 makes of it; the text itself for quoted and expanded scalars.
    """

    __slots__ = ("inserted", "issue", "mark", "meaning")

    mark: Mark
    meaning: object
    issue: ValidationIssue | None
    inserted: tuple[tuple[str, str], ...]
    """Variables whose values are part of the text, with those values."""

    def __new__(  # noqa: PYI034  (Self is in the standard library from 3.11 on)
        cls,
        text: str,
        mark: Mark,
        *,
        meaning: object = None,
        issue: ValidationIssue | None = None,
        inserted: tuple[tuple[str, str], ...] = (),
    ) -> Scalar:
        """Keep the text with its place."""
        scalar = super().__new__(cls, text)
        scalar.mark = mark
        scalar.meaning = text if meaning is None else meaning
        scalar.issue = issue
        scalar.inserted = inserted
        return scalar


class Section(dict[str, Any]):
    """A mapping that knows where it and each of its keys were written."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.key_marks: dict[str, Mark] = {}
        self.issues: list[ValidationIssue] = []

    def put(self, key: str, value: Any, mark: Mark) -> None:
        """Set a key and where it was written."""
        self[key] = value
        self.key_marks[key] = mark

    def drop(self, key: str) -> Any:
        """Take a key out and return its value."""
        self.key_marks.pop(key, None)
        return self.pop(key)


class Items(list[Any]):
    """A sequence that knows where it was written."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark


def parse_yaml(text: str, path: Path, shown: str, environ: Mapping[str, str]) -> Section:
    """Return the document as a tree of Section, Items and Scalar (None for null).

    Args:
        text: the YAML text.
        path: the file, for marks.
        shown: how the file is called in messages.
        environ: values for ``${VAR}`` and ``${VAR:-default}``; ``$${VAR}`` stays ``${VAR}``.

    Raises:
        YamlProblem: the text is no YAML, holds several documents, or is not a mapping.
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as err:
        where = err.problem_mark or err.context_mark
        line = None if where is None else where.line + 1
        raise YamlProblem(f"not YAML: {err.problem or err.context}", Mark(shown, line, path)) from err
    except yaml.YAMLError as err:
        raise YamlProblem(f"not YAML: {err}", Mark(shown, None, path)) from err
    if node is None:
        raise YamlProblem("the file is empty", Mark(shown, None, path))
    tree = _Builder(path, shown, environ).build(node, ())
    if not isinstance(tree, Section):
        raise YamlProblem("the file must be a mapping (key: value)", Mark(shown, 1, path))
    return tree


class YamlProblem(Exception):
    """A file that cannot be read as a mapping at all."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.issue = ValidationIssue(path="", message=message, code="E_YAML", line=mark.line, file=mark.file)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Turns YAML nodes into the tree."""

    path: Path
    shown: str
    environ: Mapping[str, str]

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.shown, node.start_mark.line + 1, self.path)

    def build(self, node: yaml.Node, where: tuple[str, ...]) -> Any:
        import yaml

        if len(where) > _DEEPEST:
            raise YamlProblem("nested too deeply: does an anchor contain itself?", self.mark(node))
        if isinstance(node, yaml.MappingNode):
            section = Section(self.mark(node))
            self.fill(section, node, where)
            return section
        if isinstance(node, yaml.SequenceNode):
            items = Items(self.mark(node))
            items.extend(self.build(item, (*where, str(number))) for number, item in enumerate(node.value))
            return items
        return self.scalar(node, where)

    def fill(self, section: Section, node: yaml.MappingNode, where: tuple[str, ...]) -> None:
        """Set every key of a mapping; keys that ``<<`` brings in come first and are overwritten silently."""
        import yaml

        written: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in parts:
                    merged = self.build(part, (*where, "<<"))
                    for key in merged if isinstance(merged, Section) else ():
                        if key not in section:
                            section.put(key, merged[key], merged.key_marks[key])
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlProblem("a key must be a word", self.mark(key_node))
            key, mark = str(key_node.value), self.mark(key_node)
            if key in written:
                section.issues.append(self.issue((*where, key), f"'{key}' is written twice", "E_DUPLICATE_KEY", mark))
            written.add(key)
            section.put(key, self.build(value_node, (*where, key)), mark)

    def scalar(self, node: yaml.Node, where: tuple[str, ...]) -> Scalar | None:
        text, mark = str(node.value), self.mark(node)
        meaning = _meaning(node)
        if meaning is None:
            return None
        expanded, unset = expand(text, self.environ)
        if unset:
            message = f"the variable '{unset}' is not set"
            hint = f"export {unset}=..., or write ${{{unset}:-default}} (and $${{{unset}}} where the shell is meant)"
            issue = self.issue(where, message, "E_MISSING_VARIABLE", mark, hint)
            return Scalar(text, mark, issue=issue)
        readable = expanded.encode(errors="replace").decode()
        if readable != expanded:
            message = f"'{readable}' holds half a character (a lone surrogate), which no file can hold"
            return Scalar(readable, mark, issue=self.issue(where, message, "E_BAD_VALUE", mark))
        filled = inserted(text, self.environ)
        for name, value in filled:
            if problem := control_problem(value):
                issue = self.issue(where, f"the variable '{name}' {problem}", "E_BAD_VARIABLE", mark, f"unset {name}")
                return Scalar(text, mark, issue=issue)
        return Scalar(expanded, mark, meaning=meaning if expanded == text else expanded, inserted=filled)

    def issue(
        self, where: tuple[str, ...], message: str, code: str, mark: Mark, hint: str | None = None
    ) -> ValidationIssue:
        return ValidationIssue(".".join(where), message, code, mark.line, self.shown, hint)


def _meaning(node: yaml.Node) -> object:
    """Return what YAML 1.1 makes of a scalar; its text for tags and values that it cannot read."""
    import yaml

    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        return str(node.value)


def tree_issues(tree: Any) -> Iterator[ValidationIssue]:
    """Yield the problems that were met while the tree was read."""
    if isinstance(tree, Scalar):
        if tree.issue is not None:
            yield tree.issue
    elif isinstance(tree, Section):
        yield from tree.issues
        for value in tree.values():
            yield from tree_issues(value)
    elif isinstance(tree, Items):
        for value in tree:
            yield from tree_issues(value)


def merge(lower: Section, upper: Section) -> Section:
    """Return ``lower`` with ``upper`` laid over it: mappings are merged key by key, all else is replaced."""
    result = copied(lower)
    result.issues.extend(upper.issues)
    for key, value in upper.items():
        below = result.get(key)
        if isinstance(below, Section) and isinstance(value, Section):
            laid: Any = merge(below, value)
        else:
            laid = _part(value)
        result.put(key, laid, upper.key_marks[key])
    return result


def copied(section: Section) -> Section:
    """Return a copy whose sections can be changed without touching the original."""
    result = Section(section.mark)
    result.issues = list(section.issues)
    for key, value in section.items():
        result.put(key, _part(value), section.key_marks[key])
    return result


def _part(value: Any) -> Any:
    return copied(value) if isinstance(value, Section) else value


def mark_at(tree: Any, where: tuple[Hashable, ...]) -> Mark | None:
    """Return where the value at a path was written; of a missing key, where its section was."""
    mark: Mark | None = getattr(tree, "mark", None)
    for step in where:
        if isinstance(tree, Section) and step in tree:
            mark, tree = tree.key_marks[str(step)], tree[str(step)]
        elif isinstance(tree, Items) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
            mark = getattr(tree, "mark", mark)
        else:
            break
    return mark


def value_at(tree: Any, where: tuple[Hashable, ...]) -> Any:
    """Return the value at a path, or None."""
    for step in where:
        if isinstance(tree, Section):
            tree = tree.get(str(step))
        elif isinstance(tree, Items) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def as_tree(value: object, mark: Mark) -> Any:
    """Return a plain value as a tree whose every part was written at ``mark``."""
    if isinstance(value, Mapping):
        section = Section(mark)
        for key, inner in value.items():
            section.put(str(key), as_tree(inner, mark), mark)
        return section
    if isinstance(value, (list, tuple)):
        items = Items(mark)
        items.extend(as_tree(inner, mark) for inner in value)
        return items
    return None if value is None else Scalar(str(value), mark, meaning=value)


def walk(tree: Any, visit: Callable[[tuple[str, ...], Mark], None], where: tuple[str, ...] = ()) -> None:
    """Call ``visit`` with the path and mark of every key that holds something other than a mapping."""
    for key, value in tree.items():
        if isinstance(value, Section):
            walk(value, visit, (*where, key))
        elif value is not None:
            visit((*where, key), tree.key_marks[key])
