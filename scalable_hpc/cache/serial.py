"""Results as bytes and back: pickle protocol 5 with large buffers apart, framed into one record.

    header   magic, version, number of buffers, length of the pickle
    lengths  of each buffer
    pickle
    buffers  each starting at a multiple of ``ALIGNMENT`` from the record's start

Because the buffers lie flat in the record, arrays can be handed back on top of a mapped file without a copy.

Rule 1: records are opened only out of a store whose owner and seals were checked: unpickling runs code.
Rule 2: what plain pickle cannot take goes through cloudpickle, and so does everything of ``__main__``, which is
    another module in every process. A class of ``__main__`` comes back as the reader's own class of that name where
    there is one, else as a copy.
Rule 3: a ``FileType`` or ``DirType`` in a result is kept with its content, in a buffer, and put back by ``loads``.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
from typing import Any

from scalable_hpc.cache.mapped import ThawingPickler, as_computed, loads_frozen
from scalable_hpc.cache.record import ALIGNMENT, HEADER, LENGTH, MAGIC, FilePart, Record, Unstorable
from scalable_hpc.errors import ScalableError

_MAIN = b"__main__"
_MARKERS = b"scalable_hpc.cache.markers"


class Unreadable(ScalableError):
    """A record cannot be made into a value again: not one of ours, or its classes are gone."""


def dumps(value: object) -> bytes:
    """Return a value as one record.

    Raises:
        Unstorable: it cannot be pickled.
    """
    return record_of(value).join()


def record_of(value: object) -> Record:
    """Return a value as a record in pieces, which are the value's own: to be written before it may change.

    Raises:
        Unstorable: it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        plain = _MAIN not in body and _MARKERS not in body
    except Exception:  # noqa: BLE001 - a user's own __reduce__ may raise anything; cloudpickle has the last word
        plain = False
    if not plain:
        return _packed_by_value(value)
    raw = [buffer.raw() for buffer in buffers]
    return _thawed(value) if any(each.readonly for each in raw) else Record(body, raw)


def loads(record: bytes | bytearray | memoryview, *, frozen: bool = False) -> Any:
    """Return the value of a record.

    Arrays lie on top of the record where it is writable (a private mapping); over bytes that nobody may write they
    are copies, which are the caller's own.

    Args:
        record: Its bytes.
        frozen: NumPy arrays that lie on top of the record come read-only, but for those inside of pandas objects;
            ``array.flags.writeable = True`` makes them the caller's own.

    Raises:
        Unreadable: it is not a record, or cannot be unpickled here, or an output cannot be put back.
    """
    view = memoryview(record)
    if len(view) < HEADER.size:
        raise Unreadable("a result's record is shorter than its header")
    magic, count, length = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise Unreadable(f"a result's record starts with {magic!r}, not with {MAGIC!r}")
    start = HEADER.size + count * LENGTH.size
    end = start + length
    if end > len(view):
        raise Unreadable(f"a result's record has {len(view)} bytes where it speaks of at least {end}")
    buffers = []
    for position in range(count):
        (size,) = LENGTH.unpack_from(view, HEADER.size + position * LENGTH.size)
        end += -end % ALIGNMENT
        part = view[end : end + size]
        buffers.append(bytearray(part) if view.readonly else part)
        end += size
    if end != len(view):
        raise Unreadable(f"a result's record has {len(view)} bytes where it speaks of {end}")
    try:
        if frozen and buffers and not view.readonly:
            return loads_frozen(view[start : start + length], buffers, view)
        return pickle.loads(view[start : start + length], buffers=buffers)
    except Exception as err:  # unpickling imports modules and runs their code: anything may be raised
        raise Unreadable(f"a result cannot be unpickled here: {err}") from err


def _thawed(value: object) -> Record:
    target, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    ThawingPickler(target, protocol=5, buffer_callback=buffers.append).dump(value)
    return Record(target.getvalue(), [buffer.raw() for buffer in buffers])


def plain_body(record: bytes) -> bytes | None:
    """Return the pickle of a record that has no buffers, which alone makes the value; None for any other."""
    if len(record) < HEADER.size:
        return None
    magic, count, length = HEADER.unpack_from(record)
    return record[HEADER.size :] if (magic, count, HEADER.size + length) == (MAGIC, 0, len(record)) else None


def loads_body(body: bytes) -> Any:
    """Return the value of such a record.

    Raises:
        Unreadable: it cannot be unpickled here.
    """
    try:
        return pickle.loads(body)
    except Exception as err:  # as above
        raise Unreadable(f"a result cannot be unpickled here: {err}") from err


def _packed_by_value(value: object) -> Record:
    target = io.BytesIO()
    try:
        pickler = _pickler()(target)
        pickler.dump(value)
        return Record(target.getvalue(), pickler.parts)
    except Exception as err:  # as above
        raise Unstorable(f"a result of type {type(value).__qualname__!r} cannot be pickled: {err}") from err


@functools.cache
def _pickler() -> Any:
    import cloudpickle

    from scalable_hpc.cache.markers import PathType
    from scalable_hpc.cache.outputs import reduced

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Cloudpickle, but for the classes of ``__main__`` and for what a result names by its path."""

        def __init__(self, target: io.BytesIO) -> None:
            super().__init__(target, protocol=5, buffer_callback=self._take)
            self.parts: list[memoryview | FilePart] = []
            self._files: dict[int, tuple[pickle.PickleBuffer, FilePart]] = {}

        def _take(self, buffer: pickle.PickleBuffer) -> None:
            stands_for = self._files.pop(id(buffer), None)
            self.parts.append(buffer.raw() if stands_for is None else stands_for[1])

        def _stand_in(self, part: FilePart) -> pickle.PickleBuffer:
            buffer = pickle.PickleBuffer(b"")
            self._files[id(buffer)] = (buffer, part)
            return buffer

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type) and obj.__module__ == "__main__" and "<locals>" not in obj.__qualname__:
                return _class_of_main, (obj.__qualname__, cloudpickle.dumps(obj))
            if isinstance(obj, PathType):
                return reduced(obj, self._stand_in)
            thawed = as_computed(obj)
            return super().reducer_override(obj) if thawed is NotImplemented else thawed

    return Pickler


def _class_of_main(qualname: str, pickled: bytes) -> Any:
    found: Any = sys.modules.get("__main__")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) else pickle.loads(pickled)
