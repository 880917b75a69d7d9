"""A call as somebody types it, ``model:run(3, name="b")`` or ``study.py:run(3)``, made into a function and arguments.

Rule 1: nothing of a script runs but what it defines: imports, functions, classes, constants. Loops, ``with`` blocks,
    bare calls, what is computed by its own functions, and its ``__main__`` part are left out.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalable_hpc.errors import ScalableError

_CALL = re.compile(r"(?P<where>[^:()]+):(?P<call>[^:()]+\(.*\))", re.DOTALL)
EXAMPLE = "model:run(3, name='b') or study.py:run(3)"


class UnknownCall(ScalableError):
    """What was typed is not a call that can be looked for."""


@dataclass(frozen=True, slots=True)
class TypedCall:
    """A function and what it is called with."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def is_call(text: str) -> bool:
    """Say whether some text is meant as a call."""
    return _CALL.fullmatch(text.strip()) is not None


def read_call(text: str) -> TypedCall:
    """Return the call that somebody typed; its module or script is loaded for it.

    A script's functions are named as those of ``__main__``, as they are when it is run.

    Raises:
        UnknownCall: it is not one, or what it names cannot be loaded.
    """
    found = _CALL.fullmatch(text.strip())
    if found is None:
        raise UnknownCall(f"not a call: {text!r}", hint=f"type one like {EXAMPLE}")
    where = found["where"]
    try:
        tree = ast.parse(found["call"], mode="eval").body
    except SyntaxError as err:
        raise UnknownCall(f"not a call: {found['call']!r}: {err.msg}", hint=f"type one like {EXAMPLE}") from err
    if not isinstance(tree, ast.Call):
        raise UnknownCall(f"not a call: {found['call']!r}", hint=f"type one like {EXAMPLE}")
    names = vars(load_script(Path(where)) if where.endswith(".py") else _module(where))
    function = _value(tree.func, names)
    if not callable(function):
        raise UnknownCall(f"{ast.unparse(tree.func)!r} of {where!r} cannot be called")
    args: list[Any] = []
    for given in tree.args:
        args += _value(given.value, names) if isinstance(given, ast.Starred) else [_value(given, names)]
    kwargs: dict[str, Any] = {}
    for named in tree.keywords:
        value = _value(named.value, names)
        kwargs.update(value if named.arg is None else {named.arg: value})
    return TypedCall(function, tuple(args), kwargs)


def load_script(path: Path) -> types.ModuleType:
    """Return what a script defines, as a module named ``__main__`` that takes the place of this program's.

    Raises:
        UnknownCall: it cannot be read.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path.absolute()))
    except (OSError, SyntaxError, ValueError) as err:
        raise UnknownCall(f"the script {str(path)!r} cannot be read: {err}") from err
    module = types.ModuleType("__main__")
    module.__file__ = str(path.absolute())
    sys.modules["__main__"] = module
    sys.path.insert(0, str(path.absolute().parent))
    own = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    for statement in tree.body:
        if _defines(statement, own):
            code = compile(ast.Module([statement], []), module.__file__, "exec", dont_inherit=True)
            # what cannot be had without the rest of the script is missed when the call needs it
            with contextlib.suppress(Exception, SystemExit):
                exec(code, vars(module))  # noqa: S102 - it is the user's
    return module


def _module(name: str) -> types.ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as err:
        raise UnknownCall(
            f"the module {name!r} cannot be imported: {type(err).__name__}: {err}",
            hint="run this where Python finds it, or name a script: path/to/study.py:function(...)",
        ) from err


def _value(tree: ast.expr, names: dict[str, Any]) -> Any:
    code = compile(ast.Expression(tree), "<typed>", "eval", dont_inherit=True)
    try:
        return eval(code, names)  # noqa: S307 - typed by the user, on the user's own machine
    except Exception as err:
        raise UnknownCall(f"{ast.unparse(tree)!r}: {type(err).__name__}: {err}") from err


def _defines(statement: ast.stmt, own: set[str]) -> bool:
    """Say whether a statement of a script defines something, rather than doing the script's work."""
    if isinstance(statement, ast.Expr | ast.With | ast.AsyncWith | ast.For | ast.AsyncFor | ast.While):
        return False
    if isinstance(statement, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(statement.test)
    ):
        return False
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    return own.isdisjoint(_called(statement))


def _called(statement: ast.stmt) -> set[str]:
    """Return the first names of everything that a statement calls."""
    names = set()
    for part in ast.walk(statement):
        if isinstance(part, ast.Call):
            called: ast.AST = part.func
            while isinstance(called, ast.Attribute | ast.Call):
                called = called.value if isinstance(called, ast.Attribute) else called.func
            names.add(getattr(called, "id", ""))
    return names
