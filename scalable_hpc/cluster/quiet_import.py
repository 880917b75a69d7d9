"""Dask as the rest of this room knows it, imported without the side effects of its packages.

``import dask_jobqueue`` (0.9) replaces the process's SIGINT handler, fails outside the main thread because of that,
and copies a config file into ``~/.config/dask``. None of that is a library's business.

Rule 1: this is the only module of the room that names Dask's packages; it re-exports what the room uses.
Rule 2: whatever is swapped for the length of the import is put back before it returns.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask.config

_SELF_APPOINTED_SIGNAL_HANDLER = "dask_jobqueue.runner"
_WRITTEN_INTO_HOME = "jobqueue.yaml"


@contextmanager
def _without_side_effects() -> Iterator[None]:
    """Let everybody but dask_jobqueue set signal handlers and write config files meanwhile.

    Other threads may do either during the import, so calls are told apart by who makes them.
    """
    set_handler, ensure_file = signal.signal, dask.config.ensure_file
    signal.signal = _signal_for_others(set_handler)
    dask.config.ensure_file = _ensure_file_for_others(ensure_file)
    try:
        yield
    finally:
        signal.signal, dask.config.ensure_file = set_handler, ensure_file


def _signal_for_others(set_handler: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(number: int, handler: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__")  # noqa: SLF001  (documented, if underscored)
        return signal.getsignal(number) if caller == _SELF_APPOINTED_SIGNAL_HANDLER else set_handler(number, handler)

    return guarded


def _ensure_file_for_others(ensure_file: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(source: str, *args: Any, **kwargs: Any) -> Any:
        return None if source.endswith(_WRITTEN_INTO_HOME) else ensure_file(source, *args, **kwargs)

    return guarded


with _without_side_effects():
    from dask_jobqueue.core import Job, JobQueueCluster
    from distributed import Client, Scheduler
    from distributed.core import Status
    from distributed.deploy.cluster import Cluster
    from distributed.deploy.spec import ProcessInterface
    from distributed.security import Security
    from tornado.ioloop import PeriodicCallback

__all__ = [
    "Client",
    "Cluster",
    "Job",
    "JobQueueCluster",
    "PeriodicCallback",
    "ProcessInterface",
    "Scheduler",
    "Security",
    "Status",
    "dask",
]
