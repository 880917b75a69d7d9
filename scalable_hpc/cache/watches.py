"""What a code identity was made from, and whether it is still the same: asked before every use of a remembered one.

Rule 1: asking is cheap: identities are compared, not values, but for what can change in place.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from operator import is_
from types import FunctionType, ModuleType
from typing import Any, Protocol

from scalable_hpc.cache.encode import Encoder, Unencodable
from scalable_hpc.cache.owner import is_users_code, label_of, unwrapped
from scalable_hpc.cache.static import module_label

ABSENT = object()
"""Stands for a name that is not bound."""
_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})


class Watch(Protocol):
    """Something that an identity was made from."""

    def holds(self) -> bool:
        """Say whether it is still the same."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A name in a namespace."""

    namespace: Mapping[str, Any]
    name: str
    value: object

    def holds(self) -> bool:
        """Say whether the name still means the same object."""
        return self.namespace.get(self.name, ABSENT) is self.value


@dataclass(frozen=True, slots=True)
class Extent:
    """Which names a namespace has."""

    namespace: Mapping[Any, Any]
    names: tuple[Any, ...]

    def holds(self) -> bool:
        """Say whether none came and none went."""
        return tuple(self.namespace) == self.names


@dataclass(frozen=True, slots=True)
class Body:
    """A function's own code, defaults and closure."""

    function: FunctionType
    code: types.CodeType
    defaults: tuple[Any, ...] | None
    cells: tuple[Any, ...]

    def holds(self) -> bool:
        """Say whether they are the same objects."""
        function = self.function
        return (
            function.__code__ is self.code
            and function.__defaults__ is self.defaults
            and (not self.cells or all(map(is_, cells_of(function), self.cells)))
        )


@dataclass(frozen=True, slots=True)
class Content:
    """A value that can change in place."""

    value: object
    home: str
    digest: bytes
    code: tuple[Any, ...]

    def holds(self) -> bool:
        """Say whether the value still encodes the same, and holds the same code."""
        try:
            digest, references = encoded(self.value, self.home)
        except Unencodable:
            return False
        return digest == self.digest and all(map(is_, (code for _, code in references), self.code))


def encoded(value: object, home: str) -> tuple[bytes, list[tuple[bool, Any]]]:
    """Return a value's digest, with the user's code in it by name, and that code (in a fixed order or not)."""
    references: list[tuple[bool, Any]] = []

    def note(code: Any) -> bytes:
        if isinstance(code, ModuleType):
            return module_label(code, home)
        inner = unwrapped(code)
        if is_users_code(inner, home):
            references.append((encoder.unordered == 0, inner))
        manner = getattr(getattr(code, "__scalable_cache__", None), "manner", "")
        return f"{label_of(inner)} {manner}".encode()

    encoder = Encoder(note)
    encoder.add(value)
    return encoder.digest(), references


def cells_of(function: FunctionType) -> tuple[Any, ...]:
    """Return what a function's closure holds."""
    return tuple(map(_held, function.__closure__ or ()))


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # bound later, by a function that is still being defined
        return ABSENT


def is_constant(value: object) -> bool:
    """Say whether a value cannot change in place (functions and classes are watched for themselves)."""
    if isinstance(value, FunctionType | type) or type(value) in _PLAIN:
        return True
    return isinstance(value, tuple | frozenset) and type(value) in {tuple, frozenset} and all(map(is_constant, value))
