"""Laws of binding a call to its parameters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.cache.signature import Signature


def plain(a, b):
    """Take two."""
    return locals()


def defaults(a, b=2, c=3):
    """Take one to three."""
    return locals()


def everything(a, /, b, c=3, *rest, d, e=5, **extra):
    """Take all there is."""
    return locals()


def positional(a, b=2, /, **extra):
    """Take names that repeat positional ones."""
    return locals()


def any_number(*rest):
    """Take any number."""
    return locals()


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@settings(max_examples=300)
@given(
    st.sampled_from([plain, defaults, everything, positional, any_number]),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(names, st.integers(), max_size=4),
)
def test_that_binding_agrees_with_python(function, args, kwargs):
    """A call is refused exactly when Python would refuse it, and bound as Python would bind it."""
    signature = Signature(function)
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            signature.bind(tuple(args), kwargs)
        return

    bound = signature.bind(tuple(args), kwargs)

    assert {**bound.named, "rest": bound.rest, "extra": bound.extra} == {"rest": (), "extra": {}, **expected}


@settings(max_examples=100)
@given(
    st.lists(st.integers(), min_size=2, max_size=5), st.dictionaries(st.sampled_from(["d", "f", "a"]), st.integers())
)
def test_that_a_bound_call_can_be_spelled_again(args, kwargs):
    """What was bound can be called with, and binds to the same."""
    signature = Signature(everything)
    bound = signature.bind(tuple(args), {"d": 4, **kwargs})

    assert signature.bind(*signature.spelled(bound)) == bound


def test_that_a_builtin_that_does_not_tell_takes_anything():
    """A callable without a signature binds whatever it is given."""
    bound = Signature(max).bind((1, 2), {"x": 3})

    assert (bound.rest, bound.extra) == ((1, 2), {"x": 3})
