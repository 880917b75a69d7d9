"""The laws of how careful a store is: what was said about verifying and about the disk is what is done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.settings import DURABILITY, VERIFY, CacheSettings, set_settings, settings_here
from scalable_hpc.cache.store import MISSING, Store
from scalable_hpc.errors import StoreError

KEY = "11" * 32
LARGE = 2 << 20


@pytest.fixture(autouse=True)
def _nobody_chose():
    """A run of another test in this process has chosen, and its choice holds."""
    set_settings(None)


@pytest.fixture
def root(tmp_path):
    with Store(tmp_path / "cache") as store:
        store.publish(KEY, dumps(np.full(LARGE, 7, "u1")))
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch):
    """The reads of whole large files, in this process."""
    calls = []
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *arguments: (calls.append(arguments), real(*arguments))[1])
    return calls


def blob(root: Path) -> Path:
    return next(root.glob("v1/blobs/*/*"))


@pytest.mark.parametrize(("how", "times"), [("always", 3), ("once", 1), ("never", 0)])
def test_that_a_large_result_is_verified_as_often_as_was_said(root, read, how, times):
    """``always`` at every read, ``once`` in the process, whichever of its stores reads, ``never`` not at all."""
    for _ in range(3):
        with Store(root, verify=how) as store:
            assert store.fetch(KEY)[0] == 7

    assert len(read) == times


@pytest.mark.parametrize("how", ["always", "once"])
def test_that_a_file_that_changed_is_verified_again(root, how):
    """Once verified is not for ever: another file under the name, or other bytes in it, are looked at again."""
    with Store(root, verify=how) as store:
        assert store.fetch(KEY)[0] == 7
        with blob(root).open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x08")
        assert store.fetch(KEY) is MISSING


def test_that_small_results_are_verified_whatever_was_said(tmp_path):
    """``never`` is for what takes long."""
    with Store(tmp_path, verify="never") as store:
        store.publish(KEY, dumps(1))
        pack = next(tmp_path.glob("v1/packs/*.pack"))
        raw = bytearray(pack.read_bytes())
        raw[-1] ^= 1
        pack.write_bytes(raw)
        assert store.fetch(KEY) is MISSING


def test_that_a_known_small_result_is_a_value_of_its_own_each_time(tmp_path):
    """What a caller does to a result is not seen by the next one, nor is what somebody else took back."""
    with Store(tmp_path) as store, Store(tmp_path) as other:
        store.publish(KEY, dumps([1]))
        store.fetch(KEY).append(2)
        again = store.fetch(KEY)
        other.publish(KEY, dumps([3]), replace=True)
        store.refresh()

        assert (again, store.fetch(KEY)) == ([1], [3])
        other.forget(KEY)
        assert store.fetch(KEY) is MISSING


def test_that_results_only_wait_for_the_disk_where_that_was_said(tmp_path, monkeypatch):
    """With ``close`` nothing is fsynced once the store is there."""
    calls = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(descriptor), fsync(descriptor)))
    monkeypatch.setenv(DURABILITY, "close")
    with Store(tmp_path / "c") as store:
        calls.clear()
        store.publish_many([(KEY, dumps(1)), ("22" * 32, dumps(np.zeros(LARGE)))])
        assert calls == []
    with Store(tmp_path / "c", durability="fsync") as store:
        store.publish("33" * 32, dumps(1))
        assert calls


def test_that_the_environment_speaks_where_nobody_else_does(monkeypatch):
    """A worker is told by its environment; a driver's manifest wins."""
    monkeypatch.setenv(VERIFY, "always")
    told = settings_here()
    set_settings(CacheSettings(verify="never"))
    try:
        chosen = settings_here()
    finally:
        set_settings(None)

    assert (told, chosen) == (CacheSettings("fsync", "always"), CacheSettings("fsync", "never"))


@pytest.mark.parametrize(("variable", "value"), [(VERIFY, "sometimes"), (DURABILITY, "maybe")])
def test_that_a_word_that_is_none_of_them_is_refused(tmp_path, monkeypatch, variable, value):
    """The error says which words there are."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(StoreError, match=f"must be one of .*, not '{value}'"):
        Store(tmp_path)
