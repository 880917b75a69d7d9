"""The laws of seals: nothing is unpickled that was not written by who has the key."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from scalable_hpc.cache.archive import export_archive, import_archive
from scalable_hpc.cache.books import Books
from scalable_hpc.cache.checkup import count, examine, repair
from scalable_hpc.cache.eviction import Limits
from scalable_hpc.cache.keyring import VARIABLE, keys_here
from scalable_hpc.cache.records import Entry, Kind, checksummed, file_id, pack_entry, pack_header
from scalable_hpc.cache.seal import Keys, Seal
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import MISSING, Store
from scalable_hpc.cache.upkeep import SETTLED_S, carry_out, plan_gc
from tests.cache_support import run_python

KEY, LARGE_KEY = "11" * 32, "22" * 32
STRANGER = Keys([b"s" * 32])


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def use_key(tmp_path, monkeypatch):
    """Let this process, and those that it starts, have other keys from now on."""

    def use(*numbers: int) -> Path:
        path = tmp_path / f"key-{'-'.join(map(str, numbers))}"
        path.touch(mode=0o600)
        path.write_text("".join(f"{number:064x}\n" for number in numbers))
        monkeypatch.setenv(VARIABLE, str(path))
        return path

    return use


class Trap:
    """What runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def smuggle(root: Path, record: bytes, seal: Seal, stem: str = "stranger-1-ff-0") -> None:
    """Put a record into a store as somebody does who may write there."""
    digest = blake3(record).digest()
    entry = Entry(Kind.PACKED, bytes.fromhex(KEY), digest, 0, len(record), int(time.time()))
    packs = root / "v1" / "packs"
    (packs / f"{stem}.pack").write_bytes(pack_header(entry.key, digest, len(record)) + record)
    (packs / f"{stem}.idx").write_bytes(pack_entry(entry, seal))


def seals(stem: str) -> dict[str, Seal]:
    mine = keys_here(create=True).seal(stem)
    return {
        "another key": STRANGER.seal(stem),
        "another key, said to be ours": replace(STRANGER.seal(stem), mark=mine.mark),
        "ours, of another file": keys_here(create=True).seal("elsewhere-1-ff-0"),
    }


@pytest.mark.parametrize("whose", ["another key", "another key, said to be ours", "ours, of another file"])
def test_that_a_record_without_our_seal_is_never_unpickled(root, tmp_path, whose):
    """Whoever may write to a store, but has not its key, can put nothing into it: neither result nor code."""
    stem = "stranger-1-ff-0"
    record = dumps(Trap(tmp_path / "sprung"))
    with Store(root) as store:
        smuggle(root, record, seals(stem)[whose], stem)
        assert (store.lookup(KEY), store.fetch(KEY)) == (None, MISSING)
        store.publish(KEY, dumps("honest"))
    with Store(root) as later:
        assert later.fetch(KEY) == "honest"
    assert not (tmp_path / "sprung").exists()


def test_that_the_trap_is_a_real_one(root, tmp_path):
    """With the key, the same record is believed and opened: it is the seal that the law above rests on."""
    Store(root).close()
    smuggle(root, dumps(Trap(tmp_path / "sprung")), keys_here(create=True).seal("stranger-1-ff-0"))
    with Store(root) as store:
        store.fetch(KEY)

    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("whose", ["another key", "another key, said to be ours", "ours, of another file"])
def test_that_nobody_else_takes_results_back(root, whose):
    """A revocation without our seal is none."""
    with Store(root) as store:
        store.publish(KEY, dumps(1))
    index = next((root / "v1" / "packs").glob("*.idx"))
    stem = "stranger-1-ff-0"
    entry = Entry(Kind.REVOKED, bytes.fromhex(KEY), file_id(index.stem), 0, 0, 0)
    index.with_name(f"{stem}.idx").write_bytes(pack_entry(entry, seals(stem)[whose]))

    with Store(root) as later:
        assert later.fetch(KEY) == 1


@pytest.mark.parametrize("place", [*range(0, 92, 7), 92, 107])
def test_that_an_altered_entry_is_not_believed(root, place):
    """Whatever part of an entry is changed, even with its checksum made to fit, the seal does not."""
    with Store(root) as store:
        store.publish(KEY, dumps(1))
    index = next((root / "v1" / "packs").glob("*.idx"))
    raw = bytearray(index.read_bytes())
    assert checksummed(raw[:-4]) == raw
    raw[place] ^= 4
    index.write_bytes(checksummed(raw[:-4]))

    with Store(root) as later:
        assert later.fetch(KEY) is MISSING


def test_that_results_of_another_key_are_neither_used_nor_removed(root, use_key, caplog):
    """With another key a store looks empty, says so once, works, and loses nothing, not even to upkeep."""
    use_key(1)
    run_python(_WRITE, root)
    use_key(2)
    with caplog.at_level(logging.WARNING), Store(root) as store:
        seen = [store.fetch(KEY), store.fetch(LARGE_KEY), list(store.keys())]
        store.refresh()
        store.publish(KEY, dumps("mine"))
        assert store.fetch(KEY) == "mine"
    books, now = Books(root), time.time() + SETTLED_S + 60
    stats = count(books)
    repaired = repair(books, list(examine(books)), now)
    carry_out(books, plan_gc(books, Limits(older_than_s=1), now), now)
    use_key(1)
    with Store(root) as again:
        kept = (again.fetch(KEY), int(again.fetch(LARGE_KEY).sum()))

    assert (seen, [each.message.count("another key") for each in caplog.records]) == ([MISSING, MISSING, []], [1])
    assert (stats.entries, stats.foreign_entries, stats.damaged_entries, repaired) == (1, 2, 0, [])
    assert kept == ("theirs", 30_000)


_WRITE = """
import sys
import numpy as np
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
with Store(sys.argv[1]) as store:
    store.publish("11" * 32, dumps("theirs"))
    store.publish("22" * 32, dumps(np.ones(30_000)))
"""


_WRITE_FILES = """
import sys
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
for number in range(10):
    with Store(sys.argv[1]) as store:
        store.publish(f"{number:064x}", dumps(number))
"""


def test_that_a_key_can_be_changed(root, use_key):
    """A new line on top seals what comes; what the old one sealed is known until its line goes."""
    use_key(1)
    with Store(root) as store:
        store.publish(KEY, dumps("old"))
    use_key(2, 1)
    with Store(root) as store:
        assert store.fetch(KEY) == "old"
        store.publish(LARGE_KEY, dumps("new"))
    use_key(2)
    with Store(root) as store:
        assert (store.fetch(KEY), store.fetch(LARGE_KEY)) == (MISSING, "new")


def test_that_upkeep_seals_anew(root, use_key):
    """What is moved into new files is sealed with the key on top, so that an old one can be given up."""
    use_key(1)
    run_python(_WRITE_FILES, root)  # enough small ones to be merged
    use_key(2, 1)
    books, now = Books(root), time.time()
    assert carry_out(books, plan_gc(books, Limits(), now), now).compacted.removed
    use_key(2)

    with Store(root) as store:
        assert len(store) == 10
        assert all(store.fetch(key) is not MISSING for key in list(store.keys()))


def test_that_an_archive_is_sealed_by_who_takes_it_in(root, tmp_path, use_key):
    """Results travel in archives without seals: their owner is looked at, and the taker's key is on them then."""
    use_key(1)
    with Store(root) as store:
        store.publish(KEY, dumps("far away"))
        export_archive(store, tmp_path / "all.tar", [KEY])
    use_key(2)
    with Store(tmp_path / "mine") as store:
        import_archive(store, tmp_path / "all.tar")
    with Store(tmp_path / "mine") as later:
        assert later.fetch(KEY) == "far away"


def test_that_a_store_without_a_key_can_be_looked_at(root, use_key, tmp_path, monkeypatch):
    """Who has no key sees an empty store, and is not given one for looking."""
    use_key(1)
    with Store(root) as store:
        store.publish(KEY, dumps(np.ones(3)))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none" / "store.key"))

    with Store(root, create=False) as store:
        assert list(store.keys()) == []
    assert not os.path.lexists(tmp_path / "none")
