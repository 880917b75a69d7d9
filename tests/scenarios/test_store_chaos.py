"""Eight processes share one store while they are killed and its files are damaged: nobody ever gets a wrong result.

``SCALABLE_HPC_CHAOS_KILLS`` sets how many are killed, ``SCALABLE_HPC_CHAOS_SEED`` the seed.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import MISSING, SMALL, Damaged, Store
from tests.cache_support import run_python

KILLS = int(os.environ.get("SCALABLE_HPC_CHAOS_KILLS", "200"))
SEED = int(os.environ.get("SCALABLE_HPC_CHAOS_SEED", "20261122"))
PROCESSES = 8
KEYS = 120
LARGE = 2 * SMALL
CALM_S = 0.03
"""Mean time between two kills: enough for some results, so that kills meet readers as well as writers."""
TALLIES = ("hits", "computed", "damaged", "forgotten")
WRONG = 3
"""Exit code of a process that was given a wrong result."""


def key(number: int) -> str:
    return f"{number:064x}"


def result(number: int) -> object:
    """Return what the key of this number stands for: every fourth is large."""
    if number % 4 == 0:
        return np.random.default_rng(number).integers(0, 255, LARGE, dtype="u1")
    return {"number": number, "noise": random.Random(number).randbytes(100 + 97 * number)}


def is_right(number: int, value: object) -> bool:
    expected = result(number)
    if isinstance(expected, np.ndarray):
        return isinstance(value, np.ndarray) and np.array_equal(value, expected)
    return value == expected


class Tally:
    """Counts that survive the process that made them."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8 * PROCESSES * len(TALLIES))

    def add(self, process: int, name: str) -> None:
        offset = 8 * (process * len(TALLIES) + TALLIES.index(name))
        (count,) = struct.unpack_from("<Q", self._shared, offset)
        struct.pack_into("<Q", self._shared, offset, count + 1)

    def totals(self) -> dict[str, int]:
        counts = struct.unpack(f"<{PROCESSES * len(TALLIES)}Q", self._shared[:])
        return {name: sum(counts[at :: len(TALLIES)]) for at, name in enumerate(TALLIES)}


def live(root: str, process: int, seed: int, tally: Tally) -> NoReturn:
    """Ask, compute, publish, load and forget until killed."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    choose = random.Random(seed)
    store = Store(root, durability=choose.choice(("fsync", "close")))
    while True:
        number = choose.randrange(KEYS)
        value = store.fetch(key(number))
        if value is MISSING:
            try:
                value = store.load(store.publish(key(number), dumps(result(number))))
            except Damaged:  # in the instant since it was published
                tally.add(process, "damaged")
                continue
            tally.add(process, "computed")
        else:
            tally.add(process, "hits")
        if not is_right(number, value):
            os._exit(WRONG)
        if choose.random() < 0.3:
            store.forget(key(number))
            tally.add(process, "forgotten")


def flip_a_bit(path: Path, choose: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[choose.randrange(len(raw))] ^= 1 << choose.randrange(8)
    replace_or_rewrite(path, raw)


def cut(path: Path, choose: random.Random) -> None:
    raw = path.read_bytes()
    replace_or_rewrite(path, raw[: choose.randrange(len(raw))])


def tear(path: Path, choose: random.Random) -> None:
    """Leave at the end what a write that was never finished leaves there."""
    with path.open("ab", buffering=0) as tail:
        tail.write(choose.randbytes(choose.randrange(1, 200)))


def replace_or_rewrite(path: Path, raw: bytes) -> None:
    """Damage a pack or an index under its readers and its writer; a blob, which they map, between two of them."""
    if path.parent.name == "packs":
        with path.open("r+b", buffering=0) as target:
            target.write(raw)
            target.truncate(len(raw))
    else:
        aside = path.with_name("damage")
        aside.write_bytes(raw)
        aside.replace(path)


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (flip_a_bit, cut, tear)


def damage(root: Path, choose: random.Random) -> bool:
    """Damage one file of the store."""
    found = sorted(path for pattern in ("packs/*", "blobs/*/*") for path in (root / "v1").glob(pattern))
    try:
        path = choose.choice([each for each in found if each.stat().st_size])
        choose.choice(DAMAGES)(path, choose)
    except (FileNotFoundError, IndexError):  # put in quarantine since it was listed
        return False
    return True


class Storm:
    """The processes of a store, and what happens to them."""

    def __init__(self, root: str, seed: int) -> None:
        self._root = root
        self._choose = random.Random(seed)
        self._tally = Tally()
        self._living: dict[int, int] = {}
        self.endings: list[int] = []
        """Wait statuses of those that were not killed by us."""

    def rage(self, kills: int) -> dict[str, object]:
        """Kill that many processes, each replaced at once, with damage in between; then end the rest."""
        damaged = sum([self._strike() for _ in range(kills)])
        for pid in list(self._living):
            os.kill(pid, signal.SIGTERM)
            self._bury(pid, expected=0)
        return {"endings": self.endings, "injected": damaged, **self._tally.totals()}

    def _strike(self) -> bool:
        for process in set(range(PROCESSES)) - set(self._living.values()):
            self._start(process)
        time.sleep(self._choose.expovariate(1 / CALM_S))
        pid = self._choose.choice(list(self._living))
        os.kill(pid, signal.SIGKILL)
        self._bury(pid, expected=signal.SIGKILL)
        return self._choose.random() < 0.5 and damage(Path(self._root), self._choose)

    def _start(self, process: int) -> None:
        seed = self._choose.getrandbits(32)
        pid = os.fork()
        if pid == 0:
            live(self._root, process, seed, self._tally)
        self._living[pid] = process

    def _bury(self, pid: int, expected: int) -> None:
        _, status = os.waitpid(pid, 0)
        del self._living[pid]
        if status != expected:
            self.endings.append(status)


PROGRAM = """
    import json, sys
    from tests.scenarios.test_store_chaos import Storm
    print(json.dumps(Storm(sys.argv[1], int(sys.argv[2])).rage(int(sys.argv[3]))))
"""


def test_that_kills_and_damage_never_give_a_wrong_result(tmp_path):
    """SIGKILL at any instant, torn, cut and altered files: no wrong result, no crash, and every loss is made good."""
    output = run_python(PROGRAM, tmp_path, SEED, KILLS)
    seen = json.loads(output.splitlines()[-1])

    assert (output.splitlines()[:-1], seen["endings"]) == ([], [])
    assert min(seen["hits"], seen["computed"], seen["forgotten"], seen["injected"]) > KILLS / 10
    with Store(tmp_path) as store:
        lost = [number for number in range(KEYS) if not is_right(number, store.fetch(key(number)))]
        assert all(store.fetch(key(number)) is MISSING for number in lost)
        store.publish_many([(key(number), dumps(result(number))) for number in lost])
    with Store(tmp_path) as later:
        assert all(is_right(number, later.fetch(key(number))) for number in range(KEYS))
