"""Which bundles Dask carries now, and which of their attempts nobody has accounted for yet.

Rule 1: an attempt leaves this book in three ways only: it was reported, its worker is gone (the keeper is told that
and knows what it had placed there), or the keeper let go of it. What is left over is handed out as unaccounted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from scalable_hpc.model.messages import Bundle
from scalable_hpc.model.tasks import AttemptId


class Releasable(Protocol):
    """What the book needs of a Dask future."""

    def release(self) -> None:
        """Tell the scheduler that nobody wants the key any more."""


@dataclass(slots=True)
class Carrier:
    """One Dask task and the attempts that it carries."""

    key: str
    address: str
    future: Releasable
    unreported: set[AttemptId]


class CarrierBook:
    """Carriers by key, by worker and by attempt."""

    def __init__(self) -> None:
        self._by_key: dict[str, Carrier] = {}
        self._by_address: dict[str, set[str]] = {}
        self._by_attempt: dict[AttemptId, str] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def add(self, bundle: Bundle, address: str, future: Releasable) -> Carrier:
        """Enter a bundle that was just sent."""
        attempts = {envelope.attempt for envelope in bundle.envelopes}
        carrier = Carrier(bundle.key, address, future, attempts)
        self._by_key[bundle.key] = carrier
        self._by_address.setdefault(address, set()).add(bundle.key)
        self._by_attempt.update(dict.fromkeys(attempts, bundle.key))
        return carrier

    def reported(self, attempt: AttemptId) -> None:
        """Note that a worker accounted for an attempt; unknown ones are late and no error."""
        key = self._by_attempt.pop(attempt, None)
        if key is not None and key in self._by_key:
            self._by_key[key].unreported.discard(attempt)

    def drop(self, key: str) -> Carrier | None:
        """Release a key in Dask and forget it here; its unreported attempts are the caller's business."""
        carrier = self._by_key.pop(key, None)
        if carrier is None:
            return None
        carrier.future.release()
        for attempt in carrier.unreported:
            self._by_attempt.pop(attempt, None)
        keys = self._by_address[carrier.address]
        keys.discard(key)
        if not keys:
            del self._by_address[carrier.address]
        return carrier

    def drop_all(self, keys: Iterable[str]) -> None:
        """Drop many; those that are not here are no error."""
        for key in list(keys):
            self.drop(key)

    def keys_at(self, address: str) -> frozenset[str]:
        """Return the keys that a worker carries."""
        return frozenset(self._by_address.get(address, ()))
