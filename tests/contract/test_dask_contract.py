"""What we build on in ``distributed`` and ``dask_jobqueue``, tried on the installed releases.

When an upgrade breaks one of these, the rooms ``cluster`` and ``worker`` must be looked at before the bound in
``pyproject.toml`` is moved. Each test says who relies on it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from scalable_hpc.cluster.dask_settings import SETTINGS, TCP_TIMEOUT_S, WORKER_TTL_S, in_force
from scalable_hpc.cluster.quiet_import import (
    Client,
    Cluster,
    Job,
    JobQueueCluster,
    ProcessInterface,
    Scheduler,
    Status,
    dask,
)
from tests.cluster_bench import polled

TOPIC = "contract"

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def installed(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(package).split(".")[:2])


def test_that_the_installed_releases_are_the_ones_we_promise():
    """pyproject: distributed 2025.1 up to 2026.x, dask-jobqueue 0.9."""
    assert (2025, 1) <= installed("distributed") < (2027, 0)
    assert installed("dask-jobqueue") == (0, 9)


@pytest.fixture(autouse=True)
def _forgotten_sockets_stay_here():
    """Have what Dask leaves open after broken connections collected here and not in another module's tests."""
    yield
    gc.collect()


@asynccontextmanager
async def small_dask(tmp_path: Path, *names: str):
    """A scheduler, workers and a client on this loop, under our settings."""
    from distributed import Worker

    with in_force():
        async with Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
            workers = [
                Worker(
                    scheduler.address, name=name, nthreads=1, dashboard=False, memory_limit=0, local_directory=tmp_path
                )
                for name in names
            ]
            client = Client(scheduler.address, asynchronous=True, set_as_default=False)
            try:
                await asyncio.gather(*workers)
                async with client:
                    yield scheduler, workers, client
            finally:
                await asyncio.gather(*(worker.close(executor_wait=False) for worker in workers))


class Heard(list):
    """Events of a topic, which can be awaited."""

    def __init__(self, client, topic):
        super().__init__()
        self.news = asyncio.Event()
        client.subscribe_topic(topic, self.take)

    def take(self, event):
        self.append(event)
        self.news.set()

    async def until(self, claim):
        while not claim(self):
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 10)


# Scheduler


def test_that_blame_and_patience_come_from_the_configuration():
    """dask_settings: allowed failures, TTL and stealing are what our block says."""

    async def story():
        with in_force():
            async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
                return scheduler.allowed_failures, scheduler.worker_ttl, list(scheduler.extensions)

    allowed, ttl, extensions = asyncio.run(story())

    assert allowed == SETTINGS["distributed.scheduler.allowed-failures"]
    assert ttl == WORKER_TTL_S
    assert "stealing" not in extensions


def test_that_the_scheduler_has_the_parts_we_touch(tmp_path):
    """scheduler.py, cluster.py: web server, callbacks, TTL check, closing and hanging up on workers."""

    async def story():
        async with small_dask(tmp_path, "a") as (scheduler, (worker,), _client):
            assert callable(scheduler.http_server.stop)
            assert scheduler.http_server.port
            assert isinstance(scheduler.periodic_callbacks, dict)
            assert inspect.iscoroutinefunction(type(scheduler).check_worker_ttl)
            assert list(scheduler.workers) == [worker.address] == list(scheduler.stream_comms)
            assert callable(scheduler.stream_comms[worker.address].abort)
            scheduler.close_worker(worker.address)
            await asyncio.wait_for(worker.finished(), 10)
            assert scheduler.close_worker("tcp://127.0.0.1:1") is None

    asyncio.run(story())


def test_that_few_events_are_kept(tmp_path):
    """dask_settings: each event may hold a result, so the log per topic is short."""

    async def story():
        async with small_dask(tmp_path) as (scheduler, _workers, client):
            for number in range(100):
                await client.log_event(TOPIC, number)
            return len(scheduler.get_events(TOPIC))

    assert asyncio.run(story()) == SETTINGS["distributed.admin.low-level-log-length"]


def test_that_our_tcp_timeout_is_long_enough_for_dask():
    """dask_settings: Dask asserts that it is at least eleven seconds."""
    from distributed.comm.tcp import set_tcp_timeout

    class Comm:
        class socket:  # noqa: N801
            options: list = []  # noqa: RUF012

            @classmethod
            def setsockopt(cls, *option):
                cls.options.append(option)

        @staticmethod
        def closed():
            return False

    with in_force():
        set_tcp_timeout(Comm)
    with dask.config.set({"distributed.comm.timeouts.tcp": "10s"}), pytest.raises(AssertionError):
        set_tcp_timeout(Comm)

    assert any(option[-1] == TCP_TIMEOUT_S * 1000 for option in Comm.socket.options)


def test_that_a_name_is_taken_while_its_worker_lives(tmp_path):
    """cluster.py: this is why allocation names are never used twice."""
    from distributed import Worker

    async def story():
        async with small_dask(tmp_path, "a") as (scheduler, _workers, _client):
            twin = Worker(
                scheduler.address, name="a", nthreads=1, dashboard=False, memory_limit=0, local_directory=tmp_path
            )
            with pytest.raises((ValueError, RuntimeError), match=r"name taken|failed to start"):
                await twin
            await twin.close()

    asyncio.run(story())


# Events


def test_that_comings_and_goings_are_told_on_the_topic_all(tmp_path):
    """departures.py: action, worker, expected, stimulus_id."""
    from distributed import Worker

    async def story():
        async with small_dask(tmp_path) as (scheduler, _workers, client):
            heard = Heard(client, "all")
            await asyncio.sleep(0.1)
            worker = await Worker(
                scheduler.address, name="a", nthreads=1, dashboard=False, memory_limit=0, local_directory=tmp_path
            )
            await heard.until(lambda events: any(e.get("action") == "add-worker" for _, e in events))
            await worker.close()
            await heard.until(lambda events: any(e.get("action") == "remove-worker" for _, e in events))
            return worker.address, [e for _, e in heard if e["action"] in ("add-worker", "remove-worker")]

    address, (added, removed) = asyncio.run(story())

    assert added["worker"] == removed["worker"] == address
    assert removed["expected"] is False
    assert removed["stimulus_id"].startswith("handle-worker-cleanup")


def test_that_a_task_may_log_events_and_they_come_in_order_before_its_end(tmp_path):
    """messages: a receipt sent by a task's thread is heard before the task is known to be over."""

    def talk():
        from distributed import get_worker

        for number in range(20):
            get_worker().log_event(TOPIC, {"body": bytes([number])})

    async def story():
        async with small_dask(tmp_path, "a") as (_scheduler, _workers, client):
            heard = Heard(client, TOPIC)
            future = client.map(lambda _: talk(), [0], pure=False)[0]
            await future.exception()
            return [(type(at), event["body"]) for at, event in heard]

    assert asyncio.run(story()) == [(float, bytes([number])) for number in range(20)]


def test_that_a_client_hears_its_own_event(tmp_path):
    """mailbox.py: a pulse goes round through the scheduler."""

    async def story():
        async with small_dask(tmp_path) as (_scheduler, _workers, client):
            heard = Heard(client, TOPIC)
            while not heard:
                await client.log_event(TOPIC, {"kind": "pulse"})
                await asyncio.sleep(0.01)
            client.unsubscribe_topic(TOPIC)
            return heard[0][1]

    assert asyncio.run(story()) == {"kind": "pulse"}


# Client


def test_that_map_takes_keys_and_one_worker_and_gives_futures_in_order(tmp_path):
    """dispatch.py: one key per bundle, bytes handed on untouched, run on the named worker."""

    def where(parcel):
        from distributed import get_worker

        return get_worker().name, parcel

    async def story():
        async with small_dask(tmp_path, "a", "b") as (_scheduler, (_, b), client):
            parcels = [b"k1", b"\x00\xff", b"k2"]
            futures = client.map(
                where,
                parcels,
                key=["k1", "k2", "k3"],
                workers=[b.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            return [future.key for future in futures], await client.gather(futures)

    keys, results = asyncio.run(story())

    assert keys == ["k1", "k2", "k3"]
    assert results == [("b", b"k1"), ("b", b"\x00\xff"), ("b", b"k2")]


def test_that_a_future_tells_how_it_ended(tmp_path):
    """dispatch.py: exception() returns, it does not raise; status is one of three words."""

    def fail():
        raise LookupError("over there")

    async def story():
        async with small_dask(tmp_path, "a") as (_scheduler, _workers, client):
            good, bad = client.submit(int, 1), client.submit(fail)
            error = await bad.exception()
            nothing = await good.exception()
            waiting = client.submit(int, 2, workers=["127.0.0.1:1"], allow_other_workers=False)
            released = asyncio.ensure_future(waiting.exception())
            await asyncio.sleep(0)
            waiting.release()
            return (
                (type(error), bad.status),
                (nothing, good.status),
                (await asyncio.wait_for(released, 5), waiting.status),
            )

    failed, finished, let_go = asyncio.run(story())

    assert failed == (LookupError, "error")
    assert finished == (None, "finished")
    assert let_go == (None, "cancelled")


def test_that_a_lost_worker_keeps_its_keys_to_itself(tmp_path):
    """dispatch.py: a restricted key is not run elsewhere, and a release makes the scheduler forget it."""
    go = threading.Event()
    ran = []

    def run(worker_hint):
        ran.append(worker_hint)
        go.wait(10)

    async def story():
        async with small_dask(tmp_path, "a", "b") as (scheduler, (a, b), client):
            TASKS[:] = [run]
            (future,) = client.map(
                call_first, ["only a"], key=["k"], workers=[a.address], allow_other_workers=False, pure=False
            )
            await polled(lambda: ran)
            await scheduler.remove_worker(a.address, stimulus_id="contract", close=False)
            states = scheduler.tasks["k"].state, list(b.state.tasks)
            future.release()
            await polled(lambda: not scheduler.tasks)
            go.set()
            return states

    assert asyncio.run(story()) == ("no-worker", [])
    assert ran == ["only a"]


TASKS: list = []


def call_first(argument):
    return TASKS[0](argument)


def test_that_a_call_runs_on_the_workers_loop_and_is_given_the_worker(tmp_path):
    """verbs.py: cancel and drain run between two beats of the courier's loop, not in a task's thread."""

    def call(argument, dask_worker=None):
        return argument, dask_worker.name, threading.get_ident()

    async def story():
        async with small_dask(tmp_path, "a", "b") as (_scheduler, (a, _), client):
            return await client.run(call, ("x",), workers=[a.address]), a.address

    answers, address = asyncio.run(story())

    assert answers == {address: (("x",), "a", threading.get_ident())}


def test_that_losing_the_scheduler_cancels_futures(tmp_path):
    """dispatch.py, mailbox.py: cancelled without being asked means that the link broke; the client comes back."""

    async def story():
        async with small_dask(tmp_path) as (scheduler, _workers, client):
            future = client.submit(int, 1)
            await polled(lambda: future.key in scheduler.tasks)
            for comm in list(scheduler.client_comms.values()):
                comm.abort()
            await future.exception()
            await polled(lambda: client.status == "running")
            return future.status

    assert asyncio.run(story()) == "cancelled"


def test_that_a_closed_client_says_so(tmp_path):
    """mailbox.py: the status of a client that gave up, through which sending raises."""

    async def story():
        async with small_dask(tmp_path) as (_scheduler, _workers, client):
            before = client.status
            await client.close()
            with pytest.raises(Exception, match=r"(?i)closed|closing"):
                client.map(int, [1], key=["k"], pure=False)
            return before, client.status

    assert asyncio.run(story()) == ("running", "closed")


# SpecCluster and Job


class Part(ProcessInterface):
    """What SpecCluster makes of a spec, and nothing else."""

    made: list = []  # noqa: RUF012

    def __init__(self, scheduler=None, name=None, option=None):
        super().__init__(scheduler, name)
        self.option = option
        self.made.append((name, option, scheduler))


def test_that_a_process_interface_moves_from_created_to_closed():
    """job.py: start and close of the base class set the states that SpecCluster asserts."""

    async def story():
        part = Part()
        states = [part.status]
        await part
        states.append(part.status)
        await part.close()
        await asyncio.wait_for(part.finished(), 1)
        return [*states, part.status]

    assert asyncio.run(story()) == [Status.created, Status.running, Status.closed]


def test_that_a_spec_cluster_opens_what_is_in_the_spec_and_closes_what_is_not():
    """cluster.py: entries of one shape each, by name, with the scheduler's address."""
    from distributed import SpecCluster

    async def story():
        Part.made.clear()
        with in_force():
            spec = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
            async with SpecCluster(scheduler=spec, worker={"cls": Part}, asynchronous=True) as cluster:
                cluster.worker_spec["a"] = {"cls": Part, "options": {"option": 1}}
                cluster.worker_spec["b"] = {"cls": Part, "options": {"option": 2}}
                await cluster
                a, b = cluster.workers["a"], cluster.workers["b"]
                del cluster.worker_spec["a"]
                await cluster
                return sorted(Part.made), cluster.scheduler_address, (a.status, b.status), list(cluster.workers)

    made, address, states, left = asyncio.run(story())

    assert made == [("a", 1, address), ("b", 2, address)]
    assert states == (Status.closed, Status.running)
    assert left == ["b"]


def test_that_the_base_cluster_keeps_the_list_of_workers():
    """cluster.py: SpecCluster's reaction to a lost worker is skipped, the base class's book-keeping is not."""
    from distributed import SpecCluster

    assert "_update_worker_status" in vars(SpecCluster)
    assert list(inspect.signature(Cluster._update_worker_status).parameters) == ["self", "op", "msg"]
    assert issubclass(JobQueueCluster, SpecCluster)


def test_that_our_section_is_all_that_a_job_looks_up():
    """dask_settings: dask-jobqueue reads its section without defaults, so a new key would be a KeyError."""

    class Bare(Job):
        config_name = "scalable-hpc"

        def __init__(self, scheduler=None, name=None, **kwargs):
            super().__init__(scheduler=scheduler, name=name, **kwargs)

    async def story():
        section = {"scalable-hpc": dict(SETTINGS["jobqueue.scalable-hpc"])}
        with in_force(), dask.config.set({"jobqueue": section}):
            return Bare("tcp://x:1", "a")

    job = asyncio.run(story())

    assert (job.worker_processes, job.job_id, job.name) == (1, None, "a")
    assert {"job_script", "start", "close"} <= set(vars(Job))
