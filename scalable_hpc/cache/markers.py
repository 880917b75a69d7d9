"""The argument kinds that a user can declare on a cacheable function, by the names that Scalable gave them.

``FileType`` and ``DirType`` mean "what lies at this path", not the path's text: the key is made from the content, so a
renamed copy is the same input. The others mean "encode the value as it is", which is also what happens undeclared.
"""

from __future__ import annotations

import os


class GenericType:
    """Base of every argument kind; declared by itself it means "any value"."""


class ValueType(GenericType):
    """A plain value: number, text, bytes."""


class ObjectType(GenericType):
    """A structured value: list, tuple, dict, object."""


class UtilityType(GenericType):
    """A value of a library: array, frame."""


class PathType(GenericType):
    """A path that stands for what lies there."""

    __slots__ = ("is_strict", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.is_strict = False
        """Of a result: whether what lies there is compared in full when the result is found again."""

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"


class FileType(PathType):
    """A file: the key is made from its bytes, whatever its name."""

    __slots__ = ()


class DirType(PathType):
    """A directory: the key is made from the names and bytes of all that lies below it, whatever its own name."""

    __slots__ = ()
