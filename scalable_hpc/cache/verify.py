"""Reading records so that nothing is returned that is not what was stored.

Rule 1: a record's header must name the key and digest that the index names, and its bytes must have that digest.
    That of a large one is looked at once in a process, as long as its file does not change, unless it is to be
    always, or never.
Rule 2: what is not there, or not all there, may still be on its way from another node: it counts as missing.
    What is there and wrong is damaged: its bytes go to quarantine.
"""

from __future__ import annotations

import contextlib
import os
import secrets

from blake3 import blake3

from scalable_hpc.cache.blobs import Blobs, FileState
from scalable_hpc.cache.index import Place
from scalable_hpc.cache.layout import Layout, file_mode, is_gone, write_all
from scalable_hpc.cache.packs import PackReader
from scalable_hpc.cache.records import Entry, Kind, pack_header
from scalable_hpc.cache.settings import Verify
from scalable_hpc.errors import StoreError

_LARGE = 1 << 20
"""Bytes below which a blob is verified at every read, whatever was said: it takes less than opening it does."""
_REMEMBERED = 10_000
"""Blobs whose state is kept, some 400 bytes each."""
_sound: dict[bytes, FileState] = {}
"""The files of blobs that this process has verified, as they were then."""


class Damaged(StoreError):
    """A result is not what was stored, or is gone; the copy was put out of the way, and must be made again."""


class RecordReader:
    """Reads and verifies the records of one store."""

    def __init__(self, layout: Layout, blobs: Blobs, verify: Verify = "always") -> None:
        self._layout = layout
        self._blobs = blobs
        self._verify = verify
        self._packs = PackReader(layout.packs)

    def read(self, place: Place) -> bytes | memoryview | None:
        """Return a record's bytes; None where they are not (all) there.

        Raises:
            Damaged: they are not what was stored; they lie in quarantine now.
            OSError: they cannot be read.
        """
        entry = place.entry
        if entry.kind == Kind.BLOB:
            return self.read_blob(entry.digest, entry.size)
        try:
            return self._read_packed(place.stem, entry)
        except PermissionError:
            return None
        except OSError as err:
            if is_gone(err):
                return None
            raise

    def read_blob(self, digest: bytes, size: int) -> memoryview | None:
        """Return a blob's bytes; None where it is not (all) there.

        Raises:
            Damaged: they are not what was stored; they lie in quarantine now.
            OSError: they cannot be read.
        """
        try:
            blob = self._blobs.read(digest, size, lambda state: self._is_trusted(digest, size, state))
        except PermissionError:
            return None
        except OSError as err:
            if is_gone(err):
                return None
            raise
        if len(blob.data) != size:
            return None
        if blob.is_sound:
            if self._verify != "never":
                _remember(digest, blob.state)
            return blob.data
        # a store that cannot be written to stays as it is; every reader finds out for itself
        with contextlib.suppress(OSError):
            self._blobs.condemn(digest)
        raise Damaged(f"the blob {digest.hex()!r} does not have the content that its name says")

    def close(self) -> None:
        """Close every file."""
        self._packs.close()

    def _is_trusted(self, digest: bytes, size: int, state: FileState) -> bool:
        """Say whether a blob need not be verified."""
        if size < _LARGE or self._verify == "always":
            return False
        return self._verify == "never" or _sound.get(digest) == state

    def _read_packed(self, stem: str, entry: Entry) -> bytes | None:
        header = data = b""
        for anew in (False, True):
            try:
                header, data = self._packs.read(stem, entry, anew=anew)
            except OSError as err:
                if anew or not is_gone(err):
                    raise
                continue  # the file that is open was replaced under its name
            if header == pack_header(entry.key, entry.digest, entry.size) and blake3(data).digest() == entry.digest:
                return data
        if len(data) != entry.size:
            return None
        self._quarantine(f"{stem}@{entry.offset}-{secrets.token_hex(4)}", header + data)
        raise Damaged(f"the record at {entry.offset} of the pack {stem!r} is not what was written there")

    def _quarantine(self, name: str, raw: bytes) -> None:
        try:
            descriptor = os.open(self._layout.quarantine / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode())
        except OSError:
            return  # as above
        try:
            write_all(descriptor, raw)
        except OSError:
            pass  # a full disk: the copy is for people to look at, nothing depends on it
        finally:
            os.close(descriptor)


def _remember(digest: bytes, state: FileState) -> None:
    if len(_sound) >= _REMEMBERED:
        _sound.clear()
    _sound[digest] = state
