"""What a living driver puts down of why tasks wait, and who may believe it."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.lineage.lanes import LaneKey, lane_key
from scalable_hpc.lineage.lease import HEARTBEAT_NAME, Lease
from scalable_hpc.lineage.reasons import from_text, reasons, to_text
from scalable_hpc.lineage.replay import replay
from scalable_hpc.lineage.waiting import NAME, keep_telling, read_reasons
from tests.unit.lineage.support import submitted

T = TypeVar("T")
NUMBERS = st.none() | st.integers(0, 9)
KEYS = st.builds(
    LaneKey,
    st.text(max_size=5),
    st.none() | st.just("big"),
    st.integers(0, 9),
    st.integers(0, 9),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
)


@given(st.dictionaries(KEYS, st.text(), max_size=5), st.dictionaries(st.text(), st.text(), max_size=3))
def test_that_reasons_come_back_as_they_were_put_down(unplaced, fleet):
    """Whatever the names are; what needs results that workers hold is told of with its likes."""
    told = reasons(17, 3.5, unplaced, fleet)

    assert from_text(to_text(told)) == told
    assert all(key.holders == () for key in told.lanes)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": 2}', '{"format": 1, "lanes": [{}], "fleet": {}}'])
def test_that_what_is_damaged_or_of_another_version_says_nothing(text):
    """A reader never fails over it."""
    assert from_text(text) is None


def test_that_a_task_finds_the_reason_of_its_kind():
    """By what it asks for, as the driver's own queue does."""
    record = replay([submitted("a")]).tasks["a"]
    told = reasons(1, 0.0, {lane_key(record): "no slot is free"}, {})

    assert told.of(record) == "no slot is free"
    assert reasons(1, 0.0, {}, {}).of(record) == ""


async def until(condition: Callable[[], T]) -> T:
    """Let the loop go on until something is so; whoever calls has a time limit of its own."""
    while not (found := condition()):  # noqa: ASYNC110 - what is waited for is a file
        await asyncio.sleep(0.01)
    return found


def test_that_reasons_are_there_while_their_driver_lives_and_gone_with_it(tmp_path):
    """They are the owner's alone; a driver that has nothing to tell writes nothing; one that was killed is not
    believed any more."""
    record = replay([submitted("a")]).tasks["a"]
    lanes: dict[LaneKey, str] = {}
    lease = Lease.take(tmp_path)

    async def tell() -> None:
        telling = asyncio.ensure_future(keep_telling(tmp_path, lambda: (lanes, {"big": "it pauses"}), every_s=0.01))
        await until(lambda: read_reasons(tmp_path, time.time()))
        lanes[lane_key(record)] = "no slot is free"
        told = await until(lambda: (found := read_reasons(tmp_path, time.time())) and found.lanes and found)
        assert told.of(record) == "no slot is free"
        assert told.fleet == {"big": "it pauses"}
        assert told.pid == os.getpid()
        assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600

        kept = (tmp_path / HEARTBEAT_NAME).read_text()
        (tmp_path / HEARTBEAT_NAME).write_text(kept.replace(f'"pid": {os.getpid()}', '"pid": 4194304'))
        assert read_reasons(tmp_path, time.time()) is None, "its driver is dead"
        (tmp_path / HEARTBEAT_NAME).write_text(kept)
        telling.cancel()
        await asyncio.wait({telling})

    asyncio.run(asyncio.wait_for(tell(), 30))
    lease.release()
    assert not (tmp_path / NAME).exists()


def test_that_a_driver_with_nothing_to_tell_writes_nothing(tmp_path):
    """A run that never waits costs its file system nothing."""

    async def tell() -> int:
        looks = 0

        def look() -> tuple[dict[LaneKey, str], dict[str, str]]:
            nonlocal looks
            looks += 1
            return {}, {}

        telling = asyncio.ensure_future(keep_telling(tmp_path, look, every_s=0.001))
        await until(lambda: looks > 2)
        assert list(tmp_path.iterdir()) == []
        telling.cancel()
        await asyncio.wait({telling})
        return looks

    assert asyncio.run(asyncio.wait_for(tell(), 30)) >= 3
