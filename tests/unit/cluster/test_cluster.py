"""Laws of the set of open allocations."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from scalable_hpc.cluster.cluster import ScalableCluster
from scalable_hpc.cluster.dask_settings import in_force
from scalable_hpc.errors import SubmissionDeferred
from tests.cluster_bench import request


class Backend:
    """Counts; holds submissions back while told to."""

    name = "local"

    def __init__(self):
        self.submitted, self.cancelled = [], []
        self.array_id = ""
        self.may_submit, self.reached = asyncio.Event(), asyncio.Event()
        self.may_submit.set()

    async def submit(self, script):
        self.reached.set()
        await self.may_submit.wait()
        self.submitted.append(script.stem)
        return self.array_id or script.stem

    async def cancel(self, job_ids):
        self.cancelled += job_ids


def in_cluster(tmp_path, story):
    """Run a story with a backend and a cluster, and close the cluster afterwards."""

    async def main():
        backend = Backend()
        with in_force():
            cluster = ScalableCluster(
                backend=backend,
                render=lambda wanted: wanted.name,
                scripts_dir=tmp_path,
                scheduler_options={"host": "127.0.0.1", "port": 0},
            )
            async with cluster:
                return await story(cluster, backend)

    return asyncio.run(main())


@pytest.mark.parametrize("verb", [lambda c: c.scale(2), lambda c: c.scale(jobs=1), lambda c: c.adapt()])
def test_that_nobody_else_decides_the_size(tmp_path, verb):
    """Scaling and adapting are refused with the reason, and nothing is submitted."""

    async def story(cluster, backend):
        with pytest.raises(TypeError, match="supervisor"):
            verb(cluster)
        await cluster
        return backend.submitted

    assert in_cluster(tmp_path, story) == []


def test_that_closing_one_allocation_leaves_the_others(tmp_path):
    """Only the named job is cancelled; unknown names are no error; what is closed is not opened again."""

    async def story(cluster, backend):
        await asyncio.gather(*(cluster.open_job(request(name)) for name in ("a1", "a2", "a3")))
        await cluster.close_jobs(["a2", "unknown"])
        await cluster
        return sorted(backend.submitted), list(backend.cancelled), sorted(cluster.open_jobs())

    assert in_cluster(tmp_path, story) == (["a1", "a2", "a3"], ["a2"], ["a1", "a3"])


def test_that_a_cancelled_opener_does_not_double_a_submission(tmp_path):
    """The pass under way is finished for the others; the job is known, and can be closed."""

    async def story(cluster, backend):
        backend.may_submit.clear()
        opening = asyncio.create_task(cluster.open_job(request("a1")))
        await backend.reached.wait()
        opening.cancel()
        await asyncio.wait([opening])
        backend.may_submit.set()
        await cluster.open_job(request("a2"))
        return sorted(backend.submitted), sorted(cluster.open_jobs())

    assert in_cluster(tmp_path, story) == (["a1", "a2"], ["a1", "a2"])


def test_that_leaving_asks_nobody_who_no_longer_listens(tmp_path):
    """The cluster closes at once, with no connection to its own scheduler left; no job is cancelled."""

    async def story(cluster, backend):
        await asyncio.gather(*(cluster.open_job(request(name)) for name in ("a1", "a2")))
        await cluster.leave()
        for connection in list(cluster.scheduler_comm.comms):  # or Dask may find one that is idle
            connection.abort()
        await asyncio.wait_for(cluster.close(), 10)
        return list(backend.cancelled), sorted(cluster.open_jobs())

    assert in_cluster(tmp_path, story) == ([], [])


def test_that_an_allocation_closed_while_it_opens_is_taken_back(tmp_path):
    """The opener is told to come again later, and the job that was submitted all the same is cancelled."""

    async def story(cluster, backend):
        backend.may_submit.clear()
        opening = asyncio.create_task(cluster.open_job(request("a1")))
        await backend.reached.wait()
        closing = asyncio.create_task(cluster.close_jobs(["a1"]))
        await asyncio.sleep(0)
        backend.may_submit.set()
        await closing
        with pytest.raises(SubmissionDeferred):
            await opening
        return backend.submitted, backend.cancelled

    assert in_cluster(tmp_path, story) == (["a1"], ["a1"])


def test_that_allocations_asked_for_together_share_a_submission_and_are_closed_apart(tmp_path):
    """One script, one command, an id each."""
    names = ("a0001", "a0002", "a0003")

    async def story(cluster, backend):
        backend.array_id = "77"
        jobs = await cluster.open_together([replace(request(name), array=names) for name in names])
        await cluster.close_jobs(["a0002"])
        return backend.submitted, [job.job_id for job in jobs], list(backend.cancelled), sorted(cluster.open_jobs())

    submitted, ids, cancelled, left = in_cluster(tmp_path, story)
    assert (submitted, ids) == (["a0001"], ["77_1", "77_2", "77_3"])
    assert (cancelled, left) == (["77_2"], ["a0001", "a0003"])


def test_that_a_member_closed_before_its_array_was_submitted_is_cancelled_by_its_id(tmp_path):
    """It has no Job that could be closed, but the array has it as a member."""
    names = ("a0002", "a0003")

    async def story(cluster, backend):
        backend.array_id = "77"
        backend.may_submit.clear()
        first = asyncio.create_task(cluster.open_job(request("a0001")))
        await backend.reached.wait()
        opening = asyncio.create_task(cluster.open_together([replace(request(name), array=names) for name in names]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(cluster.close_jobs(["a0003"]))
        await asyncio.sleep(0)
        backend.may_submit.set()
        await first
        await closing
        with pytest.raises(SubmissionDeferred, match="a0003"):
            await opening
        return backend.submitted, list(backend.cancelled)

    assert in_cluster(tmp_path, story) == (["a0001", "a0002"], ["77_3"])
