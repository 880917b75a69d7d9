"""The link and the real worker room together: launcher, courier and slots as the job script starts them."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scalable_hpc.cache.store import Store
from scalable_hpc.cluster.patience import Patience
from scalable_hpc.cluster.verbs import courier_verbs
from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Bundle, WorkerDraining, WorkerGone, WorkerHello
from scalable_hpc.model.tasks import Ending
from tests.cluster_bench import link_bench, polled
from tests.worker_envelopes import Envelopes

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def run_dir(tmp_path):
    run_dir = tmp_path / "run"
    for directory in (run_dir, run_dir / "recorders", run_dir / "logs"):
        directory.mkdir(mode=0o700)
    return run_dir


def launcher_script(run_dir, request):
    command = [
        *(sys.executable, "-m", "scalable_hpc.worker", "--run-dir", str(run_dir), "--allocation", request.name),
        *("--worker-type", request.worker_type, "--slots", "2", "--cpus", "2", "--orphan-grace", "30"),
    ]
    return f"#!/bin/bash\nexport PYTHONPATH={shlex.quote(str(ROOT))}\nexec {shlex.join(command)}\n"


@asynccontextmanager
async def real_bench(run_dir, **options):
    settings = {"render": lambda request: launcher_script(run_dir, request), "verbs": courier_verbs(), **options}
    async with link_bench(run_dir, **{"patience": Patience(), **settings}) as bench:
        bench.envelope = Envelopes(run_dir.parent / "store")
        yield bench


def bundles(*envelopes):
    return [Bundle(f"key-{envelope.attempt}", (envelope,)) for envelope in envelopes]


def note_and_wait(log, release):
    """Write one line per begin, then run until told or killed."""
    with Path(log).open("a") as file:
        file.write("began\n")
    while not Path(release).exists():
        time.sleep(0.02)
    return "over"


def test_that_results_come_back_durable_and_a_killed_courier_loses_no_attempt_twice(run_dir):
    """Receipts with their values; SIGKILL: gone within 2 s, nothing run again by Dask; the launcher brings another."""

    async def story():
        async with real_bench(run_dir) as bench:
            first = await bench.worker()
            quick = [bench.envelope(pow, 2, n) for n in range(20)]
            bench.link.send(first, [Bundle("many", tuple(quick[:10])), *bundles(*quick[10:])])
            await bench.until(lambda: len(bench.heard(AttemptDone)) == 20)
            log, release = run_dir / "log", run_dir / "release"
            slow = bench.envelope(note_and_wait, str(log), str(release))
            bench.link.send(first, bundles(slow))
            await polled(log.exists)
            os.kill(bench.link.workers()[first].pid, signal.SIGKILL)
            killed = time.time()
            await bench.until(lambda: bench.heard(WorkerGone))
            await bench.until(bench.link.workers)
            release.touch()
            (second,) = bench.link.workers()
            bench.link.send(second, bundles(bench.envelope(pow, 3, 3)))
            await bench.until(lambda: len(bench.heard(AttemptDone)) == 21)
            return bench, first, second, bench.heard(WorkerGone)[0].at - killed, log.read_text()

    bench, first, second, noticed_after, log = asyncio.run(story())
    store = Store(run_dir.parent / "store")
    values = [store.load(replace(done.receipt.result, inline=None)) for done in bench.heard(AttemptDone)[:20]]
    store.close()

    assert sorted(values) == [2**n for n in range(20)]
    assert noticed_after < 2
    assert first != second
    assert [hello.name for hello in bench.heard(WorkerHello)] == ["a0001", "a0001"]
    assert log == "began\n"
    assert bench.heard(AttemptEnded) == []


def test_that_a_closed_allocation_reports_what_it_killed_and_ends_well(run_dir):
    """Close with a task running: its end is told before the departure, and the batch job ends with status 0."""

    async def story():
        async with real_bench(run_dir) as bench:
            address = await bench.worker()
            log = run_dir / "log"
            bench.link.send(address, bundles(bench.envelope(note_and_wait, str(log), str(run_dir / "never"))))
            await polled(log.exists)
            began = time.monotonic()
            await bench.link.close("a0001", "the walltime is over")
            took = time.monotonic() - began
            status = await asyncio.to_thread(bench.backend.jobs["1000"].wait, 20)
            return bench.said, took, status

    said, took, status = asyncio.run(story())
    told = [message for message in said if not isinstance(message, WorkerHello)]

    assert [type(message) for message in told if not isinstance(message, WorkerDraining)] == [AttemptEnded, WorkerGone]
    assert told[-1].expected
    assert "the walltime is over" in told[-1].because
    assert took < Patience().retire_s
    assert status == 0


def test_that_cancel_and_drain_reach_the_courier(run_dir):
    """A running attempt ends as cancelled; a drained worker takes nothing more and says so."""

    async def story():
        async with real_bench(run_dir) as bench:
            address = await bench.worker()
            log = run_dir / "log"
            slow = bench.envelope(note_and_wait, str(log), str(run_dir / "never"))
            bench.link.send(address, bundles(slow))
            await polled(log.exists)
            bench.link.cancel_attempts(address, [slow.attempt])
            await bench.until(lambda: bench.heard(AttemptEnded))
            await bench.link.drain("a0001", "enough")
            await bench.until(lambda: bench.heard(WorkerDraining))
            bench.link.send(address, bundles(bench.envelope(pow, 2, 2)))
            await bench.until(lambda: len(bench.heard(AttemptEnded)) == 2)
            return [ended.evidence.ending for ended in bench.heard(AttemptEnded)], bench.heard(AttemptDone)

    endings, done = asyncio.run(story())

    assert endings[0] is Ending.CANCELLED
    assert endings[1] in (Ending.REFUSED, Ending.NEVER_STARTED)
    assert done == []


def test_that_an_allocation_left_behind_joins_the_next_driver(run_dir):
    """A driver that leaves and another that comes: the same worker of the same batch job says hello to both."""

    async def story():
        async with real_bench(run_dir) as before:
            await before.worker()
            await before.link.shutdown(leave_allocations=True)
            async with link_bench(run_dir, verbs=courier_verbs()) as after:
                await after.until(after.link.workers, timeout=40)
                (hello,) = after.link.workers().values()
                return before.heard(WorkerHello)[0], hello, before.backend.jobs["1000"].poll()

    first, second, status = asyncio.run(story())

    assert first.allocation == second.allocation == "a0001"
    assert second.former == (first.address,)
    assert first.pid == second.pid
    assert status is None
