"""The client on a living run: dependent calls, failures, retries, cancellation, crashes; one session for all."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import re
import threading
import time
from pathlib import Path

import pytest

from scalable_hpc import ScalableSession
from scalable_hpc.errors import AncestorFailed, TaskKilled, TaskTimeout
from scalable_hpc.future import RemoteTraceback
from scalable_hpc.lineage.journal import read_events
from tests.ensembles import AttemptFailed, AttemptPlaced, of_kind
from tests.waiting import wait_until

MANIFEST = """\
version: 1
project: {name: client}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 2, walltime: "00:20:00"}
components:
  model: {cpus: 2}
tasks:
  flaky: {retry: {retries: 3, base_s: 0.05}}
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    place = tmp_path_factory.mktemp("client")
    (place / "scalable.yaml").write_text(MANIFEST)
    session = ScalableSession.from_yaml(place / "scalable.yaml")
    session.start()
    yield session
    session.close()


@pytest.fixture(scope="module")
def client(session):
    return session.start()


def journal(session):
    return list(read_events(session.run_directory.journal))


def double(x):
    return 2 * x


def total(parts):
    return sum(parts["left"]) + sum(parts["right"])


class Unlucky(Exception):
    def __init__(self, number, why):
        super().__init__(number, why)
        self.number = number


def unlucky(number):
    raise Unlucky(number, "thirteen")


def flaky(path):
    with Path(path).open("a") as log:
        log.write("try\n")
    if len(Path(path).read_text().splitlines()) < 3:
        raise ConnectionError("not yet")
    return "at last"


def crash(how):
    how(os.getpid())


def nap(seconds):
    time.sleep(seconds)
    return seconds


def test_that_results_of_calls_are_arguments_of_later_ones(client):
    """Nested in dicts and lists, three generations deep, without being gathered in between."""
    first = client.map(double, range(4))
    second = client.map(double, first)
    sums = client.submit(total, {"left": second[:2], "right": tuple(second[2:])})

    assert sums.result(timeout=60) == 4 * sum(range(4))


def test_that_session_and_client_say_how_far_the_run_is(session, client):
    """By their names in a notebook's cell: run, target, counts."""
    client.submit(double, 4).result(timeout=60)

    said = rf"run '{session.run_directory.run_id}' on target 'here': [1-9]\d* done, \d+ running, "
    assert re.match(rf"<ScalableSession of 'client', {said}", repr(session))
    assert re.match(rf"<ScalableClient of {said}", repr(client))


def test_that_large_results_travel_by_their_place(client):
    """A megabyte between two calls, and back here."""
    block = client.submit(bytes, 1_000_000)

    assert client.submit(len, block).result(timeout=60) == 1_000_000
    assert len(block.result()) == 1_000_000


def test_that_functions_of_the_script_and_closures_travel_by_value(client):
    """Lambdas and what they close over."""
    factor = 7

    assert client.gather(client.map(lambda x: factor * x, range(3))) == [0, 7, 14]


def test_that_a_failure_is_the_tasks_own_exception_with_the_remote_traceback(client):
    """Type, arguments and attributes survive, and its cause shows where it was raised."""
    with pytest.raises(Unlucky, match="thirteen") as caught:
        client.submit(unlucky, 13).result(timeout=60)

    assert caught.value.number == 13
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in unlucky" in str(caught.value.__cause__)


def test_that_a_failed_ancestor_fails_its_descendants_by_name(client):
    """The chain is in the message; the ancestor keeps its own exception."""
    bad = client.submit(unlucky, 1)
    child = client.submit(double, bad)
    grandchild = client.submit(double, child)

    with pytest.raises(AncestorFailed, match=bad.task_id) as caught:
        grandchild.result(timeout=60)
    assert isinstance(caught.value.__cause__, Unlucky)
    with pytest.raises(Unlucky):
        bad.result()
    own, told, two, *_ = client.gather([bad, child, grandchild, client.submit(double, 2)], errors="return")
    assert (type(own), isinstance(told, AncestorFailed)) == (Unlucky, True)
    assert f"{grandchild.task_id} <- {child.task_id} <- {bad.task_id} failed" in str(two)


def test_that_a_transient_failure_is_tried_again_and_journalled(session, client, tmp_path):
    """Three attempts, two of them charged, with a reason each."""
    future = client.submit(flaky, str(tmp_path / "tries"))

    assert future.result(timeout=60) == "at last"
    failed = [event for event in of_kind(journal(session), AttemptFailed) if event.task_id == future.task_id]
    assert [event.charged for event in failed] == [True, True]
    assert all(event.because for event in failed)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param(lambda _: os._exit(3), "3", id="os._exit"),
        pytest.param(lambda _: os.abort(), "SIGABRT", id="abort"),
        pytest.param(lambda pid: os.kill(pid, 9), "SIGKILL", id="SIGKILL"),
    ],
)
def test_that_a_crashing_task_costs_its_own_slot_only(session, client, how, words):
    """It is tried once more, then given up with how it died; its neighbours never notice."""
    neighbours = client.map(nap, [0.6] * 3)
    killer = client.submit(crash, how)

    with pytest.raises(TaskKilled, match=words):
        killer.result(timeout=60)
    assert client.gather(neighbours) == [0.6] * 3
    ids = {future.task_id for future in neighbours}
    assert [event for event in of_kind(journal(session), AttemptFailed) if event.task_id in ids] == []
    assert len([event for event in of_kind(journal(session), AttemptPlaced) if event.task_id == killer.task_id]) == 2


def test_that_a_timeout_kills_the_attempt_for_real(client):
    """Long before the sleep would have ended."""
    began = time.monotonic()

    with pytest.raises(TaskTimeout):
        client.submit(nap, 60, timeout=0.5).result(timeout=30)
    assert time.monotonic() - began < 20


def test_that_cancel_kills_a_running_call(session, client, tmp_path):
    """Its process is gone, and its slot runs something else."""
    mark = tmp_path / "pid"

    def hold(path):
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)

    future = client.submit(hold, str(mark))
    wait_until("the call to run", lambda: mark.exists() and mark.read_text(), timeout=30)
    assert future.running()
    pid = int(mark.read_text())

    assert future.cancel()

    wait_until("its process to be gone", lambda: not Path(f"/proc/{pid}").exists(), timeout=20)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    assert client.submit(double, 4).result(timeout=30) == 8


def test_that_calls_with_one_key_are_one_task(session, client, tmp_path):
    """Also when the second comes while the first runs, and after it has ended."""
    log = tmp_path / "log"

    def once(path):
        with Path(path).open("a") as file:
            file.write("ran\n")
        time.sleep(0.3)
        return 5

    pair = [client.submit(once, str(log), key="once") for _ in range(2)]

    assert client.gather(pair) == [5, 5]
    assert client.submit(once, str(log), key="once").result(timeout=30) == 5
    assert log.read_text() == "ran\n"


def test_that_threads_and_asyncio_share_a_client(client):
    """Submissions from many threads, results awaited in a loop."""
    found: list[int] = []
    threads = [threading.Thread(target=lambda n=n: found.append(client.submit(double, n).result())) for n in range(8)]
    for thread in threads:
        thread.start()

    async def wait_for_many():
        return await asyncio.gather(*[asyncio.wrap_future(future) for future in client.map(double, range(4))])

    assert asyncio.run(wait_for_many()) == [0, 2, 4, 6]
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_that_plain_dask_is_to_be_had(client):
    """An ordinary ``distributed.Client`` on the same scheduler."""
    assert client.dask.submit(sum, [1, 2, 3]).result(timeout=30) == 6
