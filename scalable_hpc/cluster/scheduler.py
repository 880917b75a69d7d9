"""Dask's scheduler, with three of its habits changed.

It has no web server, and no directory in ``/tmp`` that another user may have made before. And it doesn't blame workers
for its own absence.

The scheduler shares its process with the user's code. After ``Ctrl-Z``, a suspended laptop or a long call that holds
the GIL it finds that no worker was heard for a while; it is the one who didn't listen.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
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
        ours = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "local_directory": self._make_scratch()}
        super().__init__(**{**options, **ours})
        self._forget_search_path()
        self._clock = clock
        self._stalls = StallWatch(clock())
        self.periodic_callbacks["scalable-hpc-tick"] = PeriodicCallback(self._tick, _TICK_S * 1000)

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start none: Dask would in any case, without authentication, on a node that others use too."""

    def _make_scratch(self) -> str:
        """Make a directory that nobody else could have made: Dask's own has the same name for all users of a host."""
        self._scratch = Path(tempfile.mkdtemp(prefix="scalable-hpc-scheduler-"))
        return str(self._scratch / "dask-scratch-space")  # a name that Dask takes as it is

    def _forget_search_path(self) -> None:
        """Take Dask's directory out of ``sys.path``: nothing that lies there is to be imported by the driver."""
        if self.local_directory in sys.path:
            sys.path.remove(self.local_directory)

    async def close(self, *args: Any, **options: Any) -> None:
        """Close, and leave no directory behind."""
        await super().close(*args, **options)
        if self._workdir is not None:
            await asyncio.to_thread(self._workdir.release)
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def _tick(self) -> None:
        self._stalls.tick(self._clock())

    async def check_worker_ttl(self) -> None:
        """Remove workers that were silent for too long, unless it was us who stood still."""
        if not self._stalls.stalled_lately(self._clock()):
            await super().check_worker_ttl()
