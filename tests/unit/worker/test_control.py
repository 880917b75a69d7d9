"""Laws of what a launcher tells its courier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker.control import DeadlineIs, Retire, decode, encode


@given(st.builds(DeadlineIs, st.none() | st.floats(0, 1e11)) | st.builds(Retire, st.text()))
def test_that_a_command_is_one_line_and_comes_back(command):
    """Whatever is in the reason, the line ends once, and says the same."""
    line = encode(command)

    assert line.count(b"\n") == 1
    assert decode(line) == command


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"do": "dance"}', b'{"do": "retire"}'])
def test_that_an_unknown_command_is_an_error(line):
    """Nothing is guessed."""
    with pytest.raises(ValueError):
        decode(line)
