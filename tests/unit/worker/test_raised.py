"""Laws of packing a raised exception."""

from __future__ import annotations

import json
import pickle

import pytest

from scalable_hpc.worker.raised import pack


class HoldsLock(OSError):
    def __init__(self, number, text):
        super().__init__(number, text)
        self.inside = (lambda: None for _ in ())


class Hostile(RuntimeError):
    def __str__(self):
        raise SystemError("no text for you")

    def __reduce__(self):
        raise SystemError("no pickle for you")


def caught(error):
    try:
        raise error
    except BaseException as again:
        return again


def test_that_an_exception_comes_back_itself():
    """Class, arguments and attributes of one that can be pickled."""
    error = KeyError("here")
    error.detail = 7

    back = pickle.loads(pack(caught(error)).pickled)

    assert (type(back), back.args, back.detail) == (KeyError, ("here",), 7)


@pytest.mark.parametrize(
    ("error", "ancestor"),
    [(HoldsLock(28, "full"), OSError), (Hostile("x"), RuntimeError)],
)
def test_that_one_that_cannot_be_pickled_is_replaced_by_its_built_in_ancestor(error, ancestor):
    """``except ValueError`` still catches it, and its text names the real class."""
    facts = pack(caught(error))

    back = pickle.loads(facts.pickled)
    assert type(back) is ancestor
    assert type(error).__qualname__ in str(back)
    assert facts.type_name.endswith(f".{type(error).__qualname__}")
    assert getattr(back, "errno", None) == facts.errno


def test_that_one_that_carries_a_data_set_is_replaced():
    """A message must not grow by megabytes because an exception holds an array."""
    facts = pack(caught(ValueError(bytes(1_000_000))))

    assert len(facts.pickled) < 10_000
    assert type(pickle.loads(facts.pickled)) is ValueError


def test_that_our_own_frames_are_not_shown():
    """The user's traceback begins where our file is left."""
    try:
        json.loads("{")
    except ValueError as error:
        with_ours = pack(error)
        without = pack(error, caller=__file__)

    assert "test_raised.py" in with_ours.traceback
    assert "test_raised.py" not in without.traceback
    assert "decoder.py" in without.traceback
