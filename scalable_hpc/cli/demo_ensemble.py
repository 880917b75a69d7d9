"""The ensemble of ``scalable-hpc demo``: pi, estimated from seeded random points."""

from __future__ import annotations

import random
import time

from scalable_hpc.cache.decorator import cacheable

_POINTS = 20_000
_AT_LEAST_S = 0.6
"""So that there is something to watch, on a fast machine too."""


@cacheable(return_type=float, seed=int)
def estimate_pi(seed: int) -> float:
    """Estimate pi from one seed's points."""
    began = time.monotonic()
    draw = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    inside = sum(draw.random() ** 2 + draw.random() ** 2 <= 1.0 for _ in range(_POINTS))
    time.sleep(max(0.0, _AT_LEAST_S - (time.monotonic() - began)))
    return 4.0 * inside / _POINTS
