"""How NumPy's types are encoded: dtype, shape and elements, whatever the strides or the memory order.

Rule 1: only bytes that are part of a value are read: padding, of structured types and of long doubles, never.
Rule 2: imported by ``encode`` once the user's program has imported NumPy, by nobody else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scalable_hpc.cache.encode import Encoder, Unencodable, register, register_family, type_name

_PLAIN = frozenset("biufcmMSUV")
"""Kinds whose elements are their bytes."""
_BLOCK = 1 << 18
"""Elements that are brought into order at a time when an array is not contiguous."""
_PADDED_MANTISSA = 63
"""Mantissa bits of x87's 80-bit numbers, which are stored in 12 or 16 bytes with rubbish behind."""


def _dtype(encoder: Encoder, dtype: np.dtype[Any]) -> None:
    encoder.text(b"y", dtype.str if dtype.fields is None else "fields")
    encoder.text(b"y", type_name(dtype.type))
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        _dtype(encoder, base)
        encoder.items(b"(", shape)
    elif dtype.fields is not None:
        encoder.items(b"(", dtype.names or ())
        for name in dtype.names or ():
            _dtype(encoder, dtype.fields[name][0])


def _array(encoder: Encoder, value: np.ndarray[Any, Any]) -> None:
    if not encoder.enter(value):
        return
    try:
        encoder.out += b"A"
        _dtype(encoder, value.dtype)
        encoder.items(b"(", value.shape)
        _elements(encoder, value)
    finally:
        encoder.leave(value)


def _elements(encoder: Encoder, value: np.ndarray[Any, Any]) -> None:
    dtype = value.dtype
    if dtype.fields is not None:
        for name in dtype.names or ():
            _elements(encoder, value[name])
    elif dtype.kind in "OT":
        encoder.items(b"O", value.ravel().tolist())
    elif dtype.kind not in _PLAIN:
        raise Unencodable(type_name(dtype.type), reason=f"the dtype {dtype} is not known to be its bytes")
    elif dtype.char in "gG" and np.finfo(dtype).nmant == _PADDED_MANTISSA:
        _long_doubles(encoder, value)
    else:
        _raw(encoder, value)


def _raw(encoder: Encoder, value: np.ndarray[Any, Any]) -> None:
    if value.flags.c_contiguous:
        encoder.buffer(b"A", value.reshape(-1).view(np.uint8).data if value.nbytes else b"")
        return
    # the same bytes in the same order as above, without a second copy of the whole array
    blocks = np.nditer(value, ["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=_BLOCK)
    ordered = bytearray()
    for block in blocks:
        ordered += np.ascontiguousarray(block).view(np.uint8).data
    encoder.buffer(b"A", ordered)


def _long_doubles(encoder: Encoder, value: np.ndarray[Any, Any]) -> None:
    for part in (value.real, value.imag) if value.dtype.kind == "c" else (value,):
        with np.errstate(all="ignore"):
            mantissa, exponent = np.frexp(part)
            high = mantissa.astype(np.float64)
            low = np.where(np.isfinite(mantissa), mantissa - high, 0).astype(np.float64)
        for piece in (high, low, exponent.astype(np.int64)):
            _raw(encoder, np.ascontiguousarray(piece))


def _scalar(encoder: Encoder, value: np.generic) -> None:
    encoder.out += b"q"
    array = np.asarray(value)
    _dtype(encoder, array.dtype)
    _elements(encoder, array)


def _masked(encoder: Encoder, value: Any) -> None:
    encoder.out += b"K"
    _array(encoder, np.asarray(value.data))
    _array(encoder, np.ma.getmaskarray(value))
    encoder.add(value.fill_value)


def _bare_dtype(encoder: Encoder, value: np.dtype[Any]) -> None:
    encoder.out += b"y"
    _dtype(encoder, value)


register(np.ndarray, _array)
register(np.memmap, _array)
register(np.ma.MaskedArray, _masked)
register_family(lambda cls: issubclass(cls, np.generic), _scalar)
register_family(lambda cls: issubclass(cls, np.dtype), _bare_dtype)
