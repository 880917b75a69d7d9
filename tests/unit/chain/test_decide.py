"""What follows a link, row by row and by law."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.chain.decide import Follows, LinkFacts, what_follows
from scalable_hpc.exits import AGAIN

CUT_OFF = LinkFacts(number=2, most=10, is_chain=True, exit_code=AGAIN, gained=40, ran_s=3600.0)


@pytest.mark.parametrize(
    ("facts", "follows", "words"),
    [
        (replace(CUT_OFF, exit_code=0), Follows.NOTHING, "ended with exit code 0"),
        (replace(CUT_OFF, exit_code=0, gained=0), Follows.NOTHING, "ended with exit code 0"),
        (replace(CUT_OFF, exit_code=1), Follows.STOP, "failed with exit code 1 in link 2"),
        (replace(CUT_OFF, is_chain=False), Follows.STOP, "no other is to follow"),
        (replace(CUT_OFF, gained=0), Follows.STOP, "got nowhere: no result and no checkpoint in 01:00:00"),
        (replace(CUT_OFF, number=10), Follows.STOP, "the last of 10 (--max-links)"),
        (CUT_OFF, Follows.NEXT, "came to the end of its walltime, 40 results further"),
        (replace(CUT_OFF, exit_code=None), Follows.NEXT, "ended without a word"),
        (replace(CUT_OFF, exit_code=-9), Follows.NEXT, "ended from outside (exit code -9)"),
        (replace(CUT_OFF, exit_code=143), Follows.NEXT, "ended from outside (exit code 143)"),
    ],
)
def test_that_every_row_has_its_step_and_its_reason(facts, follows, words):
    """The first row that applies has the word."""
    step = what_follows(facts)

    assert step.follows is follows
    assert words in step.because


facts = st.builds(
    LinkFacts,
    number=st.integers(1, 50),
    most=st.integers(1, 50),
    is_chain=st.booleans(),
    exit_code=st.none() | st.integers(-64, 255),
    gained=st.integers(0, 1000),
    ran_s=st.floats(0, 1e6),
)


@given(facts)
def test_that_a_chain_always_comes_to_an_end(facts):
    """Another link follows one that got somewhere, and only while there may be more."""
    step = what_follows(facts)

    assert step.because
    if step.follows is Follows.NEXT:
        assert facts.gained > 0
        assert facts.is_chain
        assert facts.number < facts.most
