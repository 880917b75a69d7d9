"""A store that is open: its files, and what this process knows of them, kept up to date.

Rule 1: what others add, replace and take back is seen after a second at the latest, as far as the file system shows it.
Rule 2: nothing is read before somebody asks: who only stages and reads large results never reads an index.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from scalable_hpc.cache.blobs import Blobs
from scalable_hpc.cache.index import Index
from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.layout import open_layout
from scalable_hpc.cache.news import News
from scalable_hpc.cache.notebook import Notebook
from scalable_hpc.cache.recent import Recent
from scalable_hpc.cache.scribe import Scribe
from scalable_hpc.cache.settings import CacheSettings, Durability, Verify, settings_here
from scalable_hpc.cache.tallies import Tally
from scalable_hpc.cache.verify import RecordReader
from scalable_hpc.errors import StoreError

REVIEW_S = 1.0
"""Seconds after which even a known result is looked for anew: somebody may have taken it back or replaced it."""
RECONSIDER_S = 2.0
"""Seconds after which a record that was not (all) there is looked for again: caches of file systems are as slow."""
_T = TypeVar("_T")
_S = TypeVar("_S", bound="OpenStore")
logger = logging.getLogger(__name__)
_told: set[str] = set()
"""Stores of which was said that not all their records are believed."""


class OpenStore:
    """What reading and writing share; safe to use from many threads, and after a fork."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durability: Durability | None = None,
        verify: Verify | None = None,
        create: bool = True,
    ) -> None:
        """Open a store.

        Args:
            root: Its directory; ``v1`` below it holds everything.
            durability: What ``publish`` waits for: the disk (``fsync``), or only the file server (``close``).
            verify: How often a large result is verified: ``always``, ``once`` in this process (its file must not have
                changed since), or ``never``. Small ones always are. What is not said is as this process's settings.
            create: Make it when it is not there.

        Raises:
            StoreError: it cannot be opened or made, or belongs to another user.
        """
        usual = settings_here()
        care = CacheSettings(durability or usual.durability, verify or usual.verify)
        self.root = str(Path(root).absolute())
        self._durable = care.durability == "fsync"
        self._verify = care.verify
        self._layout = open_layout(Path(self.root), create=create)
        self._blobs = Blobs(self._layout, durable=self._durable)
        self._keys = keys_here(create=create)
        self._index = Index(self._keys)
        self._news = News(self._layout.packs)
        self._tally = Tally(self._layout.notes)
        self._closed = False
        self._looked_at = 0.0
        """When the index files were last read, in seconds since the epoch; 0 for never."""
        self._begin()
        open_stores.add(self)

    def _begin(self) -> None:
        """Start as a writer that has written nothing yet."""
        self._recent = Recent()
        self._records = RecordReader(self._layout, self._blobs, self._verify)
        self._scribe = Scribe(self.root, self._layout, self._keys, self._blobs, self._index, durable=self._durable)
        self._notebook = Notebook(self._layout.notes, self._scribe.name)

    def __enter__(self: _S) -> _S:  # noqa: PYI019 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Take in what others have published.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._scribe.lock:
            self._check_open()
            begun = time.time()
            self._trying("read", lambda: self._news.take_in(self._index, self._scribe.stems))
            self._index.reconsider(begun - RECONSIDER_S)
            self._looked_at = begun
            self._tell_of_strangers()

    def _look_for(self, keys: Sequence[bytes]) -> None:
        """Take in what others have said of some keys just now; whatever else they did waits for who asks for it.

        Raises:
            StoreError: the store cannot be read.
        """
        self._look_once()
        with self._scribe.lock:
            self._check_open()
            is_news = self._trying("read", lambda: self._news.speak_of(keys, self._index, self._scribe.stems))
        if is_news:
            self.refresh()

    def _tell_of_strangers(self) -> None:
        """Say once that there is more than is believed: somebody may wonder where results are."""
        if self._index.foreign and self.root not in _told:
            _told.add(self.root)
            logger.warning(
                "%d records of the result store %r are sealed with another key: they are not used, and left alone",
                self._index.foreign,
                self.root,
            )

    def close(self) -> None:
        """Close every file; what was published stays."""
        self._tally.flush()
        with self._scribe.lock:
            self._closed = True
            self._abandon()

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent's files are its own, and its threads left things half-done."""
        self._index = Index(self._keys)
        self._news = News(self._layout.packs)
        self._tally = Tally(self._layout.notes)
        self._looked_at = 0.0
        self._abandon()

    def _abandon(self) -> None:
        scribe, records, notebook = self._scribe, self._records, self._notebook
        self._begin()
        records.close()
        scribe.close()
        notebook.close()

    def flush_tally(self) -> None:
        """Write down what was found so far; ``close`` and the end of the process do it too."""
        self._tally.flush()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the result store {self.root!r} was closed")

    def _trying(self, what: str, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except OSError as err:
            hint = "free space there, or set SCALABLE_HPC_CACHE_DIR to another directory" if what == "written" else None
            raise StoreError(f"the result store {self.root!r} cannot be {what}: {err}", hint=hint) from err

    def _look_once(self) -> None:
        """Read the index when it is first needed: who only stages and reads large results never does."""
        self._check_open()
        if not self._looked_at:
            self.refresh()

    def _review(self) -> None:
        """Look for news if it is time; where that fails, what is known serves on."""
        if time.time() - self._looked_at > REVIEW_S:
            self._tally.flush_now_and_then()
            with contextlib.suppress(StoreError):
                self.refresh()


open_stores: weakref.WeakSet[OpenStore] = weakref.WeakSet()
"""Of this process."""


def _after_fork() -> None:
    for store in list(open_stores):
        store.after_fork()


os.register_at_fork(after_in_child=_after_fork)
