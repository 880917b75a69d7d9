"""How careful this process's stores are: what a result waits for, and how often a large one is verified.

A driver sets it from its manifest; its workers, and programs without a session, find it in the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from scalable_hpc.errors import StoreError

Durability = Literal["fsync", "close"]
Verify = Literal["always", "once", "never"]
DURABILITY, VERIFY = "SCALABLE_HPC_CACHE_DURABILITY", "SCALABLE_HPC_CACHE_VERIFY"
"""Variables."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What holds for every store of which nothing else is said."""

    durability: Durability = "fsync"
    """What ``publish`` waits for: the disk, or only the file server."""
    verify: Verify = "once"
    """How often a large result is verified: at every read, at the first one of each process, or not at all."""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("durability", self.durability, get_args(Durability)),
            ("verify", self.verify, get_args(Verify)),
        ):
            if value not in allowed:
                raise StoreError(f"{name} of a result store must be one of {', '.join(allowed)}, not {value!r}")


def settings_here() -> CacheSettings:
    """Return the settings of this process.

    Raises:
        StoreError: the environment says what is none.
    """
    if _settings.chosen is not None:
        return _settings.chosen
    return care_of(os.environ.get(DURABILITY), os.environ.get(VERIFY))


def care_of(durability: str | None, verify: str | None) -> CacheSettings:
    """Return the settings that two words say; nothing means the default.

    Raises:
        StoreError: one is none of its words.
    """
    given = {"durability": durability, "verify": verify}
    return CacheSettings(**{name: word for name, word in given.items() if word})  # type: ignore[arg-type]


def set_settings(settings: CacheSettings | None) -> None:
    """Choose this process's settings, for stores opened from now on; None returns to the environment's."""
    _settings.chosen = settings


class _Settings:
    """What was chosen, once somebody has."""

    chosen: CacheSettings | None = None


_settings = _Settings()
