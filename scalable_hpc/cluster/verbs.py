"""The few functions of a courier that the driver calls over there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CourierVerbs:
    """Functions by reference; each must be importable on the node."""

    run_bundle: Callable[..., Any]
    """``(bundle: Bundle) -> None``, as a Dask task, in a thread of the courier."""
    cancel_attempts: Callable[..., Any]
    """``(attempts: tuple[AttemptId, ...]) -> None``, on the courier's loop."""
    drain: Callable[..., Any]
    """``(because: str) -> None``, on the courier's loop."""
    persist_held: Callable[..., Any] | None = None
    """``(keys: tuple[str, ...]) -> None``, on the courier's loop; None: it holds no results."""
    free_held: Callable[..., Any] | None = None
    """Likewise."""


def courier_verbs() -> CourierVerbs:
    """Return the real courier's."""
    from scalable_hpc.worker.verbs import cancel_attempts, drain, free_held, persist_held, run_bundle

    return CourierVerbs(run_bundle, cancel_attempts, drain, persist_held, free_held)
