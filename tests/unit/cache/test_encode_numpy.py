"""Laws of how NumPy's types are encoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from scalable_hpc.cache.encode import Unencodable, digest
from tests.cache_support import DigestProcess, by_name


def key(value):
    return digest(value, by_name)


def arrays(min_dims=0):
    return npst.arrays(
        dtype=st.one_of(npst.scalar_dtypes(), npst.array_dtypes(max_size=3)),
        shape=npst.array_shapes(min_dims=min_dims, max_dims=3, min_side=0, max_side=4),
    )


@settings(max_examples=100, deadline=None)
@given(arrays(min_dims=1))
def test_that_memory_layout_does_not_matter(array):
    """C order, Fortran order, strides and read-only views of the same elements have one digest."""
    padded = np.zeros(tuple(2 * side for side in array.shape), array.dtype)
    view = padded[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    frozen = array.copy()
    frozen.flags.writeable = False

    assert {key(np.asfortranarray(array)), key(view), key(frozen)} == {key(array)}


@settings(max_examples=100, deadline=None)
@given(arrays(), arrays())
def test_that_arrays_share_a_key_only_with_dtype_shape_and_elements(a, b):
    """Arrays share a digest only if dtype, shape and bytes agree."""
    equal = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()

    assert (key(a) == key(b)) == equal


def test_that_equal_bytes_are_not_equal_arrays():
    """Type, unit, byte order and shape count, not only bytes."""
    family = [
        np.zeros(6), np.zeros(6, "i8"), np.zeros(6, "u8"), np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(6, ">f8"),
        np.zeros(6, "M8[ns]"), np.zeros(6, "M8[s]"), np.zeros(6, "m8[s]"), np.zeros(12, "f4"), np.zeros(48, "?"),
        np.zeros(48, "S1"), np.zeros(6, "S8"), np.zeros(6, "V8"), np.zeros(3, "c16"), np.zeros((6, 0)), np.zeros((0,
        6)),
        np.zeros(6, [("a", "f8")]), np.zeros(6, [("b", "f8")]), np.zeros(6, [("a", "f4"), ("b", "f4")]), np.zeros(()),
        np.float64(0), 0.0, [0.0] * 6, np.ma.zeros(6), np.ma.masked_all(6), np.dtype("f8"),
        np.array([0.0] * 6, dtype=object), np.array([0] * 6, dtype=object), np.zeros(6).view(np.matrix),
    ]  # fmt: skip

    assert len({key(value) for value in family}) == len(family)


def test_that_object_arrays_count_by_their_elements_in_every_process():
    """Object arrays are equal by value, and in processes with other hash seeds too."""
    array = np.array(["a", 1, None, {"x", "y", "z"}, (1, 2)], dtype=object)
    process = DigestProcess(7)
    try:
        assert key(array.copy()) == key(array) == process.digest(array)
    finally:
        process.close()


def test_that_padding_is_not_part_of_a_value():
    """Rubbish between a structure's fields, or behind a long double's bits, does not alter a digest."""
    aligned = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    clean, dirty = np.zeros(3, aligned), np.frombuffer(b"\xff" * 48, aligned).copy()
    for name in aligned.names:
        dirty[name] = clean[name]
    exact, rubbish = (
        np.ones(3, np.longdouble),
        np.frombuffer(b"\xff" * 3 * np.longdouble(0).nbytes, np.longdouble).copy(),
    )
    rubbish[...] = exact

    assert key(clean) == key(dirty)
    assert key(exact) == key(rubbish)


@given(st.integers(-(2**62), 2**62), st.integers(-30, 30))
def test_that_long_doubles_count_by_every_bit(number, exponent):
    """Long doubles one unit in the last place apart differ."""
    value = np.ldexp(np.longdouble(number or 1), exponent)

    assert key(value) != key(np.nextafter(value, np.longdouble(np.inf)))


def test_that_masked_arrays_count_by_mask_and_data():
    """Two masked arrays that print alike and differ below the mask are different inputs."""
    a = np.ma.array([1, 2], mask=[False, True])
    b = np.ma.array([1, 3], mask=[False, True])
    c = np.ma.array([1, 2], mask=[False, False])

    assert len({key(a), key(b), key(c)}) == 3


def test_that_a_generator_counts_by_its_state():
    """Random generators are equal while their states are."""
    a, b = np.random.default_rng(5), np.random.default_rng(5)
    before = key(a) == key(b)
    b.random()

    assert (before, key(a) == key(b)) == (True, False)


def test_that_strings_of_variable_width_count_by_their_text():
    """Arrays of NumPy's string type hold pointers: the text they point to counts."""
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("this NumPy has no StringDType")
    long = "x" * 100
    a, b = np.array([long, "b"], dtype="T"), np.array(["x" * 99 + "x", "b"], dtype="T")

    assert (key(a) == key(b), key(a) == key(np.array([long, "c"], dtype="T"))) == (True, False)


def test_that_an_unknown_dtype_is_refused():
    """A lock in an object array is named with its place."""
    import threading

    with pytest.raises(Unencodable) as problem:
        key(np.array([1, threading.Lock()], dtype=object))

    assert problem.value.where == "[1]"
