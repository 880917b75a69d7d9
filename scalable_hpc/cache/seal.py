"""Seals: by which a store's reader knows that an index entry was written by who has its key. Pure.

An entry says "the result of this key has this digest"; who believes it unpickles bytes that have that digest. So the
entries are sealed (BLAKE3, keyed), and everything else follows from digests.

Rule 1: a seal holds in the file that it was made for: an entry that was taken to another file is no entry.
Rule 2: what another key has sealed is not ours, and is told from what is damaged: it is left alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blake3 import blake3

from scalable_hpc.errors import StoreError

KEY_SIZE = 32
MARK_SIZE = 3
"""Bytes by which an entry names the key of its seal: enough to tell a few keys apart, the seal itself decides."""
SEAL_SIZE = 16
_MARK_LABEL = b"scalable_hpc 2026 mark of a store key"


@dataclass(frozen=True, slots=True)
class Seal:
    """A key, as it is used in one writer's file."""

    mark: bytes
    key: bytes

    def of(self, body: bytes) -> bytes:
        """Return the seal of an entry's body."""
        return blake3(body, key=self.key).digest(SEAL_SIZE)

    def fits(self, body: bytes, seal: bytes) -> bool:
        """Say whether a seal is that of a body."""
        # as ``of``, which a million entries should not have to call
        return hmac.compare_digest(blake3(body, key=self.key).digest(SEAL_SIZE), seal)


class Keys:
    """The keys that one process believes; the first one seals."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        """Take note of keys, ``KEY_SIZE`` bytes each; a second one of the same is passed over."""
        self.all = tuple(dict.fromkeys(keys))

    def __add__(self, others: Keys) -> Keys:
        return Keys((*self.all, *others.all))

    def seal(self, stem: str) -> Seal:
        """Return what seals the entries of a file that this process writes.

        Raises:
            StoreError: there is no key.
        """
        if not self.all:
            raise StoreError("nothing can be written to the result store: there is no key to seal it with")
        return _seal(self.all[0], stem)

    def seals(self, stem: str) -> Mapping[bytes, Seal]:
        """Return what the entries of a file may be sealed with, by mark."""
        return {seal.mark: seal for seal in (_seal(key, stem) for key in reversed(self.all))}


def _seal(key: bytes, stem: str) -> Seal:
    return Seal(blake3(_MARK_LABEL, key=key).digest(MARK_SIZE), blake3(stem.encode(), key=key).digest())
