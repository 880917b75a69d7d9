"""Laws of the file that holds the user's keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scalable_hpc.cache.keyring import VARIABLE, key_path, keys_here, share_keys
from scalable_hpc.cache.store import Store
from scalable_hpc.errors import StoreError
from tests.cache_support import ROOT, run_python

OTHER_USER = 12345
_ALONE = """
import sys
from scalable_hpc.cache.keyring import keys_here
sys.stdin.read(1)
print([key.hex() for key in keys_here(create=True).all])
"""


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A place for a key that no test has used."""
    path = tmp_path / "config" / "store.key"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_that_a_key_is_made_once_and_is_the_users_alone(where):
    """The first who needs it makes it, 0600; from then on it stays."""
    first = keys_here(create=True).all
    text = where.read_text()

    assert (keys_here(create=True).all, where.read_text()) == (first, text)
    assert (len(first[0]), where.stat().st_mode & 0o777, where.parent.stat().st_mode & 0o777) == (32, 0o600, 0o700)
    assert [path.name for path in where.parent.iterdir()] == ["store.key"]


def test_that_processes_that_need_a_key_at_once_get_one(where):
    """Eight that find none at the same moment all seal with the same."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _ALONE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    makers = [subprocess.Popen(command, env=environ, **pipes) for _ in range(8)]
    for maker in makers:
        maker.stdin.write("x")
        maker.stdin.flush()
    found = {maker.communicate(timeout=60)[0] for maker in makers}

    assert found == {f"{[where.read_text().strip()]}\n"}


def test_that_reading_makes_no_key(where, tmp_path):
    """Importing, decorating, and opening a store that is there to look at it, leave the user's home alone."""
    program = """
        import sys
        import scalable_hpc
        from scalable_hpc.cache.store import Store
        @scalable_hpc.cacheable
        def double(x):
            return 2 * x
        with Store(sys.argv[1], create=False) as store:
            print(len(store))
    """
    Store(tmp_path / "cache").close()
    where.unlink()

    assert run_python(program, tmp_path / "cache") == "0"
    assert not where.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_that_a_key_that_is_open_to_others_is_refused(where, mode):
    """Whoever could read it could seal what they like: the error says how to close it."""
    where.parent.mkdir()
    where.write_text("ab" * 32 + "\n")
    where.chmod(mode)

    with pytest.raises(StoreError, match=f"mode {mode:04o}.*\n\nhint: chmod 600 {where}"):
        keys_here(create=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_that_another_users_key_is_refused(where):
    """Its owner could have written the records, too."""
    where.parent.mkdir()
    where.write_text("ab" * 32 + "\n")
    where.chmod(0o600)
    os.chown(where, OTHER_USER, OTHER_USER)

    with pytest.raises(StoreError, match=f"user id {OTHER_USER}"):
        keys_here(create=True)


@pytest.mark.parametrize("text", ["", "ab" * 31 + "\n", "xy" * 32 + "\n", "ab" * 32])
def test_that_a_damaged_key_is_not_replaced(where, text):
    """Another key in its place would make every result unknown: a person must say so."""
    where.parent.mkdir()
    where.touch(mode=0o600)
    where.write_text(text)

    with pytest.raises(StoreError, match="not a key of a result store"):
        keys_here(create=True)
    assert where.read_text() == text


def test_that_a_place_where_no_key_can_be_made_is_an_error_with_a_hint(tmp_path, monkeypatch):
    """A home that cannot be written to says which variable to set."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "store.key"))

    with pytest.raises(StoreError, match=VARIABLE):
        keys_here(create=True)


def test_that_the_key_lies_in_the_users_configuration(monkeypatch):
    """The variable wins, then XDG, then the home directory; without any it is an error."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    at_home = key_path()
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/mine")

    assert (at_home, key_path()) == (
        Path("/home/me/.config/scalable_hpc/store.key"),
        Path("/etc/mine/scalable_hpc/store.key"),
    )
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreError, match="HOME is not set"):
        key_path()


def test_that_a_runs_keys_are_the_users_and_those_it_had(where, tmp_path):
    """Whoever takes a run up again believes what its workers sealed, and its workers what they seal from now on."""
    shared = tmp_path / "run.key"
    shared.touch(mode=0o600)
    shared.write_text("cd" * 32 + "\n")

    share_keys(shared)

    mine = where.read_text()
    assert shared.read_text() == mine + "cd" * 32 + "\n"
    assert bytes.fromhex("cd" * 32) in keys_here(create=False).all
    assert shared.stat().st_mode & 0o777 == 0o600
