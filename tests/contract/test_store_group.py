"""The laws of a cache that a group shares: its members are trusted, and nobody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from scalable_hpc.cache.keyring import VARIABLE
from scalable_hpc.cache.layout import GROUP
from tests.cache_support import ROOT

TEAM, ALICE, BOB = 54321, 12301, 12302
_PROGRAM = """
    import grp, os, sys
    import numpy as np
    from scalable_hpc.cache.serial import dumps, loads
    from scalable_hpc.cache.store import MISSING, Store
    me = int(sys.argv[2])
    loads(dumps(np.ones(3)))  # what is imported late, before it may not be read any more
    os.umask(0o077)
    os.setgroups([int(sys.argv[3])])
    os.setgid(me)
    os.setuid(me)
    with Store(sys.argv[1]) as store:
        for number in (1, 2):
            value = store.fetch(f"{number:064x}")
            print("none" if value is MISSING else int(value[0]))
        store.publish(f"{1:064x}", dumps(np.full(3, me)))
        store.publish(f"{2:064x}", dumps(np.full(300_000, me)))
        store.publish(f"{me:064x}", dumps(np.full(300_000, me)), replace=True)
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


@pytest.fixture
def place():
    """A directory of the team's, as an administrator makes it, with a key of the team's."""
    base = Path(tempfile.mkdtemp(prefix="shpc-team-"))
    base.chmod(0o755)
    (base / "cache").mkdir()
    os.chown(base / "cache", -1, TEAM)
    (base / "cache").chmod(0o2770)
    (base / "store.key").touch()
    (base / "store.key").write_text("ab" * 32 + "\n")
    os.chown(base / "store.key", -1, TEAM)
    (base / "store.key").chmod(0o640)
    yield base
    shutil.rmtree(base)


def act(user: int, place: Path, *, trusted: str = str(TEAM)) -> subprocess.CompletedProcess:
    """Look for two results as a user of the team, and publish what is not there."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: str(place / "store.key"), GROUP: trusted}
    command = [sys.executable, "-c", textwrap.dedent(_PROGRAM), place / "cache", str(user), str(TEAM)]
    return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True)


def test_that_members_of_a_trusted_group_share_results(place):
    """What one keeps the other finds, small and large, whatever their umasks, and each adds to it."""
    first, second, third = act(ALICE, place), act(BOB, place), act(ALICE, place)

    assert [done.returncode for done in (first, second, third)] == [0, 0, 0], second.stderr
    assert first.stdout.split() == ["none", "none"]
    assert second.stdout.split() == third.stdout.split() == [str(ALICE)] * 2


def test_that_only_the_declared_group_is_trusted(place):
    """Without the declaration a member's files are another user's, and so is the key."""
    assert act(ALICE, place).returncode == 0
    alone = act(BOB, place, trusted="")

    assert alone.returncode != 0
    assert "belongs to user id" in alone.stderr


def test_that_a_group_that_is_not_there_is_an_error(place):
    """The message names it."""
    assert "there is no group 'nobody-has-this'" in act(ALICE, place, trusted="nobody-has-this").stderr


def test_that_a_groups_key_is_the_groups_alone(place):
    """A key that everybody can read, or the whole group can write, is refused."""
    for mode in (0o644, 0o660):
        (place / "store.key").chmod(mode)
        assert f"(mode {mode:04o})" in act(ALICE, place).stderr
