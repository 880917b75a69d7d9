"""The cache's verbs, as typed, on a cache that other processes filled, and killed in the middle."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scalable_hpc.cli import main
from tests.cache_support import ROOT, run_python

COUNT = 60
_FILL = """
import sys
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
for part in range(12):
    with Store(sys.argv[1]) as store:
        numbers = range(part * 5, part * 5 + 5)
        store.publish_many([(f"{n:064x}", dumps(n if n % 10 else bytes(70_000 + n))) for n in numbers])
"""
_READ = """
import sys
from scalable_hpc.cache.store import Store
with Store(sys.argv[1]) as store:
    wrong = [n for n in range(60) if store.fetch(f"{n:064x}") != (n if n % 10 else bytes(70_000 + n))]
print(wrong)
"""
_READ_ON = """
import sys
from scalable_hpc.cache.store import Store
print("reading", flush=True)
keys = [f"{n:064x}" for n in range(60)]
while True:
    with Store(sys.argv[1]) as store:
        for n, key in enumerate(keys):
            value = store.fetch(key)
            assert value == (n if n % 10 else bytes(70_000 + n)), (n, value)
"""
_WRITE_ON = """
import sys
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import MISSING, Store
print("writing", flush=True)
with Store(sys.argv[1]) as store:
    for n in range(1_000_000, 2_000_000):
        store.publish(f"{n:064x}", dumps(n))
        assert store.fetch(f"{n:064x}") == n
        print(n, flush=True)
"""
_GC = """
import sys
import scalable_hpc.cache.upkeep
from scalable_hpc.cli import main
print("ready", flush=True)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def cache(tmp_path):
    """A cache that a process that has ended filled, through a dozen files."""
    run_python(_FILL, tmp_path / "cache")
    return tmp_path / "cache"


def typed(capsys, *words: object) -> tuple[int, str, str]:
    code = main(["cache", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def python(source: str, *args: object) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", source, *map(str, args)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_that_ls_stats_and_show_say_what_is_there(cache, capsys):
    """Every result is listed, counted, and shown by the first digits of its key."""
    _, listed, _ = typed(capsys, "ls", "--format", "json", "--cache-dir", cache)
    _, counted, _ = typed(capsys, "stats", "--format", "json", "--cache-dir", cache)
    blob = next(each for each in json.loads(listed) if each["kind"] == "blob")
    _, shown, _ = typed(capsys, "show", blob["key"], "--cache-dir", cache)

    assert {each["key"] for each in json.loads(listed)} == {f"{number:064x}" for number in range(COUNT)}
    assert json.loads(counted)["entries"] == COUNT
    assert json.loads(counted)["inodes"] == len(list((cache / "v1").rglob("*"))) + 1
    assert blob["digest"] in shown
    assert "sound" in shown


def test_that_data_goes_to_stdout_and_talk_to_stderr(cache, capsys):
    """A listing has one line a result and nothing else."""
    _, out, err = typed(capsys, "ls", "--cache-dir", cache)

    assert (len(out.splitlines()), err) == (COUNT, f"{COUNT} results\n")


def test_that_the_environment_names_the_cache(cache):
    """Without --cache-dir the verbs look where @cacheable does."""
    command = [sys.executable, "-m", "scalable_hpc.cli", "cache", "stats", "--format", "json"]

    for name in ("SCALABLE_HPC_CACHE_DIR", "SCALABLE_CACHE_DIR"):
        said = subprocess.run(command, capture_output=True, text=True, env={**os.environ, name: str(cache)}, cwd=ROOT)
        assert json.loads(said.stdout)["root"] == str(cache), said.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("show", "12"),
        ("show", "0000"),
        ("show", "ffff0"),
        ("rm", "ffff0"),
        ("export", "x.tar", "ffff0"),
        ("import", "no.tar"),
    ],
)
def test_that_a_wrong_name_is_an_error_in_words(cache, capsys, tmp_path, monkeypatch, words):
    """Too few digits, several keys, no key, no file: exit 28, nothing on stdout, nothing made."""
    monkeypatch.chdir(tmp_path)

    code, out, err = typed(capsys, *words, "--cache-dir", cache)

    assert (code, out) == (28, "")
    assert err.startswith("scalable-hpc: ")
    assert not (tmp_path / "x.tar").exists()


def test_that_a_cache_that_is_not_there_is_not_made(capsys, tmp_path):
    """Looking at nothing says so and leaves nothing behind."""
    code, _, err = typed(capsys, "stats", "--cache-dir", tmp_path / "none")

    assert (code, list(tmp_path.iterdir())) == (28, [])
    assert "no result store" in err


def test_that_verify_says_what_is_damaged_and_repair_ends_it(cache, capsys):
    """28 while something is damaged, 0 once it was repaired; the other results stay."""
    blob = min((cache / "v1/blobs").glob("*/*"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")

    first = typed(capsys, "verify", "--cache-dir", cache)
    repaired = typed(capsys, "verify", "--repair", "--cache-dir", cache)
    last = typed(capsys, "verify", "--format", "json", "--cache-dir", cache)

    assert (first[0], repaired[0], last[0]) == (28, 0, 0)
    assert blob.name in first[1]
    assert json.loads(last[1]) == []
    assert json.loads(typed(capsys, "stats", "--format", "json", "--cache-dir", cache)[1])["entries"] == COUNT - 1


def test_that_results_that_were_removed_are_gone_and_can_be_imported_again(cache, capsys, tmp_path):
    """export, rm, gc, import: the same results as before."""
    archive = tmp_path / "results.tar"
    keys = [f"{number:064x}" for number in range(10)]

    assert typed(capsys, "export", archive, *keys, "--cache-dir", cache)[0] == 0
    assert typed(capsys, "rm", *keys, "--cache-dir", cache)[1].split() == keys
    assert typed(capsys, "gc", "--cache-dir", cache)[0] == 0
    assert run_python(_READ, cache) == str(list(range(10)))
    assert typed(capsys, "import", archive, "--cache-dir", cache)[0] == 0
    assert run_python(_READ, cache) == "[]"


def test_that_a_dry_run_says_the_same_and_does_nothing(cache, capsys):
    """The plan that is printed is the one that is carried out."""
    before = sorted(cache.rglob("*"))

    _, planned, _ = typed(capsys, "gc", "--larger-than", "1K", "--dry-run", "--format", "json", "--cache-dir", cache)
    assert sorted(cache.rglob("*")) == before
    _, done, _ = typed(capsys, "gc", "--larger-than", "1K", "--format", "json", "--cache-dir", cache)

    planned, done = json.loads(planned), json.loads(done)
    assert (planned.pop("done"), done.pop("done")["evicted"]) == (None, 6)
    assert planned == done
    assert run_python(_READ, cache) == str(list(range(0, COUNT, 10)))


def test_that_gc_alone_evicts_nothing(cache, capsys):
    """A dozen files become one, and every result is still there."""
    assert typed(capsys, "gc", "--cache-dir", cache)[0] == 0

    assert len(list((cache / "v1/packs").glob("*.pack"))) == 1
    assert run_python(_READ, cache) == "[]"


def test_that_gc_does_no_harm_to_readers_and_writers(cache):
    """While results are read and written all the time, upkeep rewrites everything: nobody reads anything wrong."""
    reader, writer = python(_READ_ON, cache), python(_WRITE_ON, cache)
    try:
        assert reader.stdout.readline() == "reading\n"
        assert writer.stdout.readline() == "writing\n"
        for turn in range(2, 6):
            part = f"part * 5 + {turn}000"
            run_python(_FILL.replace("part * 5, part * 5", f"{part}, {part}"), cache)
            run_python(_GC, "cache", "gc", "--cache-dir", cache)
        states = [reader.poll(), writer.poll()]
    finally:
        for process in (reader, writer):
            process.kill()
    (_, of_reader), (told, of_writer) = reader.communicate(), writer.communicate()
    published = [int(line) for line in told.splitlines(keepends=True) if line.endswith("\n")]

    assert states == [None, None], of_reader + of_writer
    assert run_python(_READ, cache) == "[]"
    found = run_python(
        "import sys; from scalable_hpc.cache.store import Store\n"
        "with Store(sys.argv[1]) as s: print(sum(s.lookup(f'{n:064x}') is None for n in map(int, sys.argv[2:])))",
        cache,
        *published[:500],
    )
    assert found == "0"


def test_that_a_killed_gc_costs_nothing(cache, tmp_path):
    """Killed at any moment, upkeep leaves every result where it can be found, and the next one ends the work."""
    rng = random.Random(7)
    for _ in range(8):
        process = python(_GC, "cache", "gc", "--cache-dir", cache)
        process.stdout.readline()
        try:
            process.wait(timeout=rng.uniform(0.0, 0.06))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()

        assert run_python(_READ, cache) == "[]"

    assert main(["cache", "verify", "--cache-dir", str(cache)]) == 0
    assert Path(cache, "v1/packs").is_dir()
