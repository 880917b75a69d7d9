"""Laws of putting results in the place of references."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.model.tasks import ResultRef
from scalable_hpc.worker.references import resolve


class Pair(NamedTuple):
    left: object
    right: object


REFERENCES = st.builds(ResultRef, st.text(max_size=3), st.text("0123456789abcdef", max_size=4))
PLAIN = st.none() | st.integers() | st.text(max_size=3)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.builds(Pair, inner, inner)
            | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        ),
    )


def fetched(reference):
    return f"<{reference.key}>"


def rewritten(value):
    """The law, said in the simplest way: a copy with each reference replaced."""
    if isinstance(value, ResultRef):
        return fetched(value)
    if isinstance(value, dict):
        return {name: rewritten(item) for name, item in value.items()}
    if isinstance(value, Pair):
        return Pair(*map(rewritten, value))
    return type(value)(map(rewritten, value)) if isinstance(value, list | tuple) else value


@given(nested(PLAIN | REFERENCES))
def test_that_references_of_any_depth_are_replaced(value):
    """In lists, tuples, named tuples and dicts; the classes of containers stay."""
    resolved = resolve(value, fetched)

    assert resolved == rewritten(value)
    assert type(resolved) is type(rewritten(value))


@given(nested(PLAIN))
def test_that_what_holds_no_reference_is_passed_on_as_it_is(value):
    """The very same object, so that identity between arguments survives."""
    assert resolve(value, fetched) is value


def test_that_arguments_are_not_changed_in_place():
    """The caller's containers stay as they were, and keep their class and order in the copy."""
    original = OrderedDict(b=[ResultRef("t", "1")], a=2)

    resolved = resolve(original, fetched)

    assert resolved == OrderedDict(b=["<1>"], a=2)
    assert type(resolved) is OrderedDict
    assert original["b"] == [ResultRef("t", "1")]
