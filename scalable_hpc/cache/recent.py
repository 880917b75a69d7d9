"""Small records that this process has verified lately, so that a call made again and again is not read again and again.

Rule 1: asked only for what the index says counts now: what was taken back or replaced is not found here either.
"""

from __future__ import annotations

MOST = 4 << 20
"""Bytes of records kept: ten thousand usual ones."""


class Recent:
    """Records by the handles that the index knows their entries by; usable from any thread."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[bytes, float, bool]] = {}
        self._size = 0
        self.get = self._records.get
        """Return a record's bytes, the core-seconds that it saves, and whether they are a pickle alone; or None."""

    def keep(self, handle: int, record: bytes, core_s: float, *, is_body: bool) -> None:
        """Remember a verified record, or the pickle that is all of it."""
        if self._size + len(record) > MOST:
            self._records.clear()  # in one go: which ones are wanted next is anybody's guess
            self._size = 0
        self._records[handle] = (record, core_s, is_body)
        self._size += len(record)
