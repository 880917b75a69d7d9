"""From Dask's word on a removed worker to ours.

``expected`` is claimed for what was asked for: a close by us, or a worker that retired through the scheduler.
A worker that drains and then vanishes is not expected; the batch system may still say that its walltime was over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scalable_hpc.model.messages import WorkerGone

_BECAUSE = (
    ("handle-worker-cleanup", "its connection to the driver closed"),
    ("check-worker-ttl", "it sent no heartbeat for too long"),
    ("worker-send-comm-fail", "it could not be reached"),
    ("send-all-comm-fail", "it could not be reached"),
    ("retire-workers", "it retired"),
    ("unheard", "it left while driver and scheduler had lost each other"),
)
"""Start of Dask's stimulus id, and what it means; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the link knew about a worker when it went."""

    close_asked: str = ""
    """Why we closed it; empty: we did not."""
    draining: str = ""
    """Its own words when it asked to be given nothing new."""


def removed_worker(event: Mapping[str, Any]) -> str | None:
    """Return the address of the worker that an event of Dask's topic ``all`` removes, if it does."""
    return event["worker"] if event.get("action") == "remove-worker" else None


def added_worker(event: Mapping[str, Any]) -> str | None:
    """Return the address of the worker that an event of Dask's topic ``all`` adds, if it does."""
    return event["worker"] if event.get("action") == "add-worker" else None


def departure(event: Mapping[str, Any], at: float, known: Known) -> WorkerGone:
    """Say that a worker is gone, whether that was asked for, and because of what."""
    if known.close_asked:
        because = f"it was closed: {known.close_asked}"
    else:
        stimulus = str(event.get("stimulus_id", ""))
        because = next(
            (words for start, words in _BECAUSE if stimulus.startswith(start)), f"Dask removed it ({stimulus})"
        )
        if known.draining:
            because += f", while draining: {known.draining}"
    expected = bool(event.get("expected")) or bool(known.close_asked)
    return WorkerGone(address=event["worker"], at=at, expected=expected, because=because)
