"""More of what an attempt ran out of: memory, up to the largest worker there is; time, where its policy says so.

Rule 1: more is never less than before and never more than the largest worker has, so that it comes to an end.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST_FACTOR = 1.5
MOST_FACTOR = 2.0
"""On the memory that did not suffice. Between the two, the memory of a whole worker is taken where one fits."""
ALL_OF_IT = 0.95
"""Share of the largest worker's memory: whoever had as much had all that slots may have."""
NEAR_SHARE = 0.9
BESIDE = 256 << 20
LEAST_SHARE = 0.5
"""Near its memory is who holds 90 % of it, less the bytes that our own processes hold beside it of what its job has (at
least a half): whom the kernel kills then, it kills for its memory."""
TIME_FACTOR = 2.0
"""On the timeout of an attempt that ran into it, where its policy has it tried again with more."""


def next_memory(had: int, held: int | None, sizes: Sequence[int]) -> int | None:
    """Return what to give an attempt after one that ran out of memory (bytes); None: nobody has more.

    Args:
        had: what that one was given (bytes).
        held: the most that it was seen to hold (bytes); None: not known.
        sizes: memory of the workers that could run it, smallest first (bytes).
    """
    base = max(had, held or 0)
    if not sizes or base >= ALL_OF_IT * sizes[-1]:
        return None
    least, most = LEAST_FACTOR * base, MOST_FACTOR * base
    whole_worker = next((size for size in sizes if least <= size < most), None)
    return whole_worker or min(int(most), sizes[-1])


def is_near(held: int | None, memory: int) -> bool:
    """Whether a slot that held so much (bytes; None: not known) of its memory was killed for that, if it was killed."""
    return (held or 0) >= max(LEAST_SHARE * memory, NEAR_SHARE * memory - BESIDE)


def next_timeout_s(timeout_s: float) -> float:
    """Return the timeout (seconds) after one that did not suffice."""
    return TIME_FACTOR * timeout_s
