"""Laws of what is hidden."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.masking import HIDDEN, is_secret, masked

TELLING = st.sampled_from(["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "KEY", "CREDENTIALS", "API_KEY", "COOKIE"])
WORD = st.from_regex(r"\A[A-Z][A-Z0-9]{0,6}\Z")


@given(WORD, TELLING, st.sampled_from(["{0}_{1}", "{1}_{0}", "{0}{1}", "{1}"]), st.booleans(), st.text(min_size=1))
def test_that_a_telling_name_hides_its_value(word, telling, shape, lower, value):
    """Wherever the word stands in the name, in small letters too."""
    name = shape.format(word, telling)
    assert masked(name.lower() if lower else name, value) == HIDDEN


@pytest.mark.parametrize("value", ["postgres://me:hunter2@db/x", "https://:hunter2@host", "redis://me:a%40b@h:1/0"])
def test_that_a_password_in_an_address_is_hidden(value):
    """Whatever the variable is called."""
    assert is_secret("DATABASE_URL", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMP_NUM_THREADS", "4"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("KEYBOARD", "us"),
        ("http_proxy", "http://proxy.site:3128"),
        ("MIRROR", "https://user@host/path:8"),
        ("SCALABLE_HPC_STORE_KEY", "/home/me/store.key"),
        ("PATH", "/usr/bin:/bin"),
    ],
)
def test_that_what_is_no_secret_is_shown(name, value):
    """A plan that hid everything would tell nothing."""
    assert masked(name, value) == value
