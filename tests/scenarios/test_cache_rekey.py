"""The laws of changing the key that seals a cache, as typed, on a cache that other processes filled."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys

import pytest

from scalable_hpc.cache.keyring import VARIABLE
from scalable_hpc.errors import StoreError
from tests.cache_support import ROOT, run_python

COUNT = 24
_FILL = """
import sys
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
for part in range(4):
    with Store(sys.argv[1]) as store:
        numbers = range(part * 6, part * 6 + 6)
        store.publish_many([(f"{n:064x}", dumps(n if n % 6 else bytes(70_000 + n))) for n in numbers])
"""
_MISSED = """
import sys
from scalable_hpc.cache.store import MISSING, Store
found = {}
with Store(sys.argv[1]) as store:
    for n in range(24):
        value = store.fetch(f"{n:064x}")
        assert value is MISSING or value == (n if n % 6 else bytes(70_000 + n)), n
        found[n] = value is not MISSING
print(*(n for n, there in found.items() if not there))
"""
_LIVE = """
import sys
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
with Store(sys.argv[1]) as store:
    store.publish(f"{1000:064x}", dumps("written by the living"))
    print("published", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def key(tmp_path, monkeypatch):
    """A key file of the user's own, by which this process and those that it starts go."""
    path = tmp_path / "keys" / "store.key"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.fixture
def cache(tmp_path, key):
    run_python(_FILL, tmp_path / "cache")
    return tmp_path / "cache"


def rekey(cache, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scalable_hpc.cli", "cache", "rekey", "--cache-dir", cache, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(list(map(str, command)), env=env, stderr=subprocess.PIPE, text=True)


def typed(cache, *words: object) -> tuple[int, str]:
    process = rekey(cache, *words)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def missed(cache) -> list[int]:
    """The results that a new process does not find; a wrong one fails."""
    return [int(word) for word in run_python(_MISSED, cache).split()]


def test_that_a_cache_outlives_its_key(cache, key):
    """A new key on top, everything sealed anew, the old one given up: all is found with the new one alone."""
    (first,) = key.read_text().split()
    code, said = typed(cache)
    assert (code, "1 older ones are still believed" in said, "4 files sealed anew" in said) == (0, True, True), said
    second, *older = key.read_text().split()
    assert typed(cache, "--give-up-old")[0] == 0

    assert (older, key.read_text().split()) == ([first], [second])
    assert second != first
    assert missed(cache) == []
    key.write_text(first + "\n")
    assert missed(cache) == list(range(COUNT))


def test_that_only_what_is_sound_is_sealed_anew(cache, key):
    """A flipped bit, in a pack or in a large result, is taken back with its old seal, not hidden under a new one."""
    pack = min((cache / "v1/packs").glob("*.pack"))
    blob = min((cache / "v1/blobs").glob("*/*"))
    for path in (pack, blob):
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    code, said = typed(cache)

    assert (code, "2 damaged results taken back" in said) == (0, True), said
    assert typed(cache, "--give-up-old")[0] == 0
    assert len(missed(cache)) == 2
    assert len(list((cache / "v1/quarantine").iterdir())) == 2


def test_that_what_a_living_process_writes_keeps_its_key(cache, key):
    """Its file stays, and is named; the old key is not given up before that file is sealed anew, too."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _LIVE, str(cache)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "published\n"
        code, said = typed(cache)
        refused, why = typed(cache, "--give-up-old")
        kept = len(key.read_text().split())
        writer.stdin.close()
    done, _ = typed(cache, "--give-up-old")

    assert (code, "stays: its writer may live" in said) == (0, True)
    assert (refused, "still sealed with an older key" in why, kept) == (StoreError.exit_code, True, 2)
    assert (done, len(key.read_text().split()), missed(cache)) == (0, 1, [])


def test_that_a_key_that_leaked_can_be_refused_at_once(cache, key):
    """Nothing that it sealed is believed any more; all of it is computed again, and nothing is touched."""
    before = sorted(path.name for path in (cache / "v1").rglob("*"))
    (leaked,) = key.read_text().split()

    assert typed(cache, "--refuse-old")[0] == 0
    assert leaked not in key.read_text().split()
    assert missed(cache) == list(range(COUNT))
    assert sorted(path.name for path in (cache / "v1").rglob("*")) == before


def test_that_a_killed_change_of_keys_costs_nothing(cache, key):
    """Killed at any moment, every result is found as before, and the next one ends the work."""
    rng = random.Random(11)
    for _ in range(5):
        process = rekey(cache)
        try:
            process.wait(timeout=rng.uniform(0.1, 0.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()

        assert missed(cache) == []

    assert typed(cache, "--give-up-old", "--quiet-for", "1m")[0] == 0
    assert (missed(cache), len(key.read_text().split())) == ([], 1)


def test_that_without_a_key_there_is_nothing_to_change(tmp_path, key):
    """No key is made for a cache that is not there."""
    code, said = typed(tmp_path / "nothing")

    assert (code, "no result store" in said, key.exists()) == (StoreError.exit_code, True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_that_a_groups_key_stays_the_groups(cache, key, monkeypatch):
    """Who could read the old file can read the new one."""
    monkeypatch.setenv("SCALABLE_HPC_CACHE_GROUP", "54399")
    os.chown(key, -1, 54399)
    key.chmod(0o640)

    assert typed(cache)[0] == 0
    assert (key.stat().st_gid, stat.S_IMODE(key.stat().st_mode)) == (54399, 0o640)
