"""What a piece of code refers to outside itself: pure, on code objects.

Read from the bytecode, which knows globals from locals and attributes; names that are built at run time
(``getattr(module, name)``, ``globals()[name]``, ``eval``) cannot be seen.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_CLASS_MACHINERY = frozenset({"__name__", "__annotations__"})
"""Read by class statements; what a module is called, or annotates, does not alter a result."""
_SILENT = frozenset({"EXTENDED_ARG", "CACHE", "NOP"})
_CONSTANT = frozenset({"LOAD_CONST", "LOAD_SMALL_INT"})


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """An import statement inside a function."""

    module: str
    level: int
    """Leading dots of a relative import."""
    names: tuple[str, ...]
    """What ``from module import`` takes, each perhaps a module itself."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The names by which code reaches outside itself, sorted."""

    paths: tuple[tuple[str, ...], ...]
    """A global name and the attributes read from it at once: ``("models", "ode", "solve")``."""
    imports: tuple[Import, ...]


def reach_of(code: CodeType) -> Reach:
    """Return what a code object, and every code object nested in it, refers to."""
    paths: set[tuple[str, ...]] = set()
    imports: set[Import] = set()
    for part in nested(code):
        _scan(part, paths, imports)
    return Reach(paths=tuple(sorted(paths)), imports=tuple(sorted(imports)))


def nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that are nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def _scan(code: CodeType, paths: set[tuple[str, ...]], imports: set[Import]) -> None:
    path: tuple[str, ...] = ()
    recent: list[object] = []
    for step in dis.get_instructions(code):
        if step.opname in _SILENT:
            continue
        if path and step.opname in _ATTRIBUTE:
            path = (*path, step.argval)
            continue
        if path:
            paths.add(path)
            path = ()
        if step.opname in _GLOBAL and step.argval not in _CLASS_MACHINERY:
            path = (step.argval,)
        elif step.opname == "IMPORT_NAME":
            level, names = recent[-2:] if len(recent) > 1 else (0, None)
            taken = names if isinstance(names, tuple) else ()
            imports.add(Import(step.argval, level if isinstance(level, int) else 0, taken))
        recent = [*recent[-1:], step.argval] if step.opname in _CONSTANT else []
    if path:
        paths.add(path)
