"""Values that are put into the run's store once, for many calls, on real allocations of this machine."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from scalable_hpc import ScalableSession
from scalable_hpc.errors import AncestorFailed
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


def mean(data):
    return float(data.mean())


def put_and_find(session, value):
    """Put a value, and return its future with the file that it is in."""
    results = session.run_directory.results / "v1" / "blobs"
    before = set(results.rglob("*"))
    future = session.start().put(value)
    (path,) = [path for path in set(results.rglob("*")) - before if path.is_file()]
    return future, path


@pytest.mark.parametrize("value", [np.arange(80_000.0), list(range(80_000))], ids=["array", "list"])
def test_that_a_damaged_value_is_put_again_while_it_is_alive(session, value):
    """The tasks that wait for it never notice."""
    future, path = put_and_find(session, value)
    path.chmod(0o600)
    path.write_bytes(b"x" * path.stat().st_size)

    assert session.start().submit(np.mean, future).result(timeout=60) == np.mean(value)
    path.unlink()
    assert len(future.result()) == len(value)


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_that_a_damaged_value_that_is_not_at_hand_fails_its_calls(session, change):
    """At once, with what to do about it; what was changed since is another value."""
    value = np.full(80_000, {"gone": 2.0, "changed": 3.0}[change])
    future, path = put_and_find(session, value)
    path.unlink()
    if change == "gone":
        del value
    else:
        value[0] = 7.0

    client = session.start()
    with pytest.raises(AncestorFailed, match="put it again"):
        client.submit(mean, future).result(timeout=60)

    again = client.put(np.full(80_000, {"gone": 2.0, "changed": 3.0}[change]))
    assert again.key == future.key
    assert client.submit(mean, again).result(timeout=60) == {"gone": 2.0, "changed": 3.0}[change]


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
