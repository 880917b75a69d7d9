"""Laws of looking after a store, on real files that a process wrote that has ended."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalable_hpc.cache.archive import export_archive, import_archive
from scalable_hpc.cache.books import Books
from scalable_hpc.cache.checkup import count, examine, repair
from scalable_hpc.cache.compact import compact, late_revocations, remove, revoke
from scalable_hpc.cache.eviction import Limits
from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.records import HEADER_SIZE, pack_entry
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import MISSING, SMALL, Store
from scalable_hpc.cache.upkeep import SETTLED_S, carry_out, plan_gc
from scalable_hpc.errors import StoreError
from tests.cache_support import run_python

SMALL_KEYS = [f"{number:064x}" for number in range(1, 9)]
LARGE_KEY = "ab" * 32
AN_HOUR_ON = SETTLED_S + 60

_WRITE = """
import sys
import numpy as np
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
for part in range(int(sys.argv[2])):
    with Store(sys.argv[1]) as store:
        store.publish_many([(f"{number:064x}", dumps({"number": number})) for number in range(1, 9)], replace=part > 0)
        store.publish("ab" * 32, dumps(np.arange(30_000)), replace=part > 0)
"""


def written(root: Path, times: int = 1) -> str:
    """Make a store whose writer has ended; each further time replaces all results by equal ones."""
    run_python(_WRITE, root, times)
    return str(root)


def collect(root: str, limits: Limits | None = None, later: float = 0.0):
    books = Books(root)
    now = time.time() + later
    return carry_out(books, plan_gc(books, limits or Limits(), now), now)


def everything(root: str) -> dict[str, object]:
    with Store(root) as store:
        found = {key: store.fetch(key) for key in [*SMALL_KEYS, LARGE_KEY]}
    if found[LARGE_KEY] is not MISSING:
        found[LARGE_KEY] = int(found[LARGE_KEY].sum())
    return found


WHOLE = {key: {"number": int(key, 16)} for key in SMALL_KEYS} | {LARGE_KEY: sum(range(30_000))}


def packs(root: str, pattern: str = "*") -> list[Path]:
    return sorted(Path(root, "v1/packs").glob(pattern))


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


def test_that_rewriting_keeps_every_result(tmp_path):
    """Of three generations of the same results the newest stays, and what is moved comes under a new name."""
    root = written(tmp_path / "c", times=3)
    before = packs(root)
    with Store(root) as store:
        for key in SMALL_KEYS[:5]:
            store.forget(key)

    done = collect(root)

    assert len(done.compacted.removed) == 3
    assert len(packs(root, "*.pack")) == 1
    assert not set(before) & set(packs(root))
    assert everything(root) == WHOLE | dict.fromkeys(SMALL_KEYS[:5], MISSING)


@pytest.mark.parametrize("opened", [True, False])
def test_that_a_reader_with_an_old_index_reads_what_was_stored(tmp_path, opened):
    """Whether it has the old pack open or finds it gone, a reader gets every result."""
    root = written(tmp_path / "c", times=2)
    with Store(root) as reader:
        assert len(reader) == 9
        if opened:
            assert reader.fetch(SMALL_KEYS[0]) == {"number": 1}

        collect(root)

        assert [reader.fetch(key) for key in SMALL_KEYS] == [{"number": number} for number in range(1, 9)]
        assert reader.fetch(LARGE_KEY).sum() == WHOLE[LARGE_KEY]


def test_that_a_living_writers_file_is_left_alone(tmp_path):
    """What an open store writes before and after upkeep is found, however much of its file is dead."""
    with Store(tmp_path / "c") as store:
        for _ in range(3):
            store.publish(SMALL_KEYS[0], dumps("first"), replace=True)

        done = collect(store.root)
        store.publish(SMALL_KEYS[1], dumps("second"))

        assert done.compacted.removed == []
        with Store(store.root) as reader:
            assert [reader.fetch(key) for key in SMALL_KEYS[:2]] == ["first", "second"]


def test_that_what_was_forgotten_stays_forgotten(tmp_path):
    """Upkeep, again and again, brings nothing back that was taken back."""
    root = written(tmp_path / "c")
    with Store(root) as store:
        for key in [*SMALL_KEYS[:6], LARGE_KEY]:
            store.forget(key)

    for _ in range(3):
        collect(root, later=AN_HOUR_ON)

    found = everything(root)
    assert {key for key, value in found.items() if value is not MISSING} == set(SMALL_KEYS[6:])
    assert list(Books(root).blob_files()) == []


def test_that_a_revocation_outlives_the_file_it_was_written_in(tmp_path):
    """What processes that have ended took back from a living writer stays taken back when their files are merged."""
    forget = """
        import sys
        from scalable_hpc.cache.store import Store
        for number in range(1, 9):
            with Store(sys.argv[1]) as store:
                store.forget(f"{number:064x}")
    """
    with Store(tmp_path / "c") as store:
        store.publish_many([(key, dumps("old")) for key in SMALL_KEYS] + [(LARGE_KEY, dumps("kept"))])
        run_python(forget, store.root)

        done = collect(store.root, later=365 * 86_400.0)

        assert len(done.compacted.removed) == 8
        with Store(store.root) as reader:
            assert [reader.lookup(key) for key in SMALL_KEYS] == [None] * 8
            assert reader.fetch(LARGE_KEY) == "kept"


@pytest.mark.parametrize("when", ["before the originals go", "after upkeep has ended"])
def test_that_a_late_revocation_reaches_the_copy(tmp_path, when):
    """Who looked before the copy appeared and takes the original back afterwards takes the copy back too."""
    root = written(tmp_path / "c")
    old, books = Books(root), Books(root)
    done = compact(books, list(books.files), time.time())
    if when == "after upkeep has ended":
        remove(books, done.removed)

    revoke(old, old.result(SMALL_KEYS[0]).places[:1])
    books = Books(root)
    revoke(books, late_revocations(books))

    assert Books(root).result(SMALL_KEYS[0]) is None
    remove(Books(root), done.removed)
    assert everything(root) == WHOLE | {SMALL_KEYS[0]: MISSING}


def test_that_limits_evict_and_give_space_back(tmp_path):
    """What is larger than asked goes, blob and all; a plan alone changes nothing."""
    root = written(tmp_path / "c")
    books = Books(root)
    files = sorted(Path(root).rglob("*"))

    plan = plan_gc(books, Limits(larger_than=SMALL), time.time() + AN_HOUR_ON)
    assert sorted(Path(root).rglob("*")) == files
    done = carry_out(books, plan, time.time() + AN_HOUR_ON)

    assert (done.evicted, done.blobs_removed) == (1, 1)
    assert everything(root) == WHOLE | {LARGE_KEY: MISSING}


def test_that_a_blob_that_is_named_meanwhile_stays(tmp_path):
    """A writer that stages a blob and names it only after upkeep has made its plan keeps it."""
    with Store(tmp_path / "c") as store:
        staged = store.stage(dumps(np.arange(30_000)))
        books, later = Books(store.root), time.time() + AN_HOUR_ON
        plan = plan_gc(books, Limits(), later)
        assert len(plan.blobs) == 1
        store.publish_staged(LARGE_KEY, staged)

        done = carry_out(books, plan, later)

        assert done.blobs_removed == 0
        assert store.fetch(LARGE_KEY).sum() == WHOLE[LARGE_KEY]


def test_that_a_new_blob_without_a_name_stays(tmp_path):
    """Its writer may be about to name it."""
    with Store(tmp_path / "c") as store:
        staged = store.stage(dumps(np.arange(30_000)))

        plan = plan_gc(Books(store.root), Limits(), time.time())

        assert (plan.blobs, plan.held_back) == ((), 1)
        assert bytes.fromhex(staged.digest) in {blob.digest for blob in Books(store.root).blob_files()}


def test_that_upkeep_copies_no_damage(tmp_path):
    """A flipped bit costs its own record, which goes to quarantine, and no other."""
    root = written(tmp_path / "c")
    with Store(root) as store:
        for key in SMALL_KEYS[3:]:
            store.forget(key)
    place = Books(root).result(SMALL_KEYS[0]).places[0]
    flip(Path(root, "v1/packs", place.stem + ".pack"), place.entry.offset + HEADER_SIZE)

    done = collect(root)

    assert done.compacted.damaged == 1
    assert everything(root) == WHOLE | dict.fromkeys([SMALL_KEYS[0], *SMALL_KEYS[3:]], MISSING)
    assert count(Books(root)).quarantined == 1


def test_that_a_file_with_missing_records_stays(tmp_path):
    """What may still arrive is waited for: the file stays, with the reason, and its other results are found."""
    root = written(tmp_path / "c")
    (pack,) = packs(root, "*.pack")
    os.truncate(pack, pack.stat().st_size - 1)
    books = Books(root)

    done = compact(books, [pack.stem], time.time())
    remove(books, done.removed)

    assert list(done.left) == [pack.stem]
    assert everything(root) == WHOLE | {SMALL_KEYS[-1]: MISSING}


def test_that_kinds_of_a_later_release_are_not_dropped(tmp_path):
    """A file that holds what this release does not understand is not rewritten."""
    root = written(tmp_path / "c", times=2)
    for path in packs(root, "*.idx"):
        entry = replace(Books(root).result(SMALL_KEYS[0]).entry, kind=200)
        path.write_bytes(path.read_bytes() + pack_entry(entry, keys_here(create=False).seal(path.stem)))

    assert collect(root).compacted.removed == []
    assert everything(root) == WHOLE


def test_that_a_pack_without_an_index_is_cleared_away(tmp_path):
    """What an interrupted upkeep left is removed by the next one, unless its writer lives."""
    root = written(tmp_path / "c")
    (pack,) = packs(root, "*.pack")
    host, _, token, number = pack.stem.rsplit("-", 3)
    mine = pack.with_name(f"{host}-{os.getpid()}-{token}-{number}.pack")
    mine.write_bytes(b"")
    pack.with_suffix(".idx").unlink()

    collect(root)

    assert packs(root, "*.pack") == [mine]


@pytest.mark.parametrize(("key", "pattern"), [(SMALL_KEYS[0], "packs/*.pack"), (LARGE_KEY, "blobs/*/*")])
def test_that_verify_finds_damage_and_repair_makes_room(tmp_path, key, pattern):
    """One flipped bit is one finding; looking changes nothing; after repair there is none and the key is free."""
    root = written(tmp_path / "c")
    (path,) = Path(root, "v1").glob(pattern)
    flip(path, HEADER_SIZE + 3)
    before = {path: path.stat().st_mtime_ns for path in Path(root).rglob("*")}

    findings = list(examine(Books(root)))
    assert [(finding.key, finding.damaged) for finding in findings] == [(key, True)]
    assert {path: path.stat().st_mtime_ns for path in Path(root).rglob("*")} == before
    assert repair(Books(root), findings, time.time()) == []

    books = Books(root)
    assert (list(examine(books)), count(books).quarantined) == ([], 1)
    assert everything(root) == WHOLE | {key: MISSING}


def test_that_repair_waits_for_what_a_living_writer_may_still_bring(tmp_path):
    """A record that is not all there is taken back only when its writer has ended."""
    root = written(tmp_path / "c")
    (theirs,) = packs(root, "*.pack")
    with Store(root) as store:
        store.publish("cd" * 32, dumps("mine"))
        (mine,) = set(packs(root, "*.pack")) - {theirs}
        for path in (theirs, mine):
            os.truncate(path, path.stat().st_size - 1)
        books = Books(root)

        left = repair(books, list(examine(books)), time.time())

    assert [finding.key for finding in left] == ["cd" * 32]
    assert Books(root).result(SMALL_KEYS[-1]) is None


def test_that_stats_count_shared_blobs_once(tmp_path):
    """Two keys of one large result take its bytes once."""
    data = dumps(np.arange(30_000))
    with Store(tmp_path / "c") as store:
        store.publish_many([("aa" * 32, store.stage(data)), ("bb" * 32, store.stage(data))])

        stats = count(Books(store.root))

    assert (stats.entries, stats.result_bytes, stats.blobs) == (2, len(data), 1)


def test_that_what_was_exported_can_be_imported(tmp_path):
    """Results travel by archive, whole, and a second time nothing is taken in."""
    root = written(tmp_path / "c")
    with Store(root) as store, Store(tmp_path / "other") as other:
        export_archive(store, tmp_path / "x.tar", sorted(store.keys()))
        first = import_archive(other, tmp_path / "x.tar")
        second = import_archive(other, tmp_path / "x.tar")

    assert (first.taken, first.known, second.taken, second.known) == (9, 0, 0, 9)
    assert everything(str(tmp_path / "other")) == WHOLE


def test_that_an_altered_record_is_not_taken_in(tmp_path):
    """What does not have the digest that its name says is refused; the rest comes in."""
    root = written(tmp_path / "c")
    with Store(root) as store:
        export_archive(store, tmp_path / "x.tar", SMALL_KEYS[:3])
    raw = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(raw.replace(b"number", b"mumber", 1))

    with Store(tmp_path / "other") as other:
        done = import_archive(other, tmp_path / "x.tar")

    assert (done.taken, len(done.refused)) == (2, 1)


@pytest.mark.parametrize("size", [0, 100, 2000, 3000])
def test_that_half_an_archive_is_an_error_of_ours(tmp_path, size):
    """A cut or empty file is refused in words."""
    with Store(tmp_path / "c") as store:
        store.publish(LARGE_KEY, dumps(np.arange(30_000)))
        export_archive(store, tmp_path / "x.tar", [LARGE_KEY])
        os.truncate(tmp_path / "x.tar", size)

        with pytest.raises(StoreError, match="archive"):
            import_archive(store, tmp_path / "x.tar")


def test_that_only_one_collects_at_a_time(tmp_path):
    """A second collection is turned away while one is under way."""
    from filelock import FileLock

    root = written(tmp_path / "c")

    with FileLock(Path(root, "v1/upkeep.lock")), pytest.raises(StoreError, match="another process"):
        collect(root)
