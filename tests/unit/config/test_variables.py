from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.variables import expand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("$A and $(A)", "$A and $(A)"),
        ("$${A}", "${A}"),
        ("${A%x}", "${A%x}"),
        ("${1}", "${1}"),
    ],
)
def test_that_only_the_two_forms_of_a_variable_are_replaced(text, expected):
    """Everything else that a shell would read is the shell's."""
    assert expand(text, {"A": "1", "EMPTY": ""}) == (expected, None)


def test_that_the_first_unset_variable_is_named():
    """One at a time is enough to act on."""
    assert expand("${A}${B}", {})[1] == "A"


@given(st.text())
def test_that_text_without_a_brace_is_left_alone(text):
    """No variable, no change."""
    text = text.replace("{", "")

    assert expand(text, {}) == (text, None)
