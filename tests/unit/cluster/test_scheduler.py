"""Laws of the driver's own scheduler."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile

import psutil
from distributed import Worker

from scalable_hpc.cluster.dask_settings import in_force
from scalable_hpc.cluster.scheduler import PatientScheduler, StallWatch


def _listening() -> set[int]:
    """Every TCP port that this process listens on."""
    mine = psutil.Process().net_connections(kind="tcp")
    return {each.laddr.port for each in mine if each.status == psutil.CONN_LISTEN}


def test_that_silence_counts_while_the_loop_is_alive():
    """Ticks in time: others' silence is theirs."""
    watch = StallWatch(0.0)
    for second in range(1, 60):
        watch.tick(float(second))

    assert not watch.stalled_lately(60.0)


def test_that_silence_proves_nothing_right_after_a_stall():
    """A stall that nobody ticked through is seen at the very check, and forgiven for a while."""
    watch = StallWatch(0.0)
    watch.tick(1.0)

    assert watch.stalled_lately(40.0)
    assert watch.stalled_lately(41.0)

    for second in range(42, 60):
        watch.tick(float(second))

    assert not watch.stalled_lately(60.0)


def test_that_the_scheduler_listens_on_one_port_only():
    """No web server, whatever the options say; nothing but the scheduler's own port is open."""

    async def story():
        with in_force():
            async with PatientScheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler:
                opened = _listening() - before
                return opened, {scheduler.port}, "scalable-hpc-tick" in scheduler.periodic_callbacks

    before = _listening()
    opened, own, ticks = asyncio.run(story())
    assert opened == own
    assert ticks


def test_that_the_scheduler_touches_no_directory_that_another_user_may_have_made(tmp_path, monkeypatch):
    """Dask's scratch space has the same name for everybody on a host, and the driver would import from it first."""
    anybodys = tmp_path / "dask-scratch-space"
    anybodys.mkdir(mode=0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = list(sys.path)

    async def story():
        with in_force():
            async with PatientScheduler(host="127.0.0.1", port=0) as scheduler:
                return list(sys.path), scheduler.local_directory, os.listdir(anybodys)  # noqa: PTH208

    path, directory, planted = asyncio.run(story())
    assert path == before
    assert directory.startswith(str(tmp_path / "scalable-hpc-scheduler-"))
    assert planted == []
    assert sys.path == before
    assert list(tmp_path.iterdir()) == [anybodys]


def test_that_workers_are_judged_by_ttl_unless_the_loop_stood_still(tmp_path):
    """A worker silent beyond its TTL goes; right after a stall of ours it stays."""

    async def story(stall: float) -> int:
        now = [0.0]
        with in_force():
            async with (
                PatientScheduler(clock=lambda: now[0], host="127.0.0.1", port=0) as scheduler,
                Worker(
                    scheduler.address, nthreads=1, dashboard=False, memory_limit=0, local_directory=tmp_path
                ) as worker,
            ):
                scheduler.workers[worker.address].last_seen -= 1000
                now[0] += stall
                await scheduler.check_worker_ttl()
                return len(scheduler.workers)

    assert asyncio.run(story(stall=0.5)) == 0
    assert asyncio.run(story(stall=40.0)) == 1
