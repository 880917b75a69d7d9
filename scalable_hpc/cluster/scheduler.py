"""Dask's scheduler, with two habits changed: it has no web server, and it doesn't blame workers for its own absence.

The scheduler shares its process with the user's code. After ``Ctrl-Z``, a suspended laptop or a long call that holds
the GIL it finds that no worker was heard for a while; it is the one who didn't listen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from scalable_hpc.cluster.quiet_import import PeriodicCallback, Scheduler

_TICK_S = 1.0

_STALL_S = 4.0
"""Ticks this far apart mean that the loop stood still; heartbeats come every 0.5 to 1 s."""

_CATCH_UP_S = 10.0
"""For so long after a stall, heartbeats that waited in buffers are still being read."""


class StallWatch:
    """Knows whether a loop stood still lately; told of every tick."""

    def __init__(self, now: float) -> None:
        self._last_tick = now
        self._stalled_at: float | None = None

    def tick(self, now: float) -> None:
        """Note that the loop is alive at ``now`` (monotonic seconds)."""
        if now - self._last_tick > _STALL_S:
            self._stalled_at = now
        self._last_tick = now

    def stalled_lately(self, now: float) -> bool:
        """Return whether silence of others proves nothing at ``now``."""
        self.tick(now)
        return self._stalled_at is not None and now - self._stalled_at < _CATCH_UP_S


class PatientScheduler(Scheduler):  # type: ignore[misc]
    """A ``Scheduler`` without web server that forgives silence during its own stalls."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(**{**options, "dashboard": False, "dashboard_address": "127.0.0.1:0"})
        self._clock = clock
        self._stalls = StallWatch(clock())
        self.periodic_callbacks["scalable-hpc-tick"] = PeriodicCallback(self._tick, _TICK_S * 1000)

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start none: Dask would in any case, without authentication, on a node that others use too."""

    def _tick(self) -> None:
        self._stalls.tick(self._clock())

    async def check_worker_ttl(self) -> None:
        """Remove workers that were silent for too long, unless it was us who stood still."""
        if not self._stalls.stalled_lately(self._clock()):
            await super().check_worker_ttl()
