"""Checks a tree against the schema and says what is wrong in the words of the file: line, value, nearest name.

Rule 1: every problem is reported, the first never hides the others.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from scalable_hpc.config.issues import Mark, ValidationIssue
from scalable_hpc.config.masking import masked
from scalable_hpc.config.yaml_lines import Scalar, Section, mark_at, tree_issues, value_at
from scalable_hpc.model.units import format_walltime

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    Model = TypeVar("Model", bound=BaseModel)

_KINDS = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
}
"""pydantic's error types to our words."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "x"?`` for the known name most like the word, or nothing."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ""


def one_of(names: Iterable[str]) -> str:
    """Return names as a person lists them."""
    return ", ".join(names) or "none"


def check(
    model: type[Model], tree: Section, prefix: tuple[str, ...] = ()
) -> tuple[Model | None, list[ValidationIssue]]:
    """Return the tree as a model (None when it is wrong) and everything that is wrong with it.

    Args:
        model: the schema of the tree.
        tree: what was read.
        prefix: where the tree hangs in its file, for the paths of issues.
    """
    from pydantic import ValidationError

    issues = list(tree_issues(tree))
    known_bad = {".".join((*prefix, issue.path)) for issue in issues}
    made: Model | None = None
    try:
        made = model.model_validate(tree)
    except ValidationError as err:
        for details in err.errors(include_url=False):
            issue = _Problem(model, tree, prefix, details).issue()
            if issue.path not in known_bad:  # the reader's own finding says why
                issues.append(issue)
    except UnicodeEncodeError:  # half a character, which is among the reader's own findings
        made = None
    return (None if issues else made), _without_noise(issues)


def _without_noise(issues: list[ValidationIssue]) -> list[ValidationIssue]:
    """Of a target whose provider we do not know, say only that: its other keys belong to that provider."""
    foreign = tuple(issue.path.removesuffix("provider") for issue in issues if issue.code == "E_UNKNOWN_PROVIDER")
    return [
        issue
        for issue in issues
        if issue.code == "E_UNKNOWN_PROVIDER" or not foreign or not issue.path.startswith(foreign)
    ]


@dataclass(frozen=True, slots=True)
class _Problem:
    """One pydantic error, with what is needed to say it well."""

    model: type[BaseModel]
    tree: Section
    prefix: tuple[str, ...]
    details: ErrorDetails

    @property
    def where(self) -> tuple[int | str, ...]:
        return tuple(step for step in self.details["loc"] if step != "[key]")

    @property
    def key(self) -> str:
        """The word of the file that is wrong: a key; of an item of a list, the list's."""
        return next((str(step) for step in reversed(self.where) if isinstance(step, str)), "")

    @property
    def section(self) -> str:
        return ".".join((*self.prefix, *(str(step) for step in self.where[:-1]))) or "the file"

    @property
    def written(self) -> str:
        value = value_at(self.tree, self.where)
        if "[key]" in self.details["loc"]:
            return self.key
        if value is None:
            return "nothing"
        if isinstance(value, Scalar):
            return masked(self.key, str(value)) if "env" in self.where[-2:-1] else str(value)
        return "a mapping" if isinstance(value, Section) else "a list"

    def issue(self) -> ValidationIssue:
        mark = mark_at(self.tree, self.where) or Mark("", None)
        message, code, hint = self.words()
        path = ".".join((*self.prefix, *(str(step) for step in self.where)))
        return ValidationIssue(path, message, code, mark.line, mark.file, hint)

    def words(self) -> tuple[str, str, str | None]:
        """Return message, code and hint."""
        say = {
            "extra_forbidden": self.unknown_key,
            "missing": self.missing,
            "literal_error": self.not_allowed,
            "walltime_number": self.walltime_number,
            "bad_walltime": self.bad_walltime,
            "bad_memory": self.bad_memory,
            "relative_mount": self.relative_mount,
        }.get(self.details["type"])
        return self.bad_value() if say is None else say()

    def unknown_key(self) -> tuple[str, str, str | None]:
        names = _known_keys(self.model, self.where)
        guess = nearest(self.key, names)
        return f"unknown key '{self.key}' in {self.section}{guess}", "E_UNKNOWN_KEY", f"allowed there: {one_of(names)}"

    def missing(self) -> tuple[str, str, str | None]:
        allowed = _choices(self.model, self.where)
        more = f" (one of: {one_of(allowed)})" if allowed else ""
        return f"'{self.key}' is missing in {self.section}{more}", "E_MISSING", None

    def not_allowed(self) -> tuple[str, str, str | None]:
        allowed = _choices(self.model, self.where)
        code = {"provider": "E_UNKNOWN_PROVIDER", "version": "E_VERSION"}.get(self.key, "E_BAD_VALUE")
        guess = nearest(self.written, allowed)
        return f"{self.key} is '{self.written}': allowed is {one_of(allowed)}{guess}", code, None

    def walltime_number(self) -> tuple[str, str, str | None]:
        context = self.details["ctx"]
        written, number = context["written"], context["number"]
        if ":" in written:
            message = f"{self.key} is {written} without quotes, which YAML reads as the number {number} (base 60)"
            line = f'{self.key}: "{written}"'
        else:
            message = f"{self.key} is the number {number}: a walltime is text, so that nobody takes minutes for seconds"
            line = f'{self.key}: "{format_walltime(max(number, 1))}"  (if seconds were meant)'
        return f"{message}; write {line}", "E_WALLTIME_NUMBER", None

    def bad_walltime(self) -> tuple[str, str, str | None]:
        allowed = "write 'HH:MM:SS', 'D-HH:MM:SS' or a span such as '90m'"
        return f"{self.key} is '{self.written}', which is not a walltime: {allowed}", "E_BAD_WALLTIME", None

    def bad_memory(self) -> tuple[str, str, str | None]:
        return f"{self.key} is '{self.written}', which {self.details['msg']}", "E_BAD_MEMORY", None

    def relative_mount(self) -> tuple[str, str, str | None]:
        side = "HOST" if "[key]" in self.details["loc"] else "CONTAINER"
        message = f"'{self.written}' in {self.section} is not an absolute path"
        return message, f"E_RELATIVE_{side}_MOUNT", "mounts are {/host/path: /container/path}"

    def bad_value(self) -> tuple[str, str, str | None]:
        kind, context = self.details["type"], self.details.get("ctx", {})
        if kind in _KINDS:
            what = _KINDS[kind]
        elif kind == "greater_than_equal":
            what = f"must be at least {context['ge']}"
        elif kind == "greater_than":
            what = f"must be more than {context['gt']:g}"
        elif kind == "less_than_equal":
            what = f"must be at most {context['le']}"
        else:
            what = str(context.get("problem", self.details["msg"]))
        return f"{self.key} is '{self.written}': {what}", "E_BAD_VALUE", None


def _known_keys(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    return list(_model_of(model, where[:-1]).model_fields)


def _choices(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """Return the values that a Literal key allows."""
    field = _model_of(model, where[:-1]).model_fields.get(str(where[-1]))
    return [] if field is None else [str(choice) for choice in _literals(field.annotation)]


def _model_of(model: type[BaseModel], where: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the mapping at a path."""
    steps = iter(where)
    for step in steps:
        if isinstance(step, int):
            continue  # an item of a list: the list's model is its items'
        inner, is_mapping = _inside(model.model_fields[str(step)].annotation)
        if inner is None:
            break
        if is_mapping:
            next(steps, None)
        model = inner
    return model


def _inside(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model in an annotation, and whether a mapping of names lies between."""
    from pydantic import BaseModel

    # Python 3.10 takes dict[str, int] for a class
    if typing.get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in typing.get_args(annotation):
        inner, is_mapping = _inside(argument)
        if inner is not None:
            return inner, is_mapping or typing.get_origin(annotation) is dict
    return None, False


def _literals(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return next((found for part in typing.get_args(annotation) if (found := _literals(part))), ())
