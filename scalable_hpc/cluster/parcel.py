"""Bundles as bytes through Dask, opened by the task that carries them.

Dask unpickles a task's arguments while it reads from the connection: were a bundle unreadable over there (another
release of this package, say), the worker would lose its scheduler, and with it everything it runs.

Rule 1: workers import this module, so it imports no Dask.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial

from scalable_hpc.model.messages import Bundle


def wrap(bundle: Bundle) -> bytes:
    """Return a bundle as the bytes that ``carry`` opens."""
    return pickle.dumps(bundle, protocol=pickle.HIGHEST_PROTOCOL)


def carrier_of(run_bundle: Callable[[Bundle], None]) -> Callable[[bytes], None]:
    """Return the function that Dask runs for each parcel."""
    return partial(carry, run_bundle)


def carry(run_bundle: Callable[[Bundle], None], parcel: bytes) -> None:
    """Open a parcel on the worker and have it run; what fails here fails this task and nothing else."""
    run_bundle(pickle.loads(parcel))
