"""Retry policies for hypothesis: those that a user could make."""

from __future__ import annotations

from hypothesis import strategies as st

from scalable_hpc.model.retry import LIMITABLE, RetryPolicy

POLICIES = st.builds(
    RetryPolicy,
    retries=st.integers(0, 9),
    base_s=st.floats(0, 1e3),
    factor=st.floats(1, 10),
    cap_s=st.floats(0, 1e4),
    jitter=st.booleans(),
    max_elapsed_s=st.none() | st.floats(0, 1e6),
    infrastructure_limit=st.integers(1, 50),
    transient=st.lists(st.sampled_from([OSError, "a.b.C", KeyError])),
    permanent=st.lists(st.sampled_from([ValueError, "a.b.D"])),
    limits=st.dictionaries(st.sampled_from(LIMITABLE), st.integers(0, 9)),
    worth_retrying=st.none() | st.just("a.b:c"),
)
