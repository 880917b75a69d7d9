"""The Dask configuration that a session runs under, with a reason for each line.

In force from the start of a ``DaskLink`` to its shutdown, then whatever was there before is back.

Rule 1: what must not be overridden by somebody's ``~/.config/dask`` is here or in ``Scheduler``'s own arguments.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from scalable_hpc.cluster.quiet_import import dask

CONFIG_NAME = "scalable-hpc"
"""Section of ``jobqueue`` that our Job class reads."""

WORKER_TTL_S = 25
"""A courier runs no user code, so only a hung node is silent this long; it is noticed within two TTLs."""

TCP_TIMEOUT_S = 12
"""A power-cut node is noticed after this; Dask refuses less than 11."""

_KEPT_EVENTS = 16
"""Events are delivered, not looked up; each may carry a 64 KiB result, so few are kept per topic."""

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        # We are the only one who retries and the only one who blames.
        "distributed.scheduler.allowed-failures": 10**9,
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.no-workers-timeout": None,
        "distributed.scheduler.worker-saturation": 1.0,
        # What is lost is noticed fast.
        "distributed.scheduler.worker-ttl": f"{WORKER_TTL_S}s",
        "distributed.comm.timeouts.tcp": f"{TCP_TIMEOUT_S}s",
        "distributed.comm.timeouts.connect": "60s",
        # Nothing lives in worker memory, so nothing there needs managing, and there is no time to lose on profiles.
        "distributed.scheduler.active-memory-manager.start": False,
        "distributed.worker.profile.enabled": False,
        "distributed.diagnostics.computations.nframes": 0,
        "distributed.diagnostics.nvml": False,
        "distributed.admin.system-monitor.disk": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.admin.low-level-log-length": _KEPT_EVENTS,
        "distributed.admin.large-graph-warning-threshold": "1GB",
        # The scheduler's web server has no authentication: it gets no pages (and is stopped, see scheduler.py).
        "distributed.scheduler.http.routes": [],
        # A Job of dask-jobqueue looks up every one of these without a default.
        f"jobqueue.{CONFIG_NAME}": {
            "name": CONFIG_NAME,
            "cores": 1,
            "memory": "1 GiB",
            "processes": 1,
            "python": None,
            "interface": None,
            "death-timeout": None,
            "local-directory": None,
            "shared-temp-directory": None,
            "extra": None,
            "worker-command": "scalable_hpc.worker",
            "worker-extra-args": [],
            "env-extra": None,
            "job-script-prologue": [],
            "job-extra": None,
            "job-extra-directives": [],
            "header-skip": None,
            "job-directives-skip": [],
            "log-directory": None,
            "shebang": "",
            "scheduler-options": {},
        },
    }
)


_lock = threading.Lock()
_sessions = 0
_previous: Any = None


@contextmanager
def in_force() -> Iterator[None]:
    """Let the settings hold in this process; of several sessions at once, the last to end restores what was."""
    global _sessions, _previous  # noqa: PLW0603  (Dask's configuration is the process's)
    with _lock:
        if _sessions == 0:
            _previous = dask.config.set(SETTINGS)
        _sessions += 1
    try:
        yield
    finally:
        with _lock:
            _sessions -= 1
            if _sessions == 0:
                _previous.__exit__(None, None, None)
