"""What the driver calls on a worker, by reference; each finds the courier through the Dask worker around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from distributed.worker import get_worker

from scalable_hpc.model.messages import Bundle
from scalable_hpc.model.tasks import AttemptId
from scalable_hpc.worker.courier import Courier


def run_bundle(bundle: Bundle) -> None:
    """Carry out a bundle; the one function that Dask runs here, in one of its threads."""
    _courier_of(get_worker()).carry(bundle)


def cancel_attempts(attempts: Iterable[AttemptId], *, dask_worker: Any) -> None:
    """Stop attempts, for ``client.run``; each is answered, at once or when its slot is dead."""
    _courier_of(dask_worker).cancel(attempts)


def persist_held(keys: Sequence[str], *, dask_worker: Any) -> None:
    """Store results that are held here, for ``client.run``; each is answered by its receipt, or as gone."""
    _courier_of(dask_worker).store_held(keys)


def free_held(keys: Sequence[str], *, dask_worker: Any) -> None:
    """Drop results that are held here, for ``client.run``."""
    _courier_of(dask_worker).holdings.free(keys)


def drain(because: str, *, dask_worker: Any) -> None:
    """Begin nothing new, for ``client.run``; the worker stays until it is retired."""
    _courier_of(dask_worker).drain(because)


def _courier_of(dask_worker: Any) -> Courier:
    courier = dask_worker.courier
    if not isinstance(courier, Courier):
        raise TypeError(f"this Dask worker is no courier: {dask_worker!r}")
    return courier
