"""The result cache beside joblib.Memory, diskcache and Scalable, in one run on one machine; prints Markdown tables.

    pip install "scalable-hpc[bench]"
    nice python benchmarks/cache.py [--entries 100000] [--repeat 5] [--only calls,many,writers,map]

Each figure is the best of several rounds, and every peer of a row is measured in the same minute. Peers run with
their defaults unless the row says otherwise; joblib's memory-mapped mode has a column of its own. Scalable has one
where ``import scalable`` finds it (``pip install --pre scalable``). Nothing here is estimated: what a peer cannot do,
or was not asked to, is a dash.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_USER_MODULE = """
import numpy as np

def small(number, name="scenario"):
    return {"number": number, "name": name, "value": number / 3}

def megabytes(count):
    return np.arange(count * 125_000, dtype="f8")

def table(rows):
    import pandas as pd
    return pd.DataFrame({"a": np.arange(rows), "b": np.arange(rows) / 7, "c": np.arange(rows, dtype="f4")})

def table_with_text(rows):
    frame = table(rows)
    frame["name"] = [f"name-{number}" for number in range(rows)]
    return frame

def total(data):
    return float(len(data))
"""
_FRESH = """
import sys, time
sys.path[:0] = [{home!r}, {root!r}, {bench!r}]
import usercode
from cache import OPENERS
start = time.perf_counter()
call = OPENERS[{peer!r}]({where!r}).wrap(usercode.small)
assert call(7)["number"] == 7
print(time.perf_counter() - start)
"""
_WRITER = """
import sys
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
with Store({where!r}, durability={durability!r}) as store:
    store.publish(f"{{int(sys.argv[1]):064x}}", dumps(0))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range({each}):
        store.publish(f"{{(1 + number) * 1000 + int(sys.argv[1]):064x}}", dumps(number))
"""
_MANIFEST = """
version: 1
targets:
  local: {provider: local, capacity: {cpus: 1}}
components:
  model: {cpus: 1, memory: 1G}
"""
_MAPPED = """
import sys, time
import usercode
from scalable_hpc import ScalableSession, cacheable
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
count, small = int(sys.argv[1]), cacheable(usercode.small)
keys = [small.cache.key(number) for number in range(count)]
with Store(".scalable/cache") as store:
    for first in range(0, count, 1000):
        store.publish_many([(key, dumps(first)) for key in keys[first : first + 1000]])
with ScalableSession.from_yaml("scalable.yaml") as client:
    start = time.perf_counter()
    futures = client.map(small, range(count))
    print(time.perf_counter() - start)
    assert all(future.done() for future in futures)
    start = time.perf_counter()
    client.gather(futures)
    print(time.perf_counter() - start)
"""
_OPENED = """
from scalable_hpc.cache.store import Store
with Store({where!r}) as store:
    len(store)
"""
_OPENED_DISKCACHE = """
import diskcache
with diskcache.Cache({where!r}) as cache:
    len(cache)
"""


class Ours:
    """scalable_hpc, through ``@cacheable``."""

    name = "scalable_hpc"

    def __init__(self, where: str) -> None:
        from scalable_hpc.cache.decorator import set_default_store_root

        self.where = where
        set_default_store_root(where)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        from scalable_hpc import cacheable

        return cacheable(function)

    def digest(self, value: object) -> object:
        from scalable_hpc.cache.encode import digest

        return digest(value, lambda code: code.__qualname__.encode())


class Joblib:
    """joblib.Memory."""

    name = "joblib"
    mmap_mode: str | None = None

    def __init__(self, where: str) -> None:
        import joblib

        self.where = where
        self.memory = joblib.Memory(where, verbose=0, mmap_mode=self.mmap_mode)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.memory.cache(function)

    def digest(self, value: object) -> object:
        import joblib

        return joblib.hash(value)


class JoblibMapped(Joblib):
    """joblib.Memory(mmap_mode="r")."""

    name = "joblib, mmap"
    mmap_mode = "r"


class Diskcache:
    """diskcache.Cache.memoize: no size limit, since ours has none."""

    name = "diskcache"

    def __init__(self, where: str) -> None:
        import diskcache

        self.where = where
        self.cache = diskcache.Cache(where, size_limit=1 << 45, eviction_policy="none")

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.cache.memoize()(function)


class Scalable:
    """Scalable's ``cacheable``; its directory is a setting of the whole process."""

    name = "Scalable"

    def __init__(self, where: str) -> None:
        from scalable import caching

        self.where = where
        caching.settings.cache_dir = where

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        from scalable import cacheable

        wrapped: Callable[..., Any] = cacheable()(function)
        return wrapped

    def digest(self, value: object) -> object:
        from scalable.caching import convert_to_type

        return hash(convert_to_type(value))


PEERS = (Ours, Joblib, JoblibMapped, Diskcache, *([Scalable] if importlib.util.find_spec("scalable") else []))
OPENERS: dict[str, Callable[[str], Any]] = {each.name: each for each in PEERS}


def timed(act: Callable[[], object], repeat: int, count: int = 1, prepare: Callable[[], object] | None = None) -> float:
    """Return the best seconds per act out of several rounds."""
    best = float("inf")
    for _ in range(repeat):
        if prepare is not None:
            prepare()
        gc.collect()
        start = time.perf_counter()
        for _ in range(count):
            act()
        best = min(best, (time.perf_counter() - start) / count)
    return best


@contextlib.contextmanager
def opened(peer: str, base: Path) -> Iterator[Any]:
    where = tempfile.mkdtemp(prefix="cache-", dir=base)
    yield OPENERS[peer](where)
    shutil.rmtree(where)


def inodes(where: str) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(where))


def small_hit(peer: str, base: Path, user: Any, repeat: int) -> float:
    with opened(peer, base) as cache:
        call = cache.wrap(user.small)
        call(7)
        return timed(lambda: call(7), repeat, 2000 if peer != "joblib" else 300)


def fresh_hit(peer: str, base: Path, user: Any, repeat: int) -> float:
    """What a new process waits for its first hit: importing the cache, opening it, finding the result."""
    with opened(peer, base) as cache:
        cache.wrap(user.small)(7)
        home = str(Path(user.__file__).parent)
        text = _FRESH.format(home=home, root=str(ROOT), bench=str(ROOT / "benchmarks"), peer=peer, where=cache.where)
        runs = [
            subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
            for _ in range(repeat)
        ]
        for run in runs:
            if run.returncode:
                raise SystemExit(run.stderr)
        return min(float(run.stdout) for run in runs)


def small_miss(peer: str, base: Path, user: Any, repeat: int) -> float:
    with opened(peer, base) as cache:
        call = cache.wrap(user.small)
        numbers = iter(range(1, 1 << 30))
        call(0)
        return timed(lambda: call(next(numbers)), repeat, 100)


def small_miss_closed(base: Path, user: Any, repeat: int) -> float:
    """Our miss where a closed file is durable enough, step by step: ``@cacheable`` always waits for the disk."""
    from scalable_hpc import cacheable
    from scalable_hpc.cache.serial import dumps
    from scalable_hpc.cache.store import Store

    where = tempfile.mkdtemp(prefix="cache-", dir=base)
    call = cacheable(user.small)
    numbers = iter(range(1 << 30))
    with Store(where, durability="close") as store:

        def miss() -> None:
            number = next(numbers)
            key = call.cache.key(number)
            assert store.lookup(key) is None
            store.publish(key, dumps(user.small(number)))

        miss()
        seconds = timed(miss, repeat, 100)
    shutil.rmtree(where)
    return seconds


def hashing(peer: str, base: Path, value: object, repeat: int) -> float | None:
    with opened(peer, base) as cache:
        return timed(lambda: cache.digest(value), repeat) if hasattr(cache, "digest") else None


def large_hit(peer: str, base: Path, function: Callable[..., Any], size: int, repeat: int) -> float:
    with opened(peer, base) as cache:
        call = cache.wrap(function)
        call(size)
        return timed(lambda: call(size), repeat, 3)


def argument_hit(peer: str, base: Path, user: Any, value: object, repeat: int) -> float:
    """A hit of a call whose argument is large: hashing and finding."""
    with opened(peer, base) as cache:
        call = cache.wrap(user.total)
        call(value)
        return timed(lambda: call(value), repeat)


def shown(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def table(title: str, columns: list[str], rows: list[tuple[str, list[str]]]) -> None:
    print(f"\n| {title} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, cells in rows:
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def calls(base: Path, user: Any, repeat: int) -> None:
    """Single calls, all peers."""
    import numpy as np

    array = np.random.default_rng(1).random(12_500_000)
    frame = user.table(1_000_000)
    peers = list(OPENERS)
    rows: list[tuple[str, list[str]]] = []

    def row(name: str, measure: Callable[[str], float | None]) -> None:
        rows.append((name, [shown(measure(peer)) for peer in peers]))

    def miss_closed(peer: str) -> float | None:
        return small_miss_closed(base, user, repeat) if peer == Ours.name else None

    row("small result, hit in process", lambda peer: small_hit(peer, base, user, repeat))
    row("small result, fresh process: import, open, hit", lambda peer: fresh_hit(peer, base, user, repeat))
    row("small result, miss (ours: durability fsync)", lambda peer: small_miss(peer, base, user, repeat))
    row("small result, miss, durability close", miss_closed)
    row("100 MB array: hash", lambda peer: hashing(peer, base, array, repeat))
    row("100 MB array as result: hit", lambda peer: large_hit(peer, base, user.megabytes, 100, repeat))
    row("100 MB array as argument: hit", lambda peer: argument_hit(peer, base, user, array, repeat))
    row("1e6-row DataFrame: hash", lambda peer: hashing(peer, base, frame, repeat))
    row("1e6-row DataFrame as argument: hit", lambda peer: argument_hit(peer, base, user, frame, repeat))
    row("1e6-row DataFrame as result: hit", lambda peer: large_hit(peer, base, user.table, 1_000_000, repeat))
    text = user.table_with_text(1_000_000)
    row("1e6-row DataFrame with text: hash", lambda peer: hashing(peer, base, text, min(repeat, 3)))
    table("best of " + str(repeat), peers, rows)


def writers(base: Path, count: int = 8, each: int = 500) -> None:
    """Small results published one by one, each waited for, by one process and by several at a time."""
    rows = []
    for durability in ("fsync", "close"):
        rates = []
        for number in (1, count):
            where = tempfile.mkdtemp(prefix="cache-", dir=base)
            rates.append(
                number * each / written_in(_WRITER.format(where=where, each=each, durability=durability), number)
            )
            shutil.rmtree(where)
        rows.append((f"durability {durability}", [f"{rate:,.0f} a second" for rate in rates]))
    table("small results published one by one", ["1 writer", f"{count} writers"], rows)


def written_in(text: str, number: int) -> float:
    """Return the seconds that so many processes take for their work; starting Python is not part of it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", text, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )
        for n in range(number)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    start = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.wait()
    return time.perf_counter() - start


def known_map(base: Path, count: int = 100_000) -> None:
    """``client.map`` over calls that are all known: keys and index in one pass, then their results."""
    home = Path(tempfile.mkdtemp(prefix="map-", dir=base))
    (home / "scalable.yaml").write_text(_MANIFEST)
    (home / "usercode.py").write_text(_USER_MODULE)
    (home / "mapped.py").write_text(_MAPPED)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{home}"}
    command = [sys.executable, "mapped.py", str(count)]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    mapped, gathered = map(float, done.stdout.split())
    table(f"{count:,} known calls", [Ours.name], [("client.map", [shown(mapped)]), ("gather", [shown(gathered)])])
    shutil.rmtree(home)


def many(base: Path, entries: int) -> None:
    """Many small results: ours as bulk, diskcache in one transaction; joblib stores call by call and is left out."""
    import diskcache

    from scalable_hpc.cache.serial import dumps
    from scalable_hpc.cache.store import Store

    keys = [f"{number:064x}" for number in range(entries)]
    where = tempfile.mkdtemp(prefix="cache-", dir=base)
    start = time.perf_counter()
    with Store(where) as store:
        for first in range(0, entries, 1000):
            store.publish_many([(key, dumps(int(key, 16))) for key in keys[first : first + 1000]])
    ours = [time.perf_counter() - start, float(inodes(where))]
    start = time.perf_counter()
    with Store(where) as store:
        assert len(store) == entries
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert None not in store.lookup_many(keys)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert store.fetch(keys[-1]) == entries - 1
        assert all(store.fetch(key, fresh=False) is not None for key in keys[:10_000])
        ours.append((time.perf_counter() - start) / min(entries, 10_000))
    ours.append(memory_of(_OPENED.format(where=where)))
    shutil.rmtree(where)

    where = tempfile.mkdtemp(prefix="cache-", dir=base)
    start = time.perf_counter()
    with diskcache.Cache(where, size_limit=1 << 45, eviction_policy="none") as cache:
        for first in range(0, entries, 1000):
            with cache.transact():
                for key in keys[first : first + 1000]:
                    cache[key] = int(key, 16)
    theirs = [time.perf_counter() - start, float(inodes(where))]
    start = time.perf_counter()
    with diskcache.Cache(where) as cache:
        assert len(cache) == entries
        theirs.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert all(key in cache for key in keys)
        theirs.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert all(cache[key] is not None for key in keys[:10_000])
        theirs.append((time.perf_counter() - start) / min(entries, 10_000))
    theirs.append(memory_of(_OPENED_DISKCACHE.format(where=where)))
    shutil.rmtree(where)

    names = ["store, 1000 at a time", "inodes", "open and count", "look up every key", "read one (mean of 10,000)"]
    rows = []
    for place, name in enumerate(names):
        cells = [f"{each[place]:.0f}" if name == "inodes" else shown(each[place]) for each in (ours, theirs)]
        rows.append((name, cells))
    rows.append(("memory of a fresh process that counts them", [f"{each[5]:.0f} MB" for each in (ours, theirs)]))
    table(f"{entries:,} small results", [Ours.name, Diskcache.name], rows)


def memory_of(text: str) -> float:
    """Return the most megabytes that a fresh process took to run a program."""
    # not getrusage: its peak starts at that of the process that forked
    peak = "\nfor line in open('/proc/self/status'):\n    if 'VmHWM' in line: print(int(line.split()[1]) / 1024)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", text + peak], env=env, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def load_user_code(base: Path) -> Any:
    """Import the functions from a file of the user's, where a cache finds their source."""
    path = base / "usercode.py"
    path.write_text(_USER_MODULE)
    spec = importlib.util.spec_from_file_location("usercode", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["usercode"] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", default="calls,many,writers,map", help="which parts (default: %(default)s)")
    parser.add_argument("--base", type=Path, help="where the caches lie (default: the system's temporary directory)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ["SCALABLE_PATH_SNIFFING"] = "0"  # Scalable reads files that text arguments happen to name
    warnings.simplefilter("error", UserWarning)  # a cache that warns was not used: its figure would be the function's
    base = Path(tempfile.mkdtemp(prefix="cache-bench-", dir=arguments.base))
    try:
        versions = ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in ("joblib", "diskcache", "numpy", "pandas", *(["scalable"] if Scalable in PEERS else []))
        )
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}; load {os.getloadavg()[0]:.1f}")
        measure = {
            "calls": lambda: calls(base, load_user_code(base), arguments.repeat),
            "many": lambda: many(base, arguments.entries),
            "writers": lambda: writers(base),
            "map": lambda: known_map(base),
        }
        for part in arguments.only.split(","):
            measure[part]()
        print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
