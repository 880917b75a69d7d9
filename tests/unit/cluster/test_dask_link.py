"""Laws of the Dask link, tried with real scheduler, real worker processes and a batch system of plain processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from scalable_hpc.cluster.dask_link import DaskLink
from scalable_hpc.errors import BatchSilent, PartitionRefused, RunDirectoryError, SiteError, SubmissionDeferred
from scalable_hpc.model.messages import AttemptDone, AttemptEnded, WorkerDraining, WorkerGone, WorkerHello
from scalable_hpc.model.tasks import AttemptId, Ending
from tests.cluster_bench import STANDIN_VERBS, link_bench, polled, request
from tests.cluster_standin import ProcessBackend, Unreadable, bundle_of

# Where connections are broken on purpose, tornado forgets a socket here and there.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _forgotten_sockets_stay_here():
    """Have them collected in this module's tests and not in another's."""
    yield
    gc.collect()


@pytest.fixture
def run_dir(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


def test_that_a_sent_attempt_is_reported_and_its_key_leaves_dask(run_dir):
    """Open, hello, send, receipt; then the scheduler holds no key any more."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker()
            bench.link.send(address, [bundle_of("k1", "done"), bundle_of("k2", "done", "exception")])
            await bench.until(lambda: len(bench.heard(AttemptDone)) == 2 and bench.heard(AttemptEnded))
            await settled(bench)
            return bench.heard(WorkerHello), bench.heard(AttemptEnded), await tasks_in_scheduler(bench)

    hellos, ended, keys = asyncio.run(story())

    assert [hello.allocation for hello in hellos] == ["a0001"]
    assert [(e.evidence.attempt, e.evidence.ending) for e in ended] == [(AttemptId("k2-t1", 1), Ending.EXCEPTION)]
    assert keys == []


async def settled(bench):
    """Give Dask the moments it needs to forget released keys."""
    for _ in range(100):
        if not await tasks_in_scheduler(bench):
            return
        await asyncio.sleep(0.02)


async def tasks_in_scheduler(bench):
    """Ask the scheduler, through a client of its own, which keys it knows."""

    def ask():
        with bench.link.plain_client() as client:
            return client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.tasks))

    return await asyncio.to_thread(ask)


def test_that_a_killed_worker_is_told_within_two_seconds_and_runs_nowhere_else(run_dir):
    """SIGKILL of a worker: one WorkerGone, its keys forgotten although another worker is idle."""

    async def story():
        async with link_bench(run_dir) as bench:
            doomed = await bench.worker("a0001")
            await bench.worker("a0002")
            pid = bench.link.workers()[doomed].pid
            bench.link.send(doomed, [bundle_of(f"k{n}", "hang") for n in range(4)])
            await polled(lambda: len(bench.executed()) == 2)
            os.kill(pid, signal.SIGKILL)
            killed = time.time()
            await bench.until(lambda: bench.heard(WorkerGone), timeout=2)
            await settled(bench)
            return bench, doomed, killed, await tasks_in_scheduler(bench), list(bench.link.workers())

    bench, doomed, killed, keys, left = asyncio.run(story())
    gone = bench.heard(WorkerGone)[0]

    assert gone.address == doomed
    assert not gone.expected
    assert gone.at - killed < 2
    assert "connection" in gone.because
    assert sorted(bench.executed()) == ["k0-t0.1", "k1-t0.1"]
    assert keys == []
    assert doomed not in left
    assert bench.heard(AttemptEnded) == []


def test_that_receipts_come_before_the_news_that_their_worker_died(run_dir):
    """What a worker said before it died is heard before its death."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker()
            bench.link.send(address, [bundle_of("k", *["done"] * 50, "crash")])
            await bench.until(lambda: bench.heard(WorkerGone))
            return [type(message) for message in bench.said]

    said = asyncio.run(story())

    assert said[-1] is WorkerGone


def test_that_an_attempt_for_a_departed_worker_comes_back_unstarted(run_dir):
    """Sending to an address that nobody has is answered, later and attempt by attempt."""

    async def story():
        async with link_bench(run_dir) as bench:
            bench.link.send("tls://127.0.0.1:1", [bundle_of("k", "done", "done")])
            heard_at_once = list(bench.said)
            await bench.until(lambda: len(bench.heard(AttemptEnded)) == 2)
            return heard_at_once, bench.heard(AttemptEnded)

    heard_at_once, ended = asyncio.run(story())

    assert heard_at_once == []
    assert {e.evidence.ending for e in ended} == {Ending.NEVER_STARTED}


@pytest.mark.parametrize(
    ("order", "type_name"), [("raise", "builtins.LookupError"), ("silent", None)], ids=["raises", "says nothing"]
)
def test_that_a_carrier_without_a_word_does_not_lose_its_attempt(run_dir, order, type_name):
    """A carrier that fails, or returns without a report, ends its attempts as refused."""

    async def story():
        async with link_bench(run_dir) as bench:
            bench.link.send(await bench.worker(), [bundle_of("k", order)])
            await bench.until(lambda: bench.heard(AttemptEnded))
            return bench.heard(AttemptEnded)

    (ended,) = asyncio.run(story())

    assert ended.evidence.ending is Ending.REFUSED
    assert (ended.evidence.exception and ended.evidence.exception.type_name) == type_name


def test_that_a_bundle_that_cannot_be_read_over_there_is_refused(run_dir):
    """What explodes when the worker unpickles it comes back as evidence with the exception."""

    async def story():
        async with link_bench(run_dir) as bench:
            bundle = bundle_of("k", "done")
            object.__setattr__(bundle.envelopes[0], "name", Unreadable())
            bench.link.send(await bench.worker(), [bundle])
            await bench.until(lambda: bench.heard(AttemptEnded))
            return bench.heard(AttemptEnded)

    (ended,) = asyncio.run(story())

    assert ended.evidence.ending is Ending.REFUSED
    assert "cannot be read over here" in ended.evidence.exception.message


def test_that_a_closed_allocation_was_expected_and_its_job_is_cancelled(run_dir):
    """Close: the worker leaves because we asked, then the batch job is cancelled, once."""

    async def story():
        async with link_bench(run_dir) as bench:
            await bench.worker()
            await bench.link.close("a0001", "nothing left to do")
            return bench.heard(WorkerGone), list(bench.backend.cancelled)

    (gone,), cancelled = asyncio.run(story())

    assert gone.expected
    assert "nothing left to do" in gone.because
    assert cancelled == [("1000",)]


def test_that_closing_again_cancels_again(run_dir):
    """A cancel that the batch system did not take is tried again by the next close, and raises nothing."""

    async def story():
        async with link_bench(run_dir) as bench:
            await bench.link.open(request("a0001"))
            bench.backend.refuse_cancel = [BatchSilent("no answer")]
            await bench.link.close("a0001", "first")
            before = list(bench.backend.cancelled)
            await bench.link.close("a0001", "second")
            return before, bench.backend.cancelled

    before, after = asyncio.run(story())

    assert before == []
    assert after == [("1000",)]


@pytest.mark.parametrize(
    "error", [PartitionRefused("no such partition"), SubmissionDeferred("later"), BatchSilent("?")]
)
def test_that_a_refused_submission_leaves_no_phantom(run_dir, error):
    """The backend's error reaches the caller; the next allocation is submitted once and nothing is resubmitted."""

    async def story():
        async with link_bench(run_dir) as bench:
            bench.backend.refuse_with = [error]
            with pytest.raises(type(error)) as caught:
                await bench.link.open(request("a0001"))
            job_id = await bench.link.open(request("a0002"))
            await bench.link.close("a0001", "never was")
            return caught.value, job_id, len(bench.backend.jobs)

    raised, job_id, jobs = asyncio.run(story())

    assert raised is error
    assert (job_id, jobs) == ("1000", 1)


def test_that_one_refusal_does_not_hide_submissions_beside_it(run_dir):
    """Of several allocations opened at once only the refused one fails."""

    async def story():
        async with link_bench(run_dir) as bench:
            bench.backend.refuse_with = [SubmissionDeferred("later")]
            opened = [bench.link.open(request(f"a000{n}")) for n in range(3)]
            return await asyncio.gather(*opened, return_exceptions=True)

    results = asyncio.run(story())

    assert sorted(type(result).__name__ for result in results) == ["SubmissionDeferred", "str", "str"]


def test_that_names_are_never_used_again(run_dir):
    """Not after a close, and not after a refusal."""

    async def story():
        async with link_bench(run_dir) as bench:
            await bench.link.open(request("a0001"))
            await bench.link.close("a0001", "over")
            with pytest.raises(ValueError, match="a0001"):
                await bench.link.open(request("a0001"))
            return len(bench.backend.jobs)

    assert asyncio.run(story()) == 1


def test_that_a_lost_allocation_is_not_resubmitted_by_dask(run_dir):
    """After a worker died, opening another allocation submits that one and no other."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker("a0001")
            os.kill(bench.link.workers()[address].pid, signal.SIGKILL)
            await bench.until(lambda: bench.heard(WorkerGone))
            await bench.link.open(request("a0002"))
            return sorted(bench.backend.jobs), list(bench.backend.cancelled)

    assert asyncio.run(story()) == (["1000", "1001"], [])


def test_that_an_opening_called_off_takes_its_job_back(run_dir):
    """Cancelling ``open`` leaves no batch job behind."""

    async def story():
        async with link_bench(run_dir) as bench:
            bench.backend.hold = asyncio.Event()
            opening = asyncio.create_task(bench.link.open(request("a0001")))
            await bench.backend.reached.wait()
            opening.cancel()
            await asyncio.wait([opening])
            bench.backend.hold.set()
            await polled(lambda: bench.backend.cancelled)
            return opening.cancelled(), bench.backend.cancelled

    assert asyncio.run(story()) == (True, [("1000",)])


def test_that_cancelled_attempts_end_and_others_go_on(run_dir):
    """Cancel reaches the courier, which answers for that attempt alone."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker()
            bench.link.send(address, [bundle_of("k1", "hang"), bundle_of("k2", "hang")])
            bench.link.cancel_attempts(address, [AttemptId("k1-t0", 1)])
            await bench.until(lambda: bench.heard(AttemptEnded))
            return bench.heard(AttemptEnded)

    (ended,) = asyncio.run(story())

    assert (ended.evidence.attempt, ended.evidence.ending) == (AttemptId("k1-t0", 1), Ending.CANCELLED)


def test_that_a_drained_allocation_answers_and_stays(run_dir):
    """Drain asks the workers; they say so and remain registered."""

    async def story():
        async with link_bench(run_dir) as bench:
            await bench.worker()
            await bench.link.drain("a0001", "its walltime ends")
            await bench.until(lambda: bench.heard(WorkerDraining))
            return bench.heard(WorkerDraining)[0].because, len(bench.link.workers())

    assert asyncio.run(story()) == ("its walltime ends", 1)


def test_that_released_bundles_say_nothing_more_and_leave_dask(run_dir):
    """Release of a bundle that has not begun: it never begins."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker()
            bench.link.send(address, [bundle_of("k1", "hang"), bundle_of("k2", "hang"), bundle_of("k3", "done")])
            await polled(lambda: len(bench.executed()) == 2)
            bench.link.release(["k3", "unknown"])
            bench.link.send(address, [bundle_of("k4", "done")])
            bench.link.cancel_attempts(address, [AttemptId("k1-t0", 1), AttemptId("k2-t0", 1)])
            await bench.until(lambda: bench.heard(AttemptDone))
            return bench.executed(), [message.receipt.attempt.task_id for message in bench.heard(AttemptDone)]

    executed, done = asyncio.run(story())

    assert done == ["k4-t0"]
    assert "k3-t0.1" not in executed


def test_that_a_lost_link_ends_attempts_as_lost_and_hears_again(run_dir):
    """When the scheduler hangs up on the driver, attempts are not taken for cancelled and new messages arrive."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker()
            bench.link.send(address, [bundle_of("k1", "hang")])
            await polled(bench.executed)

            def hang_up(but_not_on, dask_scheduler):
                for client, comm in dask_scheduler.client_comms.items():
                    if client != but_not_on:
                        comm.abort()

            def break_the_line():
                with bench.link.plain_client() as client:
                    client.run_on_scheduler(hang_up, client.id)

            await asyncio.to_thread(break_the_line)
            await bench.until(lambda: bench.heard(AttemptEnded))
            # The courier still hears, and what it says is heard again once the topics are subscribed again.
            for _ in range(50):
                await bench.link.drain("a0001", "are you there")
                if bench.heard(WorkerDraining):
                    break
                await asyncio.sleep(0.1)
            return bench.heard(AttemptEnded)[0].evidence, bench.heard(WorkerDraining)

    evidence, draining = asyncio.run(story())

    assert evidence.ending is Ending.WORKER_LOST
    assert "scheduler" in evidence.log_tail
    assert draining


def test_that_a_departure_in_a_gap_of_the_link_is_noticed(run_dir):
    """A worker removed while the driver could hear nothing is gone all the same, once."""

    async def story():
        async with link_bench(run_dir) as bench:
            address = await bench.worker()

            async def remove_unheard(dask_scheduler):
                for comm in dask_scheduler.client_comms.values():
                    comm.abort()
                await dask_scheduler.remove_worker(address, stimulus_id="test")

            def break_the_line():
                with bench.link.plain_client(timeout=2) as client:
                    client.run_on_scheduler(remove_unheard)

            await asyncio.to_thread(break_the_line)
            await bench.until(lambda: bench.heard(WorkerGone))
            await asyncio.sleep(0.3)
            return bench.heard(WorkerGone), bench.link.workers()

    (gone,), workers = asyncio.run(story())

    assert not gone.expected
    assert "lost each other" in gone.because
    assert workers == {}


def test_that_a_failing_listener_does_not_end_the_listening(run_dir):
    """An exception in ``on_message`` is logged; the next message comes all the same."""

    async def story():
        heard = []

        def listener(message):
            heard.append(message)
            if len(heard) == 1:
                raise ZeroDivisionError

        async with link_bench(run_dir, on_message=listener) as bench:
            bench.link.send("tls://127.0.0.1:1", [bundle_of("k", "done", "done")])
            await polled(lambda: len(heard) == 2)
            return len(heard)

    assert asyncio.run(story()) == 2


def test_that_only_the_owner_can_read_what_lets_one_in(run_dir):
    """The announcement and the key are 0600, name the driver, and are gone after shutdown."""

    async def story():
        async with link_bench(run_dir) as bench:
            path = run_dir / "scheduler.json"
            announced = json.loads(path.read_text())
            modes = {p: stat.S_IMODE(p.stat().st_mode) for p in map(Path, (path, *announced["tls"].values()))}
            await bench.link.open(request("a0001"))
            script_mode = stat.S_IMODE((run_dir / "scripts" / "a0001.sh").stat().st_mode)
            return announced, set(modes.values()), script_mode, bench.link.address

    announced, modes, script_mode, address = asyncio.run(story())

    assert modes == {0o600}
    assert script_mode == 0o700
    assert announced["version"] == 1
    assert announced["address"] == address
    assert announced["address"].startswith("tls://127.0.0.1:")
    assert announced["driver"]["pid"] == os.getpid()
    assert not (run_dir / "scheduler.json").exists()
    assert not (run_dir / "security").exists()


def test_that_shutdown_cancels_all_jobs_with_one_command_and_may_be_called_twice(run_dir):
    """Workers leave expected, one cancel names every job, a second shutdown is quiet."""

    async def story():
        async with link_bench(run_dir) as bench:
            await bench.worker("a0001")
            await bench.link.open(request("a0002"))
            await bench.link.shutdown()
            await bench.link.shutdown()
            return bench.backend.cancelled, bench.heard(WorkerGone)

    cancelled, gone = asyncio.run(story())

    assert cancelled == [("1000", "1001")]
    assert [g.expected for g in gone] == [True]


def test_that_allocations_left_behind_are_neither_cancelled_nor_told_to_close(run_dir):
    """Leaving: no cancel, the announcement stays, and the worker finds its connection broken."""

    async def story():
        async with link_bench(run_dir) as bench:
            await bench.worker()
            await bench.link.shutdown(leave_allocations=True)
            await asyncio.to_thread(bench.backend.jobs["1000"].wait, 10)
            log = (run_dir / "scripts" / "a0001.log").read_text()
            return bench.backend.cancelled, (run_dir / "scheduler.json").exists(), log

    cancelled, announced, log = asyncio.run(story())

    assert cancelled == []
    assert announced
    assert "scheduler-close" not in log
    assert "connection-broken" in log


def test_that_a_port_that_is_taken_is_an_error_with_its_name(run_dir):
    """A second link on the first one's port says so and leaves nothing behind."""

    async def story():
        async with link_bench(run_dir) as bench:
            port = int(bench.link.address.rsplit(":", 1)[1])
            other = run_dir / "other"
            other.mkdir(mode=0o700)
            with pytest.raises(SiteError, match=str(port)):
                await DaskLink.start(
                    run_dir=other,
                    run_id="r",
                    backend=ProcessBackend(),
                    render=lambda _: "",
                    on_message=lambda _: None,
                    host="127.0.0.1",
                    port=port,
                    verbs=STANDIN_VERBS,
                )
            return list(other.iterdir())

    assert asyncio.run(story()) == []


def test_that_a_run_directory_that_cannot_be_written_is_an_error_with_its_name(run_dir):
    """A file where the directory should be is told with the path."""
    blocked = run_dir / "blocked"
    blocked.write_text("")

    async def story():
        async with link_bench(blocked):
            pass

    with pytest.raises(RunDirectoryError, match="blocked"):
        asyncio.run(story())


def test_that_tls_can_be_left_out(run_dir):
    """Without TLS the link speaks plain TCP and announces no certificate."""

    async def story():
        async with link_bench(run_dir, tls=False) as bench:
            address = await bench.worker()
            bench.link.send(address, [bundle_of("k", "done")])
            await bench.until(lambda: bench.heard(AttemptDone))
            return bench.link.address, json.loads((run_dir / "scheduler.json").read_text())["tls"]

    address, tls = asyncio.run(story())

    assert address.startswith("tcp://127.0.0.1:")
    assert tls is None
