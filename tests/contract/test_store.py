"""The laws of the result store, on real files, with real processes that are really killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.records import ENTRY_SIZE
from scalable_hpc.cache.serial import dumps, loads
from scalable_hpc.cache.store import MISSING, REVIEW_S, SMALL, Damaged, Store
from scalable_hpc.errors import StoreError
from tests.cache_support import ROOT, run_python

LARGE = 3 * SMALL


def key(number: int) -> str:
    return f"{number:064x}"


def small(number: int) -> bytes:
    return dumps({"number": number})


def large(number: int) -> bytes:
    return dumps(np.full(LARGE // 8, number, dtype="i8"))


def files(store: Store, pattern: str) -> list[Path]:
    return sorted(Path(store.root, "v1").glob(pattern))


def flip(path: Path, position: int) -> None:
    """Alter one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


@pytest.fixture(params=["fsync", "close"])
def durability(request):
    return request.param


@pytest.fixture
def store(tmp_path, durability):
    with Store(tmp_path / "cache", durability=durability) as opened:
        yield opened


@pytest.fixture
def reader(store):
    """Another process's view of the store, as good as: it shares nothing with the first one but the files."""
    with Store(store.root) as opened:
        yield opened


@pytest.mark.parametrize("make", [small, large])
def test_that_what_was_published_is_found(store, reader, make):
    """A result is found under its key, by its writer and by others, small or large."""
    locator = store.publish(key(1), make(1))

    assert store.read(store.lookup(key(1))) == reader.read(reader.lookup(key(1))) == make(1)
    assert (locator.key, locator.size, locator.store) == (key(1), len(make(1)), store.root)
    assert reader.lookup(key(2)) is None


def test_that_small_results_ride_inline(store, reader):
    """A small result's locator can be opened by who never saw the store; a large one's names the file."""
    assert loads(store.publish(key(1), small(1)).inline) == {"number": 1}
    assert store.publish(key(2), large(2)).inline is None
    assert reader.publish(key(1), small(5)).inline == small(1)


def test_that_none_and_falsy_results_are_results(store, reader):
    """None is told from nothing."""
    store.publish(key(1), dumps(None))

    assert (reader.fetch(key(1)), reader.fetch(key(2))) == (None, MISSING)


@pytest.mark.parametrize("make", [small, large])
def test_that_the_first_publisher_wins(store, reader, make):
    """Publishing what is there returns what is there."""
    first = store.publish(key(1), make(1))
    second = reader.publish(key(1), make(2))
    again = store.publish(key(1), make(3))

    assert second.digest == again.digest == first.digest
    assert bytes(reader.read(second)) == make(1)


@pytest.mark.parametrize(("before", "after"), [(small, small), (small, large), (large, small), (large, large)])
def test_that_a_replacement_takes_the_place_of_what_was_there(store, reader, before, after):
    """``replace`` is seen by those who open the store later, and by those who ask anew."""
    store.publish(key(1), before(1))
    reader.publish(key(1), after(2), replace=True)

    with Store(store.root) as later:
        assert bytes(later.read(later.lookup(key(1)))) == after(2)
    store.refresh()
    assert bytes(store.read(store.lookup(key(1)))) == after(2)


def test_that_what_is_forgotten_is_gone_and_can_come_back(store, reader):
    """``forget`` holds for every process; the same bytes may be published again."""
    store.publish(key(1), small(1))
    assert (reader.forget(key(1)), reader.forget(key(2))) == (True, False)
    store.refresh()
    assert store.lookup(key(1)) is None
    store.publish(key(1), small(1))

    with Store(store.root) as later:
        assert later.fetch(key(1)) == {"number": 1}


def test_that_a_miss_sees_what_others_published_meanwhile(store, reader):
    """A lookup looks for news unless it is told not to."""
    reader.lookup(key(1))
    store.publish(key(1), small(1))

    assert reader.lookup(key(1), fresh=False) is None
    assert reader.lookup(key(1)) is not None


def test_that_large_arrays_are_mapped_read_only_and_private(store, reader):
    """Found or loaded, a mapped array is no one's to write to; who makes it theirs all the same, changes it alone."""
    locator = store.publish(key(1), large(1))
    array = reader.fetch(key(1))
    flags = (array.flags.writeable, array.flags.owndata, reader.load(locator).flags.writeable)
    array.flags.writeable = True
    array[:] = 9

    assert flags == (False, False, False)
    assert reader.fetch(key(1))[0] == 1


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("place", [0, 40, 79, 81, -1])
def test_that_a_flipped_bit_is_never_returned(store, reader, make, place):
    """A damaged record is detected, put in quarantine, and can be published anew."""
    locator = store.publish(key(1), make(1))
    flip(files(store, "packs/*.pack" if make is small else "blobs/*/*")[0], place)

    with pytest.raises(Damaged):
        reader.read(replace(locator, inline=None))
    assert reader.lookup(key(1)) is None
    assert len(files(store, "quarantine/*")) == 1
    reader.publish(key(1), make(1))
    with Store(store.root) as later:
        assert bytes(later.read(later.lookup(key(1)))) == make(1)


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("remains", [0, 50, 100])
def test_that_a_cut_file_costs_only_what_was_cut(store, reader, make, remains):
    """A truncated pack or blob is a miss, not a crash, and not a wrong result."""
    store.publish(key(1), make(1))
    os.truncate(files(store, "packs/*.pack" if make is small else "blobs/*/*")[0], remains)

    assert reader.fetch(key(1)) is MISSING
    reader.publish(key(1), make(1))
    with Store(store.root) as later:
        assert later.fetch(key(1)) is not MISSING


@pytest.mark.parametrize("pattern", ["packs/*.pack", "packs/*.idx", "blobs/*/*"])
def test_that_a_missing_file_costs_only_its_results(store, reader, pattern):
    """Deleted packs, indexes and blobs are misses."""
    store.publish(key(1), small(1))
    store.publish(key(2), large(2))
    for path in files(store, pattern):
        path.unlink()

    lost = [number for number in (1, 2) if reader.fetch(key(number)) is MISSING]

    assert lost == {"packs/*.pack": [1], "packs/*.idx": [1, 2], "blobs/*/*": [2]}[pattern]


def test_that_the_writer_of_a_damaged_record_finds_out_too(store):
    """Publishing over a damaged record stores the new one instead of pointing at the old."""
    store.publish(key(1), small(1))
    flip(files(store, "packs/*.pack")[0], -1)

    locator = store.publish(key(1), small(2))

    assert store.read(replace(locator, inline=None)) == small(2)


@pytest.mark.parametrize("damaged", [0, 1])
def test_that_a_second_copy_stands_in_for_a_damaged_one(tmp_path, damaged):
    """When two publishers were equally quick and one copy is damaged, the other is found."""
    with Store(tmp_path / "one") as one, Store(tmp_path / "other") as other:
        one.publish(key(1), small(1))
        other.publish(key(1), small(1))
        for path in files(other, "packs/*"):
            path.rename(Path(one.root, "v1", "packs", path.name))
    flip(files(one, "packs/*.pack")[damaged], -1)

    with Store(one.root) as later:
        assert later.fetch(key(1)) == {"number": 1}


def test_that_a_torn_index_entry_is_passed_over(store, reader):
    """A tail that was never finished hides nothing and is not read as an entry."""
    store.publish(key(1), small(1))
    index = files(store, "packs/*.idx")[0]
    with index.open("ab") as tail:
        tail.write(b"x" * (ENTRY_SIZE - 1))

    with Store(store.root) as later:
        assert list(later.keys()) == [key(1)]


def test_that_an_altered_inline_result_is_refused(store):
    """Bytes that ride in a locator are verified like all others."""
    locator = store.publish(key(1), small(1))

    with pytest.raises(Damaged):
        store.load(replace(locator, inline=small(2)))


def test_that_staged_bytes_get_their_key_from_another_process(store, reader):
    """One process may write a large result and another one give it its key."""
    staged = store.stage(large(1))
    assert reader.lookup(key(1)) is None
    locator = reader.publish_staged(key(1), staged)

    assert bytes(store.read(locator)) == large(1)


def test_that_a_large_result_is_read_without_the_index(store, reader):
    """A locator names a large result by its content: its reader looks at no index, and finds damage all the same."""
    locator = store.publish(key(1), large(1))
    for path in files(store, "packs/*.idx"):
        path.unlink()

    assert bytes(reader.read(locator)) == large(1)
    flip(files(store, "blobs/*/*")[0], -1)
    with pytest.raises(Damaged):
        reader.read(locator)


def test_that_many_results_are_published_at_once(store, reader):
    """Small, large and staged results, known and new keys, one key twice: each as if published alone, in one go."""
    known = store.publish(key(1), small(1))
    batch = [
        (key(1), small(9)),
        (key(2), small(2)),
        (key(3), large(3)),
        (key(4), store.stage(large(4))),
        (key(2), small(8)),
    ]

    locators = reader.publish_many(batch)

    assert [locator.digest for locator in locators][::4] == [known.digest, locators[1].digest]
    assert [locator.inline is None for locator in locators] == [False, False, True, True, False]
    with Store(store.root) as later:
        records = [bytes(later.read(replace(locator, inline=None))) for locator in locators[:4]]
    assert records == [small(1), small(2), large(3), large(4)]
    assert store.publish_many([]) == []


def test_that_many_results_are_replaced_at_once(store, reader):
    """``replace`` holds for every result of a batch."""
    store.publish_many([(key(number), small(number)) for number in range(3)])
    reader.publish_many([(key(number), small(10 + number)) for number in range(3)], replace=True)

    with Store(store.root) as later:
        assert [later.fetch(key(number))["number"] for number in range(3)] == [10, 11, 12]


def test_that_a_batch_costs_one_fsync_of_each_file(tmp_path, monkeypatch):
    """Fifty results published at once wait for the disk no longer than one."""
    calls = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(descriptor), fsync(descriptor)))
    with Store(tmp_path) as store:
        store.publish(key(0), small(0))
        calls.clear()
        store.publish_many([(key(number), small(number)) for number in range(1, 51)])

    assert len(calls) == 2


def test_that_many_keys_are_looked_up_at_once(store, reader):
    """Known and unknown keys, with and without a look for news."""
    reader.lookup(key(0))
    store.publish(key(1), small(1))
    keys = [key(1), key(2), key(1)]

    assert reader.lookup_many(keys, fresh=False) == [None, None, None]
    assert [locator and locator.key for locator in reader.lookup_many(keys)] == [key(1), None, key(1)]


def test_that_equal_large_results_are_kept_once(store):
    """Blobs are named by content."""
    store.publish(key(1), large(1))
    store.publish(key(2), large(1))

    assert len(files(store, "blobs/*/*")) == 1


def test_that_many_small_results_take_few_files(store):
    """A writer has one pack and one index, however many results it stores."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.publish(key(number), small(number)), range(300)))

    assert len(files(store, "packs/*")) == 2
    assert len(store) == 300


def test_that_publishers_in_threads_agree_on_one_result(store, reader):
    """Threads that publish one key at once all get one result, and it is stored once."""
    barrier = threading.Barrier(8)

    def publish(number):
        barrier.wait()
        return store.publish(key(1), small(number)).digest

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(publish, range(8)))

    assert digests == {reader.lookup(key(1)).digest}
    assert files(store, "packs/*.idx")[0].stat().st_size == ENTRY_SIZE


def test_that_publishers_in_threads_share_their_fsyncs(tmp_path, monkeypatch):
    """A hundred publishers, twenty at a time, wait for less than half of the fsyncs that each would need alone."""
    calls = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(descriptor), time.sleep(0.05), fsync(descriptor)))
    with Store(tmp_path) as store, ThreadPoolExecutor(20) as pool:
        store.publish(key(0), small(0))
        calls.clear()
        list(pool.map(lambda number: store.publish(key(number), small(number)), range(1, 101)))

    assert len(calls) < 100


def test_that_files_are_the_owners_alone(store):
    """Directories are 0700 and files 0600, whatever the umask."""
    store.publish(key(1), small(1))
    store.publish(key(2), large(2))
    top = Path(store.root)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in [top, *top.rglob("*")]}

    assert modes == {True: 0o700, False: 0o600}
    assert (top / "v1" / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_that_another_users_store_is_refused(tmp_path):
    """A root that belongs to somebody else is not opened: its records would be unpickled."""
    Store(tmp_path / "cache").close()
    os.chown(tmp_path / "cache" / "v1", 12345, 12345)

    with pytest.raises(StoreError, match="user id 12345"):
        Store(tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("pattern", ["packs/*.idx", "packs/*.pack", "blobs/*/*"])
def test_that_another_users_files_are_left_alone(store, pattern):
    """A file that somebody else put into the store is never read."""
    store.publish(key(1), small(1))
    store.publish(key(2), large(2))
    for path in files(store, pattern):
        os.chown(path, 12345, 12345)

    with Store(store.root) as later:
        lost = [number for number in (1, 2) if later.fetch(key(number)) is MISSING]

    assert lost == {"packs/*.pack": [1], "packs/*.idx": [1, 2], "blobs/*/*": [2]}[pattern]


def test_that_a_store_that_is_not_there_can_be_asked_for(tmp_path):
    """Without ``create`` nothing is made."""
    with pytest.raises(StoreError, match="no result store"):
        Store(tmp_path / "none", create=False)
    assert list(tmp_path.iterdir()) == []


def test_that_a_place_where_nothing_can_be_made_is_an_error_with_a_hint(tmp_path):
    """A store that cannot be made says so, and which variable to set."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="SCALABLE_HPC_CACHE_DIR"):
        Store(tmp_path / "file" / "cache")


@pytest.mark.parametrize("make", [small, large])
def test_that_a_full_disk_raises_and_leaves_the_store_whole(tmp_path, make):
    """ENOSPC in the middle of a write is a ``StoreError``; what was stored before, and comes after, is right."""
    program = """
        import resource, signal, sys
        from scalable_hpc.cache.serial import dumps
        from scalable_hpc.cache.store import Store
        from scalable_hpc.errors import StoreError
        from tests.contract.test_store import key, large, small
        make = {"small": small, "large": large}[sys.argv[2]]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = Store(sys.argv[1])
        store.publish(key(0), small(0))
        limit = 150 if make is small else 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))  # no file may grow beyond: write() fails half-way
        refused = 0
        for number in range(1, 4):
            try:
                store.publish(key(number), make(number))
            except StoreError as problem:
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        store.publish(key(9), make(9))
        print(refused)
    """
    refused = run_python(program, tmp_path, make.__name__)
    with Store(tmp_path) as store:
        assert refused == "3"
        assert sorted(store.keys()) == [key(0), key(9)]
        assert bytes(store.read(store.lookup(key(9)))) == make(9)
        assert files(store, "aside/*") == []


def test_that_a_read_only_store_can_be_read():
    """Results of a store that cannot be written to are found; publishing raises, damage is a miss."""
    program = """
        import os, sys, tempfile
        from pathlib import Path
        from scalable_hpc.cache.store import MISSING, Store
        from scalable_hpc.errors import StoreError
        from tests.contract.test_store import files, flip, key, small
        if os.geteuid() == 0:
            os.setuid(12345)  # root writes everywhere
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
            os.environ["HOME"] = home
            with Store(folder) as store:
                store.publish(key(1), small(1))
            folders = [path for path in Path(folder).rglob("*") if path.is_dir()]
            for path in folders:
                path.chmod(0o500)
            with Store(folder) as frozen:
                found = frozen.fetch(key(1))
                try:
                    frozen.publish(key(2), small(2))
                except StoreError:
                    print(found, "refused")
            flip(files(frozen, "packs/*.pack")[0], -1)
            with Store(folder) as frozen:
                print(frozen.fetch(key(1)) is MISSING)
            for path in folders:
                path.chmod(0o700)
    """

    assert run_python(program).splitlines() == ["{'number': 1} refused", "True"]


def test_that_a_closed_store_says_so(tmp_path):
    """After ``close`` nothing is published; nothing crashes."""
    store = Store(tmp_path)
    store.close()

    with pytest.raises(StoreError, match="closed"):
        store.publish(key(1), small(1))


def test_that_a_key_is_64_hex_digits(store):
    """A shorter key is a mistake, not a shorter key."""
    with pytest.raises(ValueError, match="64 hex digits"):
        store.publish("ab", small(1))
    with pytest.raises(ValueError, match="64 hex digits"):
        store.lookup("ab")


def test_that_a_forked_child_writes_files_of_its_own(tmp_path):
    """A child that was forked off a writer, mid-publish even, shares no file with it."""
    program = """
        import os, sys, threading
        from scalable_hpc.cache.store import Store
        from tests.contract.test_store import key, small
        store = Store(sys.argv[1])
        store.publish(key(0), small(0))
        stop = threading.Event()
        def busy():
            number = 1000
            while not stop.is_set():
                store.publish(key(number), small(number))
                number += 1
        thread = threading.Thread(target=busy)
        thread.start()
        children = []
        for child in range(1, 6):
            pid = os.fork()
            if pid == 0:
                for number in range(10):
                    store.publish(key(100 * child + number), small(number))
                os._exit(0 if store.fetch(key(0)) == {"number": 0} else 1)
            children.append(pid)
        codes = [os.waitpid(pid, 0)[1] for pid in children]
        stop.set()
        thread.join()
        print(codes)
    """
    codes = run_python(program, tmp_path, PYTHONWARNINGS="ignore")
    with Store(tmp_path) as store:
        assert codes == "[0, 0, 0, 0, 0]"
        assert {key(100 * child + number) for child in range(1, 6) for number in range(10)} <= set(store.keys())
        assert all(store.fetch(each) is not MISSING for each in list(store.keys()))
        assert len(files(store, "packs/*.pack")) == 6


WRITER = """
    import random, sys
    from scalable_hpc.cache.store import Store
    from tests.contract.test_store import key, large, small
    store, seed = Store(sys.argv[1]), int(sys.argv[2])
    choose = random.Random(seed)
    print("ready", flush=True)
    for _ in range(int(sys.argv[3])):
        number = choose.randrange(400)
        locator = store.publish(key(number), (large if number % 10 == 0 else small)(number))
        print(number, locator.digest, flush=True)
"""


def start_writer(root: Path, seed: int, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(root), str(seed), str(count)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def check_whole(root: Path, published: dict[int, str]) -> None:
    """Open a store that processes died in: everything that was reported is there and right, and nothing is wrong."""
    with Store(root) as store:
        for number, digest in published.items():
            locator = store.lookup(key(number))
            assert locator is not None
            assert locator.digest == digest
        for each in list(store.keys()):
            number = int(each, 16)
            assert bytes(store.read(store.lookup(each))) == (large if number % 10 == 0 else small)(number)


def test_that_four_processes_share_a_store(tmp_path):
    """Concurrent writers neither disturb nor wait for each other, and agree on every key."""
    writers = [start_writer(tmp_path, seed, 150) for seed in range(4)]
    published: dict[int, set[str]] = {}
    for writer in writers:
        lines = writer.communicate(timeout=120)[0].splitlines()
        assert (writer.returncode, len(lines)) == (0, 151)
        for line in lines[1:]:
            number, digest = line.split()
            published.setdefault(int(number), set()).add(digest)

    assert all(len(digests) == 1 for digests in published.values())
    check_whole(tmp_path, {number: digests.pop() for number, digests in published.items()})


def test_that_a_process_killed_while_publishing_harms_nothing(tmp_path):
    """SIGKILL at any moment: what was reported as published is there, and nothing that is there is wrong."""
    choose = random.Random(5)
    published: dict[int, str] = {}
    for kill in range(8):
        writer = start_writer(tmp_path, kill, 100_000)
        assert writer.stdout.readline() == "ready\n"
        timer = threading.Timer(choose.uniform(0.001, 0.15), writer.send_signal, [signal.SIGKILL])
        timer.start()
        for line in writer.stdout:
            if line.endswith("\n"):
                number, digest = line.split()
                published[int(number)] = digest
        writer.wait()
        writer.stdout.close()
        timer.join()

    assert len(published) > 5
    check_whole(tmp_path, published)


def test_that_leftovers_of_killed_writers_are_swept(store):
    """A file that a process left aside when it died, a day ago, is removed by the next writer."""
    aside = Path(store.root, "v1", "aside")
    for name, age in (("old", 100_000), ("new", 10)):
        (aside / name).write_text("x")
        os.utime(aside / name, (time.time() - age,) * 2)
    store.publish(key(1), small(1))

    assert [path.name for path in aside.iterdir()] == ["new"]


def test_that_a_large_store_opens_quickly(tmp_path):
    """100,000 results are known within a second, and every key can be looked up within another."""
    from scalable_hpc.cache.records import Entry, Kind, pack_entry

    seal = keys_here(create=True).seal("other-1-ff-0")
    with Store(tmp_path) as store:
        entries = b"".join(
            pack_entry(Entry(Kind.PACKED, bytes.fromhex(key(n)), bytes(32), 0, 10, 0), seal) for n in range(100_000)
        )
        Path(store.root, "v1", "packs", "other-1-ff-0.idx").write_bytes(entries)
    start = time.process_time()
    with Store(tmp_path) as store:
        opened = time.process_time()
        found = sum(store.lookup(key(number), fresh=False) is not None for number in range(100_000))
        looked = time.process_time()

    assert found == 100_000
    assert opened - start < 1.0
    assert looked - opened < 2.0


def test_that_what_one_store_of_a_process_forgets_the_others_forget_at_once(store, reader):
    """Also where they knew it, and are asked for what they know only."""
    store.publish(key(1), small(1))
    assert reader.lookup(key(1)) is not None
    store.forget(key(1))

    assert reader.lookup(key(1), fresh=False) is None


def test_that_what_another_process_takes_back_is_not_found_for_long(store, monkeypatch):
    """A known result is looked for anew once a second has gone by."""
    store.publish(key(1), small(1))
    assert store.lookup(key(1)) is not None
    assert store.fetch(key(1), fresh=False) == store.fetch(key(1), fresh=False) == {"number": 1}
    program = """
        import sys
        from scalable_hpc.cache.store import Store
        from tests.contract.test_store import key
        print(Store(sys.argv[1]).forget(key(1)))
    """
    assert run_python(program, store.root) == "True"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * REVIEW_S)

    assert store.fetch(key(1), fresh=False) is MISSING
    assert store.lookup(key(1)) is None


def test_that_only_what_is_old_enough_expires(store, reader):
    """Results made before a time are taken back for everybody; younger ones, and other keys', stay."""
    for number in (1, 2):
        store.publish(key(number), small(number))
    now = time.time()

    assert reader.expire(key(1), now - 5) is False
    assert reader.expire(key(1), now + 5) is True
    with Store(store.root) as later:
        assert [later.fetch(key(1)), later.fetch(key(2))] == [MISSING, {"number": 2}]
        later.publish(key(1), small(3))
        assert later.fetch(key(1)) == {"number": 3}
