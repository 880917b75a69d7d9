"""Ensembles of thousands of scenarios that finish on Slurm and PBS, whatever happens to jobs, nodes and drivers.

Importing this package is quick and has no side effects: Dask is imported when a session first needs a worker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scalable_hpc.version import __version__

if TYPE_CHECKING:
    from scalable_hpc.cache.decorator import cacheable as cacheable
    from scalable_hpc.cache.markers import DirType as DirType
    from scalable_hpc.cache.markers import FileType as FileType
    from scalable_hpc.cache.markers import ObjectType as ObjectType
    from scalable_hpc.cache.markers import UtilityType as UtilityType
    from scalable_hpc.cache.markers import ValueType as ValueType
    from scalable_hpc.cache.registered import register_key as register_key
    from scalable_hpc.client import ScalableClient as ScalableClient
    from scalable_hpc.errors import Checkpointed as Checkpointed
    from scalable_hpc.errors import ScalableError as ScalableError
    from scalable_hpc.future import ScalableFuture as ScalableFuture
    from scalable_hpc.gathering import Batch as Batch
    from scalable_hpc.model.tasks import RetryPolicy as RetryPolicy
    from scalable_hpc.session import ScalableSession as ScalableSession
    from scalable_hpc.worker.context import Context as Context
    from scalable_hpc.worker.context import context as context

_MARKERS = ("DirType", "FileType", "ObjectType", "UtilityType", "ValueType")
_HOME = {
    **dict.fromkeys(_MARKERS, "scalable_hpc.cache.markers"),
    "Batch": "scalable_hpc.gathering",
    "Checkpointed": "scalable_hpc.errors",
    "Context": "scalable_hpc.worker.context",
    "RetryPolicy": "scalable_hpc.model.tasks",
    "ScalableClient": "scalable_hpc.client",
    "ScalableError": "scalable_hpc.errors",
    "ScalableFuture": "scalable_hpc.future",
    "ScalableSession": "scalable_hpc.session",
    "cacheable": "scalable_hpc.cache.decorator",
    "context": "scalable_hpc.worker.context",
    "register_key": "scalable_hpc.cache.registered",
}

__all__ = [
    "Batch",
    "Checkpointed",
    "Context",
    "DirType",
    "FileType",
    "ObjectType",
    "RetryPolicy",
    "ScalableClient",
    "ScalableError",
    "ScalableFuture",
    "ScalableSession",
    "UtilityType",
    "ValueType",
    "__version__",
    "cacheable",
    "context",
    "register_key",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
