"""Values that lie on top of a mapped file: their NumPy arrays are handed out read-only.

The mapping is private, so nothing that a caller writes could reach the file. But who writes into an array that was
found takes it for a scratch array of their own, which the next call would find unchanged: a mistake, and one is told.

Rule 1: nothing is copied: an array is made by NumPy itself, and its flag set; the caller may set it back.
Rule 2: pandas guards what it hands out by itself, and writes into its own arrays where it is asked to: those that its
    objects hold stay writable.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

_MAKES_ARRAY = frozenset({("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")})
_MAKES_COLUMNS = ("pandas._libs.internals", "_unpickle_block")
"""Called with the columns of a frame."""
_HOLDS_SERIES = ("pandas.core.internals.managers", "SingleBlockManager")
"""Made empty, and then told its state, values and all."""
_HELD_BY_PANDAS = ("_ndarray", "_data", "_mask")
"""Where the columns of pandas that are no plain arrays (dates, categories, nullable numbers) have theirs."""


def loads_frozen(body: memoryview, buffers: Sequence[bytearray | memoryview], whole: memoryview) -> Any:
    """Unpickle a value whose buffers lie in ``whole``, which may be written to.

    Raises:
        Exception: whatever unpickling raises.
    """
    unpickler = _Unpickler(body, buffers, whole)
    value = unpickler.load()
    for manager in unpickler.managers:
        for block in manager.blocks:
            _thaw(block.values)
    return value


def as_computed(obj: Any) -> Any:
    """Reduce an array that is read-only because it was found as if it had been computed; anything else as it is.

    A result that is made of another one must be the same record, whether that one was found or computed.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or type(obj) is not numpy.ndarray or obj.flags.writeable:
        return NotImplemented
    view = obj.view()
    try:
        view.flags.writeable = True  # of the view alone, and refused where the memory itself is read-only
    except ValueError:
        return NotImplemented
    return view.__reduce_ex__(5)


class ThawingPickler(pickle.Pickler):
    """Pickles arrays that were found like computed ones."""

    def reducer_override(self, obj: Any, /) -> Any:
        """Return ``as_computed``."""
        return as_computed(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: memoryview, buffers: Sequence[bytearray | memoryview], whole: memoryview) -> None:
        super().__init__(io.BytesIO(body), buffers=buffers)
        self._whole = whole
        self.managers: list[Any] = []
        """Of the series that were met."""

    def find_class(self, module: str, name: str, /) -> Any:
        found = super().find_class(module, name)
        if (module, name) in _MAKES_ARRAY:
            return self._frozen(found)
        if (module, name) == _MAKES_COLUMNS:
            return _thawed(found)
        return self._remembered(found) if (module, name) == _HOLDS_SERIES else found

    def _frozen(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def frozen(buffer: memoryview, *rest: Any) -> Any:
            array = make(_writable(buffer, self._whole), *rest)
            array.flags.writeable = False
            return array

        return frozen

    def _remembered(self, manager: Any) -> type:
        managers = self.managers

        class Maker:
            """Stands for the class while unpickling, which wants one, and makes the real thing."""

            def __new__(cls, *args: Any) -> Any:
                managers.append(manager.__new__(manager, *args))
                return managers[-1]

        return Maker


def _writable(buffer: memoryview, whole: memoryview) -> memoryview:
    """Return a buffer as it may be written to: what was read-only when it was stored is its reader's to change, too."""
    if not buffer.readonly:
        return buffer
    import numpy as np

    start = np.frombuffer(buffer, "u1").ctypes.data - np.frombuffer(whole, "u1").ctypes.data
    return whole[start : start + buffer.nbytes]


def _thawed(make: Callable[..., Any]) -> Callable[..., Any]:
    def thawed(values: Any, *rest: Any) -> Any:
        _thaw(values)
        return make(values, *rest)

    return thawed


def _thaw(values: Any) -> None:
    for held in (values, *(getattr(values, name, None) for name in _HELD_BY_PANDAS)):
        flags: Any = getattr(held, "flags", None)
        if hasattr(flags, "writeable"):
            flags.writeable = True
