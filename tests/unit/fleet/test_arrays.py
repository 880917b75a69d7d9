"""Which allocations go into one submission."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.fleet.arrays import Arrays
from scalable_hpc.model.allocations import AllocationRequest


def requests(count, first=1, **more):
    facts = {"nodes": 1, "walltime_s": 60, "because": "a test wants it", **more}
    return [AllocationRequest(f"a{number:04d}", "cpu", **facts) for number in range(first, first + count)]


@given(count=st.integers(0, 40), first=st.integers(1, 2000), at_most=st.integers(1, 12))
def test_that_each_allocation_is_asked_for_once_and_in_order(count, first, at_most):
    """In submissions of at most so many, whose names differ in the last three digits; one alone is no array."""
    asked = requests(count, first)
    bundles = Arrays().bundle(asked, at_most)

    assert [each.name for bundle in bundles for each in bundle] == [each.name for each in asked]
    assert all(1 <= len(bundle) <= at_most for bundle in bundles)
    for bundle in bundles:
        names = tuple(each.name for each in bundle)
        assert {each.array for each in bundle} == {names if len(names) > 1 else ()}
        assert len({name[:-3] for name in names}) == 1


def test_that_allocations_of_another_shape_are_asked_for_apart():
    """One script serves them all."""
    mixed = requests(2) + requests(2, first=3, nodes=2) + requests(1, first=5, excluded_nodes=("node01",))

    assert [len(bundle) for bundle in Arrays().bundle(mixed, 10)] == [2, 2, 1]


def test_that_an_array_that_is_put_off_is_asked_for_in_halves_until_one_is_taken():
    """A limit that has room for a part of it gets that part."""
    arrays = Arrays()
    sizes = []
    for _ in range(4):
        bundles = arrays.bundle(requests(8), 8)
        sizes.append([len(bundle) for bundle in bundles])
        arrays.put_off(bundles[0][0])
    arrays.taken("cpu")

    assert sizes == [[8], [4, 4], [2] * 4, [1] * 8]
    assert [len(bundle) for bundle in arrays.bundle(requests(8), 8)] == [8]
