"""Values that are put into the run's store once, for many calls, on real allocations of this machine."""

from __future__ import annotations

import os
import signal

import pytest

from scalable_hpc import ScalableSession
from tests.waiting import wait_until

MANIFEST = """\
version: 1
project: {name: put}
targets:
  here:
    provider: local
    capacity: {cpus: 2}
    allocations: {max: 1, walltime: "00:20:00"}
components:
  model: {cpus: 2}
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    place = tmp_path_factory.mktemp("put")
    (place / "scalable.yaml").write_text(MANIFEST)
    session = ScalableSession.from_yaml(place / "scalable.yaml")
    session.start()
    yield session
    session.close()


def total(parts, index):
    found = sum(parts["table"][0][index])
    parts["table"][0][index].append(1000)
    return found


@pytest.mark.parametrize("scale", [1, 100_000], ids=["small", "large"])
def test_that_a_value_is_an_argument_anywhere_and_outlives_every_worker(session, scale):
    """Nested; what one call does to it the next does not see; the workers that had it may all die."""
    client = session.start()
    table = client.put([[1] * scale, [2] * scale])
    before = client.map(total, [{"table": (table,)}] * 6, [0, 1] * 3)
    assert client.gather(before) == [scale, 2 * scale] * 3

    gone = {worker.pid for worker in session.workers()}
    assert gone
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    wait_until("the workers to be gone", lambda: not gone & {worker.pid for worker in session.workers()}, timeout=60)

    assert client.submit(total, {"table": [table]}, 1).result(timeout=90) == 2 * scale


def test_that_a_value_is_there_at_once_and_stays_as_it_was(session):
    """It needs no worker; what is done to the original later is not in it; equal ones are one."""
    client = session.start()
    original = {"a": [1, 2]}
    future = client.put(original)
    original["a"].append(3)

    assert future.done()
    assert future.result() == {"a": [1, 2]}
    assert client.scatter({"a": [1, 2]}).key == future.key
    assert client.put({"a": [1, 2, 3]}).key != future.key


def test_that_what_cannot_be_pickled_is_refused_at_once(session):
    """As an argument of a call would be."""
    with pytest.raises(TypeError, match="cannot be sent to a worker"):
        session.start().put(number for number in range(3))
