"""Laws of how users' own types enter keys."""

from __future__ import annotations

import array
import functools

import pytest

from scalable_hpc import register_key
from scalable_hpc.cache.encode import Unencodable, digest
from tests.cache_support import by_name


class Mesh:
    def __init__(self, cells):
        self.cells = cells
        self.workspace = object()


class Finer(Mesh):
    pass


class Opaque:
    def __init__(self, number):
        self.number = number
        self.lock = object()

    def __scalable_key__(self):
        return {"number": self.number}


class Circle:
    def __scalable_key__(self):
        return [self]


def key(value):
    return digest(value, by_name)


def test_that_a_class_may_say_what_counts_of_its_objects():
    """What its method returns is the value; what it leaves out does not matter."""
    assert key(Opaque(1)) == key(Opaque(1)) != key(Opaque(2))
    assert key([Opaque(1)]) != key([{"number": 1}])


def test_that_a_class_of_somebody_elses_can_be_registered():
    """It had no key before; its subclasses have keys of their own."""
    with pytest.raises(Unencodable):
        key(Mesh(1))

    register_key(Mesh, lambda mesh: mesh.cells)

    assert key(Mesh(1)) == key(Mesh(1)) != key(Mesh(2))
    assert key(Finer(1)) == key(Finer(1)) != key(Mesh(1))


def test_that_a_class_written_in_c_can_be_registered():
    """One that takes no attribute."""
    register_key(array.array, lambda numbers: (numbers.typecode, list(numbers)))

    assert key(array.array("d", [1])) == key(array.array("d", [1])) != key(array.array("f", [1]))


def test_that_an_object_that_stands_for_itself_ends():
    """A circle is one container that is open already."""
    assert key(Circle()) == key(Circle())


@pytest.mark.parametrize(("cls", "function"), [(int, str), (dict, len), (functools, len), (Mesh, 7)])
def test_that_what_cannot_be_registered_is_refused(cls, function):
    """Python's own types keep the keys that they have."""
    with pytest.raises(TypeError):
        register_key(cls, function)
