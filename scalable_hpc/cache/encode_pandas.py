"""How pandas' types are encoded: index, columns, dtypes and values, whatever the block layout.

Rule 1: only public accessors, so that pandas 2 and 3 give the same bytes for the same frame where their dtypes agree.
Rule 2: imported by ``encode`` once the user's program has imported pandas, by nobody else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scalable_hpc.cache.encode import Encoder, Unencodable, register, register_family

_MASKED = (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)
_STAMPED = (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray, pd.arrays.PeriodArray)


def _frame(encoder: Encoder, value: pd.DataFrame) -> None:
    encoder.out += b"X"
    _index(encoder, value.columns)
    _index(encoder, value.index)
    position = 0
    try:
        for position in range(len(value.columns)):
            _values(encoder, value.iloc[:, position].array)
    except Unencodable as problem:
        raise problem.under(f"[{value.columns[position]!r}]") from problem
    encoder.add(value.attrs)


def _series(encoder: Encoder, value: pd.Series[Any]) -> None:
    encoder.out += b"Q"
    encoder.add(value.name)
    _index(encoder, value.index)
    _values(encoder, value.array)
    encoder.add(value.attrs)


def _index(encoder: Encoder, value: pd.Index[Any]) -> None:
    encoder.text(b"x", type(value).__name__)
    encoder.items(b"(", list(value.names))
    if isinstance(value, pd.RangeIndex):
        encoder.items(b"(", (value.start, value.stop, value.step))
    elif isinstance(value, pd.MultiIndex):
        encoder.items(b"(", (value.nlevels, len(value)))
        for level in range(value.nlevels):
            _index(encoder, value.get_level_values(level))
    else:
        encoder.add(getattr(value, "freqstr", None))
        _values(encoder, value.array)


def _values(encoder: Encoder, value: Any) -> None:
    dtype = value.dtype
    encoder.text(b"y", str(dtype))
    if isinstance(value, pd.arrays.NumpyExtensionArray):
        # a buffer where its elements are their bytes: by element, a million rows take twenty times as long
        encoder.add(np.asarray(value))
    elif isinstance(value, pd.Categorical):
        encoder.add(bool(value.ordered))
        _index(encoder, value.categories)
        encoder.add(np.asarray(value.codes))
    elif isinstance(value, _STAMPED):
        encoder.add(getattr(value, "tz", None))
        encoder.add(value.asi8)
    elif isinstance(value, _MASKED):
        missing = value.isna()
        encoder.add(missing)
        # what lies under the mask is not part of the value
        plain = value.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        encoder.add(plain)
    else:
        _objects(encoder, value)


def _objects(encoder: Encoder, value: Any) -> None:
    """Encode any other array by its elements; the missing ones apart, so that text stays one buffer."""
    missing = np.asarray(value.isna())
    encoder.add(missing)
    if isinstance(value.dtype, pd.StringDtype):
        value = value[~missing]
    encoder.items(b"O", value.to_numpy(dtype=object).tolist())


def _extension(encoder: Encoder, value: Any) -> None:
    encoder.out += b"Z"
    _values(encoder, value)


register(pd.DataFrame, _frame)
register(pd.Series, _series)
register_family(lambda cls: issubclass(cls, pd.Index), _index)
register_family(lambda cls: issubclass(cls, pd.api.extensions.ExtensionArray), _extension)
