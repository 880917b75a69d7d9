"""Laws of the memo of input files: it may forget, and it is never wrong."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.cache.stat_memo import FULL, StatMemo, packed, unpacked
from tests.cache_support import run_python


def mark(number: int) -> bytes:
    return number.to_bytes(32, "little")


def digest(number: int) -> bytes:
    return random.Random(number).randbytes(32)


def known(folder, count):
    """Return which of the first ``count`` marks a process that starts now knows; none of them wrongly."""
    memo = StatMemo(folder)
    found = {number: memo.recall(mark(number)) for number in range(count)}
    assert all(value in {None, digest(number)} for number, value in found.items())
    return [number for number, value in found.items() if value is not None]


def test_that_what_one_process_remembers_others_recall(tmp_path):
    """Also those that had looked before."""
    one, other = StatMemo(tmp_path / "memo"), StatMemo(tmp_path / "memo")
    assert other.recall(mark(1)) is None
    one.remember(mark(1), digest(1))
    assert other.recall(mark(1)) == digest(1)
    one.remember(mark(2), digest(2))

    assert other.recall(mark(2)) == digest(2)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "memo", *(tmp_path / "memo").iterdir())] == [
        0o700,
        0o600,
    ]


def test_that_the_processes_of_a_host_share_one_file(tmp_path):
    """Eight of them at once lose nothing, and take one inode."""
    program = """
        import os, sys
        from pathlib import Path
        from scalable_hpc.cache.stat_memo import StatMemo
        from tests.unit.cache.test_stat_memo import digest, mark
        for process in range(8):
            if os.fork() == 0:
                memo = StatMemo(Path(sys.argv[1]))
                for number in range(process, 800, 8):
                    memo.remember(mark(number), digest(number))
                os._exit(0)
        for _ in range(8):
            os.wait()
    """
    run_python(program, tmp_path)

    assert known(tmp_path, 800) == list(range(800))
    assert len(list(tmp_path.iterdir())) == 1


def test_that_a_torn_record_hides_only_itself(tmp_path):
    """What is appended after a write that was never finished is found."""
    memo = StatMemo(tmp_path)
    for number in range(4):
        memo.remember(mark(number), digest(number))
        path = next(tmp_path.iterdir())
        if number == 1:
            os.truncate(path, path.stat().st_size - 17)

    assert known(tmp_path, 4) == [0, 2, 3]
    assert memo.recall(mark(1)) == digest(1)


@given(st.integers(0, 10 * 80 - 1), st.integers(0, 7), st.integers(0, 10 * 80), st.binary(max_size=100))
def test_that_damage_never_makes_a_digest(place, bit, end, noise):
    """A flipped bit, a cut and noise in the middle each cost what they hit, and invent nothing."""
    raw = bytearray(b"".join(packed(mark(number), digest(number)) for number in range(10)))
    raw[place] ^= 1 << bit
    found, taken = unpacked(bytes(raw[:end]) + noise + bytes(raw))
    sound = {mark(number): digest(number) for number in range(10) if number != place // 80}

    assert sound.items() <= found.items()
    assert set(found) <= set(sound)
    assert taken <= end + len(noise) + len(raw)


def test_that_a_full_file_makes_room_and_stays_readable(tmp_path):
    """A memo never outgrows two files a host; the earlier one is still known."""
    memo = StatMemo(tmp_path)
    memo.remember(mark(1), digest(1))
    path = next(tmp_path.iterdir())
    os.truncate(path, FULL - 10)
    memo.remember(mark(2), digest(2))
    memo.remember(mark(3), digest(3))

    assert len(list(tmp_path.iterdir())) == 2
    assert known(tmp_path, 4) == [1, 2, 3]


def test_that_a_memo_that_cannot_be_written_is_no_trouble(tmp_path):
    """A folder that is no folder: nothing is raised, and this process still remembers."""
    (tmp_path / "memo").write_text("")
    memo = StatMemo(tmp_path / "memo")
    memo.remember(mark(1), digest(1))

    assert memo.recall(mark(1)) == digest(1)
    assert memo.recall(mark(2)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_that_another_users_memo_is_not_believed(tmp_path):
    """Who could write digests could choose which results are found."""
    StatMemo(tmp_path).remember(mark(1), digest(1))
    os.chown(next(tmp_path.iterdir()), 12345, 12345)

    assert known(tmp_path, 2) == []
