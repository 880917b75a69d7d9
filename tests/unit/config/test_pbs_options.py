"""Laws of what may be handed on to qsub."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.pbs_options import chunk_problem, pbs_option_problem, place_problem, resource_problem


@pytest.mark.parametrize("line", ["-m abe", "-M me@site.org", "-W umask=022", "-l software=1", "-V", "-p 10", "-c n"])
def test_that_options_that_are_not_ours_are_taken(line):
    """As their owner wrote them."""
    assert pbs_option_problem(line) is None


@pytest.mark.parametrize("letter", list("NoejkRqAPrJIXhzCS"))
def test_that_options_of_ours_are_refused_with_what_to_do_instead(letter):
    """The template sets them, or cannot do with them."""
    assert "which is ours" in pbs_option_problem(f"-{letter} x")


@pytest.mark.parametrize("text", ["free", "pack", "scatter", "excl", "scatter:excl", "vscatter:shared", "group=rack",
                                  "free:exclhost:group=switch"])  # fmt: skip
def test_that_placements_of_pbs_are_taken(text):
    """Arrangement, sharing, grouping, each of which may be left out."""
    assert place_problem(text) is None


@pytest.mark.parametrize("text", ["", "everywhere", "excl:scatter", "scatter:", "scatter excl", "group=", "free:free"])
def test_that_other_placements_are_refused(text):
    """PBS would refuse them too, but only when the first allocation is asked for."""
    assert place_problem(text) is not None


@given(st.text())
def test_that_what_is_taken_stays_one_resource_of_one_chunk(text):
    """No blank, no line break, nothing that begins another resource, chunk or option."""
    if chunk_problem(text) is None:
        assert not set(text) & set(" \t\n\r:+,#$`'\"\\;")
        assert resource_problem(text) is None
        assert "=" in text
