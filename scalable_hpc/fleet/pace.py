"""How often to ask, how long to back off: the fleet's few formulas of time; pure.

Rule 1: every constant has its reason beside it; all are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

QUICK_S = 0.5
"""Between two questions while an answer matters now; a batch system's own step is rarely finer."""
CALM_S = 30.0
"""Between two questions when nothing is expected: Dask tells of lost workers, so this only finds what it cannot see."""
PATIENCE_SHARE = 10.0
"""While something is expected, ask again after a tenth of the time it is taking already."""
QUERY_SHARE = 5.0
"""Spend at most a sixth of the time inside queries: a controller that answers slowly is busy."""
BACKOFF_FIRST_S = 2.0
"""After a first failure: long enough for a hiccup, short enough for somebody who watches."""
BACKOFF_MOST_S = 600.0
"""Sites ask for no more than a handful of failing submissions per hour."""
_EXPONENT_MOST = 32
"""Beyond this the bound above has long been reached; keeps the power small."""


def poll_interval_s(expecting_for_s: float | None, floor_s: float, last_query_s: float = 0.0) -> float:
    """Return the time between two status queries.

    ``max(floor, 5 x last query, clamp(expecting_for / 10, 0.5, 30))``, and 30 in place of the clamp when nothing is
    expected.

    Args:
        expecting_for_s: how long something has been expected by now; None when nothing is.
        floor_s: the site's: never more often than this.
        last_query_s: how long the last query took.
    """
    wanted = CALM_S if expecting_for_s is None else min(CALM_S, max(QUICK_S, expecting_for_s / PATIENCE_SHARE))
    return max(floor_s, min(CALM_S, QUERY_SHARE * last_query_s), wanted)


def backoff_s(failures: int, first_s: float = BACKOFF_FIRST_S) -> float:
    """Return how long to wait after so many failures in a row: ``min(600, first * 2 ** (failures - 1))``."""
    return float(min(BACKOFF_MOST_S, first_s * 2.0 ** min(_EXPONENT_MOST, max(0, failures - 1))))


def p90(values: Iterable[float]) -> float:
    """Return the smallest value that nine tenths of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[math.ceil(0.9 * len(ordered)) - 1] if ordered else 0.0
