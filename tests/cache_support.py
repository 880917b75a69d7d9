"""What the tests of the cache share: modules made of text, other processes, strategies of values."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.records import ENTRY_SIZE, Entry, entry_at, pack_entry
from scalable_hpc.cache.seal import Keys

TEST_KEYS = Keys([b"k" * 32])
"""For indexes that are made in memory."""
ROOT = Path(__file__).resolve().parent.parent
_versions = itertools.count()


def load_module(folder: Path, source: str, name: str = "usercode") -> ModuleType:
    """Import text as a module of the user's; a later text under the same name is a new version of it."""
    home = folder / f"version-{next(_versions)}"
    home.mkdir()
    path = home / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_python(source: str, *args: object, hash_seed: int = 0, check: bool = True, **env: str) -> str:
    """Run text as a program in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


_SERVER = """
import pickle, struct, sys
from tests.cache_support import by_name
from scalable_hpc.cache.encode import digest
source, sink = sys.stdin.buffer, sys.stdout.buffer
while True:
    (size,) = struct.unpack("<Q", source.read(8))
    sink.write(digest(pickle.loads(source.read(size)), by_name))
    sink.flush()
"""


class DigestProcess:
    """Another Python process, with a hash seed of its own, that says what a value's digest is there."""

    def __init__(self, hash_seed: int) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def digest(self, value: object) -> bytes:
        raw = pickle.dumps(value)
        self._process.stdin.write(struct.pack("<Q", len(raw)) + raw)
        self._process.stdin.flush()
        return self._process.stdout.read(32)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def by_name(code: object) -> bytes:
    """Identify functions and classes by their names alone, where their code is not what is tested."""
    return f"{code.__module__}.{code.__qualname__}".encode()


def rewrite_entries(path: Path, change: Callable[[Entry], Entry]) -> None:
    """Rewrite a writer's index, as its owner could."""
    raw, seal = path.read_bytes(), keys_here(create=False).seal(path.stem)
    entries = [entry_at(raw, ordinal) for ordinal in range(len(raw) // ENTRY_SIZE)]
    path.write_bytes(b"".join(pack_entry(change(entry), seal) for entry in entries))
