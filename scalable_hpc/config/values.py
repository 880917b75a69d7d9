"""The types of single values: text in, a checked Python value out, or an error that ``check`` puts into words.

Imported only when a file is read; values arrive as ``yaml_lines.Scalar``, text that knows what YAML made of it.
"""

from __future__ import annotations

import re
import shlex
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from scalable_hpc.config.pbs_options import chunk_problem, place_problem, resource_problem
from scalable_hpc.config.safety import control_problem, directive_problem, option_shape_problem, variable_problem
from scalable_hpc.model.retry import LIMITABLE, class_names, function_name
from scalable_hpc.model.units import parse_memory, parse_share, parse_walltime

_LEAST_MEMORY = 2**20
"""Below a mebibyte a memory size is surely a forgotten unit."""
_LAST_PORT = 65535


def _refused(problem: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{problem}", {"problem": problem})


def _number(value: Any) -> int | float | None:
    """Return the number that YAML made of an unquoted scalar, or None."""
    meaning = getattr(value, "meaning", value)
    return meaning if isinstance(meaning, (int, float)) and not isinstance(meaning, bool) else None


def _walltime(value: Any) -> int:
    number = _number(value)
    if number is not None:
        raise PydanticCustomError("walltime_number", "", {"written": str(value), "number": number})
    try:
        return parse_walltime(str(value))
    except ValueError as err:
        raise PydanticCustomError("bad_walltime", "") from err


def _duration(value: Any) -> float:
    """Seconds as a number, or a span as text; zero is a duration."""
    if ":" in str(value):
        return float(_walltime(value))
    try:
        seconds = float(str(value))
    except ValueError:
        text = str(value).strip()
        try:
            return 0.0 if text.rstrip("smhd ") == "0" else float(parse_walltime(text))
        except ValueError as err:
            raise _refused("is not a duration: write seconds, '90s', '5m' or 'HH:MM:SS'") from err
    if not 0 <= seconds < float("inf"):
        raise _refused("must be zero seconds or more")
    return seconds


def _span(value: Any) -> float:
    seconds = _duration(value)
    if not seconds:
        raise _refused("must be more than zero seconds")
    return seconds


def _memory(value: Any) -> int:
    try:
        size = parse_memory(str(value))
    except ValueError as err:
        raise PydanticCustomError("bad_memory", "is not a memory size: write '8G' or '500M'") from err
    if size < _LEAST_MEMORY:
        raise PydanticCustomError("bad_memory", "is less than a mebibyte: write the unit, as in '8G' or '500M'")
    return size


def _line(value: str) -> str:
    if problem := control_problem(value):
        raise _refused(problem)
    return value


def _directive(value: str) -> str:
    if problem := directive_problem(value):
        raise _refused(problem)
    return value


def _cluster(value: str) -> str:
    if "," in value or value == "all":
        raise _refused("is not one cluster: a run's job ids are those of one")
    return _directive(value)


def _option(value: str) -> str:
    line = value.removeprefix("#SBATCH").removeprefix("#PBS").strip()
    if problem := option_shape_problem(line):
        raise _refused(problem)
    return line


def _resource(value: str) -> str:
    if problem := resource_problem(value):
        raise _refused(problem)
    return value


def _chunk(value: str) -> str:
    if problem := chunk_problem(value):
        raise _refused(problem)
    return value


def _place(value: str) -> str:
    if problem := place_problem(value):
        raise _refused(problem)
    return value


def _module(value: str) -> str:
    if not value or value.startswith("-"):
        raise _refused("is not a module name")
    return _line(value)


def _name(value: str) -> str:
    if value.startswith("-"):
        raise _refused("starts with a dash, which would make it an option")
    return _line(value)


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_line(str(word)) for word in value)
    try:
        return tuple(shlex.split(_line(str(value))))
    except ValueError as err:
        raise _refused(f"cannot be split into words ({err})") from err


def _host_path(value: str) -> str:
    return _mountable(value, ("/", "~/"))


def _container_path(value: str) -> str:
    return _mountable(value, ("/",))


def _mountable(value: str, starts: tuple[str, ...]) -> str:
    if not value.startswith(starts):
        raise PydanticCustomError("relative_mount", "")
    if ":" in value or "," in value:
        raise _refused("holds ':' or ',', which a bind mount cannot carry")
    return _line(value)


def _variable(value: str) -> str:
    if problem := variable_problem(value):
        raise _refused(problem)
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as err:
        raise _refused(f"is not a regular expression ({err})") from err
    return value


def _date(value: Any) -> str:
    text = str(value)
    try:
        date.fromisoformat(text)
    except ValueError as err:
        raise _refused("is not a date: write it as in '2026-11-22'") from err
    return text


def _ports(value: Any) -> tuple[int, int]:
    """``40000-40100``, or one port."""
    low, dash, high = str(value).partition("-")
    if not low.strip().isdigit() or (dash and not high.strip().isdigit()):
        raise _refused("is not a range of ports: write '40000-40100'")
    first, last = int(low), int(high or low)
    if not 1 <= first <= last <= _LAST_PORT:
        raise _refused(f"must rise from 1 or more to at most {_LAST_PORT}")
    return first, last


def _exceptions(value: Any) -> tuple[str, ...]:
    names = [str(each) for each in value] if isinstance(value, list) else [str(value)]
    try:
        return class_names(names)
    except ValueError as err:
        raise _refused(f"names what is {err}") from err


def _rule(value: Any) -> str:
    try:
        return function_name(str(value))
    except ValueError as err:
        raise _refused(f"is {err}") from err


def _verdict(value: Any) -> str:
    names = {verdict.name: verdict.value for verdict in LIMITABLE}
    if str(value).upper() not in names:
        raise _refused(f"is no verdict that a limit can be set for: there is {', '.join(names)}")
    return names[str(value).upper()]


def _empty_is_unset(value: Any) -> Any:
    return None if isinstance(value, str) and not value else value


def plain(value: Any) -> Any:
    """Take a Scalar for the plain text that it is; a Literal wants no subclass of ``str``."""
    return str(value) if isinstance(value, str) else value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def nothing_is_empty(value: Any) -> Any:
    """Take ``key:`` without a value for an empty mapping."""
    return {} if value is None else value


def _share(value: Any) -> float:
    try:
        return parse_share(getattr(value, "meaning", value))
    except ValueError as err:
        raise _refused("must be 'sample' or a share from 0 to 1") from err


def _no_bool(value: Any) -> Any:
    if isinstance(getattr(value, "meaning", value), bool):
        raise _refused("must be a whole number")
    return value


_NUMBER_OR_TEXT = {"type": ["string", "number"]}
_TEXT_OR_LIST = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
"""What these are in a file, for JSON Schema; what they become is not what is written."""

Line = Annotated[str, AfterValidator(_line)]
OptionalLine = Annotated[Line | None, BeforeValidator(_empty_is_unset)]
OptionalName = Annotated[Annotated[str, AfterValidator(_name)] | None, BeforeValidator(_empty_is_unset)]
"""A word of a command, which must not be taken for an option of it."""
Walltime = Annotated[int, BeforeValidator(_walltime), WithJsonSchema({"type": "string"})]
Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema(_NUMBER_OR_TEXT)]
Span = Annotated[float, BeforeValidator(_span), WithJsonSchema(_NUMBER_OR_TEXT)]
Memory = Annotated[int, BeforeValidator(_memory), WithJsonSchema(_NUMBER_OR_TEXT)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words), WithJsonSchema(_TEXT_OR_LIST)]
Lines = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), WithJsonSchema(_TEXT_OR_LIST)]
Environment = dict[Annotated[str, AfterValidator(_variable)], Line]
Mounts = dict[Annotated[str, AfterValidator(_host_path)], Annotated[str, AfterValidator(_container_path)]]
Directive = Annotated[str, AfterValidator(_directive)]
OptionalDirective = Annotated[Directive | None, BeforeValidator(_empty_is_unset)]
OptionalCluster = Annotated[Annotated[str, AfterValidator(_cluster)] | None, BeforeValidator(_empty_is_unset)]
Option = Annotated[str, AfterValidator(_option)]
"""Of whichever batch system: which one is known when a target is resolved."""
Resource = Annotated[str, AfterValidator(_resource)]
Chunk = Annotated[str, AfterValidator(_chunk)]
OptionalPlace = Annotated[Annotated[str, AfterValidator(_place)] | None, BeforeValidator(_empty_is_unset)]
Module = Annotated[str, AfterValidator(_module)]
Share = Annotated[float, BeforeValidator(_share)]
Port = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=_LAST_PORT)]
Exceptions = Annotated[tuple[str, ...], BeforeValidator(_exceptions)]
RuleName = Annotated[str, BeforeValidator(_rule)]
VerdictName = Annotated[str, BeforeValidator(_verdict)]
Hours = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(ge=1)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Date = Annotated[str, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
Ports = Annotated[tuple[int, int], BeforeValidator(_ports), WithJsonSchema(_NUMBER_OR_TEXT)]
