"""The laws of a store on a shared mount: two clients with stale caches, and a file system that fails."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scalable_hpc.cache.calls import CacheWarning
from scalable_hpc.cache.decorator import cacheable, set_default_store_root
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.shared import default_store
from scalable_hpc.cache.store import MISSING, RECONSIDER_S, SMALL, Damaged, Store
from scalable_hpc.errors import StoreError
from tests.cache_support import ROOT
from tests.fuse_share import Share, missing, shared
from tests.waiting import wait_until

STALE_S = 1.0
"""How long a client believes what it saw of a file: NFS says 3 to 60 s."""
KEYS = 300
STORM_S = 6.0
WRONG = 3
"""Exit code of a process that was given a wrong result."""
CODES = (errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EDQUOT)
RUNS: list[int] = []


@pytest.fixture(scope="module")
def mounts(tmp_path_factory, request) -> Iterator[Share]:
    """Two mounts; where none can be had the reason is told, and with ``--require-fuse`` it is an error."""
    reason = missing()
    if reason is not None:
        if Path("/dev/fuse").exists() and request.config.getoption("--require-fuse"):
            pytest.fail(reason)
        pytest.skip(reason)
    with shared(tmp_path_factory.mktemp("share"), STALE_S) as mounted:
        yield mounted


@pytest.fixture
def share(mounts) -> Iterator[Share]:
    """The mounts, with all well before and after."""
    yield mounts
    mounts.fail()


@pytest.fixture
def roots(share, request) -> tuple[Path, Path]:
    """A store that no other test uses, by the names that its two clients know it by."""
    name = "".join(letter for letter in request.node.name if letter.isalnum())
    one, two = (client / name for client in share.clients)
    return one, two


def key(number: int) -> str:
    return f"{number:064x}"


def small(number: int) -> bytes:
    return dumps({"number": number})


def large(number: int) -> bytes:
    return dumps(np.full(SMALL, number, "u2"))


def record(number: int) -> bytes:
    return (large if number % 3 == 0 else small)(number)


@pytest.mark.parametrize("make", [small, large])
def test_that_one_client_finds_what_the_other_publishes(roots, make):
    """Sooner or later, though it looked before and its kernel remembers that there was nothing; never half of it."""
    with Store(roots[0]) as one, Store(roots[1]) as two:
        for number in range(1, 4):  # the second time into files that the reader has open
            assert two.fetch(key(number)) is MISSING
            locator = one.publish(key(number), make(number))
            wait_until("found", lambda n=number: two.fetch(key(n)) is not MISSING, timeout=RECONSIDER_S + 5 * STALE_S)
            assert bytes(two.read(two.lookup(key(number)))) == make(number) == bytes(one.read(locator))


def test_that_one_client_sees_what_the_other_takes_back(roots):
    """A revocation and a replacement arrive as results do."""
    with Store(roots[0]) as one, Store(roots[1]) as two:
        one.publish(key(1), small(1))
        one.publish(key(2), small(2))
        wait_until("seen", lambda: two.lookup(key(2)) is not None, timeout=5 * STALE_S)
        two.publish(key(1), small(7), replace=True)
        two.forget(key(2))

        wait_until("seen", lambda: one.fetch(key(1)) == {"number": 7}, timeout=5 * STALE_S)
        wait_until("seen", lambda: one.fetch(key(2)) is MISSING, timeout=5 * STALE_S)


def live(root: str, seed: int, seconds: float) -> None:
    """Ask, compute, publish and read for a while, whatever the file system says; tell what was published."""
    choose = random.Random(seed)
    published: set[int] = set()
    refused: list[str] = []
    hits = 0
    end = time.monotonic() + seconds
    store = None
    while time.monotonic() < end:
        number = choose.randrange(KEYS)
        try:
            if store is None or choose.random() < 0.1:
                store = Store(root)
            value = store.fetch(key(number))
            if value is MISSING:
                data = store.read(store.publish(key(number), record(number)))
                published.add(number)
            else:
                data, hits = dumps(value), hits + 1
        except Damaged:  # published by the other client, and not visible here yet
            published.add(number)
            continue
        except StoreError as problem:
            refused.append(str(problem))
            continue
        if bytes(data) != record(number):
            os._exit(WRONG)
    sys.stdout.write(json.dumps({"published": sorted(published), "refused": refused, "hits": hits}))


def storm(roots: tuple[Path, Path], seconds: float, seed: int) -> list[subprocess.Popen[str]]:
    """Start two processes on each client."""
    program = "import sys; from tests.scenarios.test_shared_mount import live; live(sys.argv[1], int(sys.argv[2]), {})"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen([sys.executable, "-c", program.format(seconds), root, str(4 * seed + n)], env=environ, **pipes)
        for n, root in enumerate((*roots, *roots))
    ]


def endings(processes: list[subprocess.Popen[str]]) -> list[dict]:
    told = []
    for process in processes:
        output, problems = process.communicate(timeout=60)
        assert process.returncode == 0, problems
        told.append(json.loads(output))
    return told


def check_whole(roots: tuple[Path, Path], published: set[int]) -> None:
    """All that was reported is there and right, through either client."""
    time.sleep(STALE_S)  # the caches' own time, not a process's
    for root in roots:
        with Store(root) as store:
            assert {number for number in published if store.fetch(key(number)) is MISSING} == set()
            for found in list(store.keys()):
                assert bytes(store.read(store.lookup(found))) == record(int(found, 16))


def test_that_stale_clients_never_get_a_wrong_result(roots):
    """Four processes, two clients that see each other's work late: no wrong result, no error, and nothing lost."""
    Store(roots[0]).close()
    wait_until("seen", (roots[1] / "v1" / "quarantine").is_dir, timeout=5 * STALE_S)
    told = endings(storm(roots, STORM_S / 2, seed=1))

    assert min(each["hits"] for each in told) > 0
    assert [each["refused"] for each in told] == [[]] * len(told)
    check_whole(roots, {number for each in told for number in each["published"]})


def test_that_a_failing_share_never_gives_a_wrong_result(share, roots):
    """EIO, ENOSPC, ESTALE and EDQUOT at random: refused at most, and what was reported outlives it all."""
    Store(roots[0]).close()
    processes = storm(roots, STORM_S, seed=2)
    choose = random.Random(3)
    end = time.monotonic() + STORM_S
    operations = ("write", "fsync", "create", "open", "read", "readdir", "rename", "getattr", "flush", "mkdir")
    while time.monotonic() < end:
        share.fail(**{name: (choose.choice(CODES), 0.1) for name in choose.sample(operations, 4)})
        time.sleep(0.3)  # how long a fault lasts is what is being set here
    share.fail()
    told = endings(processes)

    assert sum(len(each["refused"]) for each in told) > 0
    check_whole(roots, {number for each in told for number in each["published"]})


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("operation", ["write", "fsync", "create", "rename", "readdir"])
@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
def test_that_a_call_on_a_failing_share_costs_a_warning(share, roots, operation, code, size):
    """Each kind of failure of the file system itself: every call is answered, with one warning at most."""

    @cacheable(ignore="RUNS")
    def fill(x):
        RUNS.append(x)
        return np.full(size, x, "u1")

    set_default_store_root(roots[0])
    try:
        fill(0)
        default_store().close()
        share.fail(**{operation: (code, 1.0)})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = [int(fill(number)[0]) for number in (0, 1, 1)]
        share.fail()
        default_store().close()
        after = [int(fill(number)[0]) for number in (0, 1, 2, 1)]
    finally:
        default_store().close()
        set_default_store_root(None)

    assert (values, after) == ([0, 1, 1], [0, 1, 2, 1])
    assert [each.category for each in caught] in ([CacheWarning], [])
    if operation in {"write", "create"}:
        assert [each.category for each in caught] == [CacheWarning]
