"""The types that a user declares on a cacheable function: what fits them, and what is brought into them.

Only losses of form are forgiven, never of value: NumPy's scalars become Python's, a whole number becomes a float, text
becomes a path. Both the key and the function get the value so brought in, so that equal keys mean equal calls.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable
from typing import Any, cast

from scalable_hpc.cache.markers import GenericType, PathType

SHOWN = 80
"""Characters of a value that a message shows."""
_SCALARS = (bool, int, float, complex, str, bytes)


def brought_into(value: Any, declared: Any, name: str, function: str) -> Any:
    """Return an argument as its declared type wants it.

    Args:
        value: The argument; the result of another task that is still to come passes unseen.
        declared: A class, a generic alias or union, or one of the markers.
        name: The parameter, for the message.
        function: The function, for the message.

    Raises:
        TypeError: it does not fit.
    """
    if _is_marker(declared) or _is_to_come(value):
        return value
    if declared in _SCALARS:
        value = _plain(value)
        if declared is float and type(value) is int and float(value) == value:
            value = float(value)
    elif _is_class(declared) and issubclass(declared, os.PathLike) and isinstance(value, str):
        value = cast("Any", declared)(value)
    if not fits(value, declared):
        raise TypeError(
            f"{name!r} of {function}() must be {_named(declared)}, not {_named(type(value))}: {_short(value)}"
        )
    return value


def for_key(value: Any, declared: Any) -> Any:
    """Return what enters the key in an argument's stead: for a declared file or directory, its content."""
    if not _is_path_type(declared):
        return value
    if isinstance(value, str | os.PathLike) and not isinstance(value, PathType):
        return declared(value)
    if type(value) in {list, tuple}:
        return type(value)([for_key(item, declared) for item in value])
    return value


def check_result(value: Any, declared: Any, what: str) -> None:
    """Check a result against its declared type.

    Raises:
        TypeError: it does not fit.
    """
    if not is_result(value, declared):
        hint = f" (return {_named(declared)}(path))" if _is_path_type(declared) else ""
        raise TypeError(f"{what} must return {_named(declared)}, not {_named(type(value))}: {_short(value)}{hint}")


def is_result(value: Any, declared: Any) -> bool:
    """Say whether a result is of a declared type; the markers of plain values take any."""
    return (_is_marker(declared) and not _is_path_type(declared)) or fits(value, declared)


def fits(value: Any, declared: Any) -> bool:
    """Say whether a value is of a declared type; of a container, only the container itself is looked at."""
    if declared is Any:
        return True
    if declared is None:
        return value is None
    origin = typing.get_origin(declared)
    if origin is not None:
        return _fits_special(value, declared, origin)
    if not isinstance(declared, type):
        return True
    # True passes for 1 in Python, and gives another key and perhaps another result
    return isinstance(value, declared) and not (isinstance(value, bool) and declared in {int, float, complex})


def check_declaration(declared: Any, what: str) -> None:
    """Check that a declared type is one.

    Raises:
        TypeError: it is not.
    """
    if declared is None or declared is Any or isinstance(declared, type) or typing.get_origin(declared) is not None:
        return
    raise TypeError(f"{what} is declared as {declared!r}, which is not a type")


def _fits_special(value: Any, declared: Any, origin: Any) -> bool:
    check = _SPECIAL.get(origin)
    if check is not None:
        return check(value, typing.get_args(declared))
    return not isinstance(origin, type) or isinstance(value, origin)


_SPECIAL: dict[Any, Callable[[Any, tuple[Any, ...]], bool]] = {
    typing.Union: lambda value, options: any(fits(value, option) for option in options),
    types.UnionType: lambda value, options: any(fits(value, option) for option in options),
    typing.Literal: lambda value, options: any(type(value) is type(option) and value == option for option in options),
    typing.Annotated: lambda value, options: fits(value, options[0]),
}


def _is_class(declared: Any) -> bool:
    # Python 3.10 calls ``list[int]`` a type
    return isinstance(declared, type) and typing.get_origin(declared) is None


def _is_marker(declared: Any) -> bool:
    return _is_class(declared) and issubclass(declared, GenericType)


def _is_path_type(declared: Any) -> bool:
    return _is_class(declared) and issubclass(declared, PathType)


def _is_to_come(value: Any) -> bool:
    # by name: the module costs more to import than this one, and may never be needed
    return type(value).__name__ == "ResultRef" and type(value).__module__ == "scalable_hpc.model.tasks"


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own; anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(type(value), "item"):
        return value.item()
    return value


def _named(declared: Any) -> str:
    return declared.__qualname__ if _is_class(declared) else str(declared)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
