"""One call, however it was spelled: arguments bound to their parameters, defaults filled in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Bound(NamedTuple):  # one is made for every call: a frozen dataclass takes three times as long
    """The arguments of one call."""

    named: dict[str, Any]
    """Every parameter that has a name of its own, in the signature's order."""
    rest: tuple[Any, ...]
    """What ``*args`` takes."""
    extra: dict[str, Any]
    """What ``**kwargs`` takes."""


class Signature:
    """A function's parameters; quicker by far than ``inspect``'s own binding, and agreeing with it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins do not tell
            self._signature = inspect.signature(_anything)
        parameters = self._signature.parameters.values()
        self.by_position = tuple(each.name for each in parameters if each.kind in _BY_POSITION)
        self.by_name = frozenset(each.name for each in parameters if each.kind in _BY_NAME)
        self.keyword_only = tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
        self.names = self.by_position + self.keyword_only
        self.defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        self._optional = sum(name in self.defaults for name in self.by_position)
        """How many parameters may be left out of a call by position: Python has all of them at the end."""
        self._tail = tuple(self.defaults[name] for name in self.by_position if name in self.defaults)
        self.takes_rest = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        self.takes_extra = any(each.kind is each.VAR_KEYWORD for each in parameters)

    def values(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the values of ``by_position`` in a call by position alone; None where it takes ``bind`` to tell."""
        missing = len(self.by_position) - len(args)
        if self.keyword_only or missing < 0 or missing > self._optional:
            return None
        return args + self._tail[-missing:] if missing else args

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Return the call's arguments, defaults filled in.

        Raises:
            TypeError: they do not fit the signature.
        """
        values = None if kwargs else self.values(args)
        if values is not None:
            return Bound(dict(zip(self.by_position, values, strict=True)), (), {})
        given = dict(zip(self.by_position, args, strict=False))
        rest = args[len(self.by_position) :]
        extra: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in self.by_name and name not in given:
                given[name] = value
            else:
                extra[name] = value
        named = {}
        for name in self.names:
            if name in given:
                named[name] = given[name]
            elif name in self.defaults:
                named[name] = self.defaults[name]
        unfit = (rest and not self.takes_rest) or (extra and not self.takes_extra) or len(named) != len(self.names)
        if unfit or (extra and not self.by_name.isdisjoint(extra)):
            self._signature.bind(*args, **kwargs)  # raises, in Python's own words; some versions miss some cases
            raise TypeError(f"the arguments do not fit {self._signature}")
        return Bound(named, rest, extra)

    def spelled(self, bound: Bound) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call in one spelling of it."""
        args = tuple(bound.named[name] for name in self.by_position)
        kwargs = {name: bound.named[name] for name in self.keyword_only}
        return args + bound.rest, {**kwargs, **bound.extra}


def _anything(*args: Any, **kwargs: Any) -> None:
    """Stand for a callable that does not tell its signature."""
