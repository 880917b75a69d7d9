"""Laws of an allocation as dask-jobqueue's Job."""

from __future__ import annotations

import asyncio

import pytest
from distributed.core import Status

from scalable_hpc.cluster.arrays import SharedSubmissions
from scalable_hpc.cluster.dask_settings import in_force
from scalable_hpc.cluster.job import ScalableJob
from scalable_hpc.errors import BatchSilent, RunDirectoryError, SubmissionError, TemplateError
from tests.cluster_bench import request


class Backend:
    """Takes every script and remembers what it was; cancels unless told not to."""

    name = "local"

    def __init__(self, submit_error=None, cancel_error=None):
        self.scripts = []
        self.cancelled = []
        self.submit_error, self.cancel_error = submit_error, cancel_error

    async def submit(self, script):
        if self.submit_error:
            raise self.submit_error
        self.scripts.append(script.read_text())
        return "77"

    async def cancel(self, job_ids):
        if self.cancel_error:
            raise self.cancel_error
        self.cancelled += job_ids


def make_job(backend, scripts_dir, render=lambda wanted: f"# {wanted.name}\n"):
    parts = {"backend": backend, "render": render, "scripts_dir": scripts_dir, "arrays": SharedSubmissions()}
    return ScalableJob("tcp://x:1", name="a0001", request=request("a0001"), **parts)


async def started(*args, **kwargs):
    with in_force():
        return await make_job(*args, **kwargs)


def test_that_what_is_shown_is_what_is_submitted(tmp_path):
    """The preview and the submitted script are the same text, and it stays in the run directory."""
    backend = Backend()
    job = asyncio.run(started(backend, tmp_path / "scripts"))

    assert job.job_id == "77"
    assert backend.scripts == [job.job_script()] == ["# a0001\n"]
    assert (tmp_path / "scripts" / "a0001.sh").read_text() == "# a0001\n"


@pytest.mark.parametrize("error", [SubmissionError("no"), BatchSilent("?"), RuntimeError("a bug")])
def test_that_a_refused_job_counts_as_started_and_keeps_its_error(tmp_path, error):
    """SpecCluster asserts that an awaited job runs; the opener reads the error."""
    job = asyncio.run(started(Backend(submit_error=error), tmp_path))

    assert job.status is Status.running
    assert (job.job_id, job.submit_error) == (None, error)


def test_that_a_script_that_cannot_be_rendered_or_written_is_never_submitted(tmp_path):
    """Template errors are kept as they are; a disk's refusal names the script."""
    (tmp_path / "blocked").write_text("")
    backend = Backend()

    def fail(_):
        raise TemplateError("unsafe value")

    unrendered = asyncio.run(started(backend, tmp_path, render=fail))
    unwritten = asyncio.run(started(backend, tmp_path / "blocked"))

    assert isinstance(unrendered.submit_error, TemplateError)
    assert isinstance(unwritten.submit_error, RunDirectoryError)
    assert "a0001.sh" in unwritten.submit_error.message
    assert backend.scripts == []


@pytest.mark.parametrize(
    ("cancel_error", "left_behind", "cancelled"),
    [(None, False, ["77"]), (BatchSilent("?"), False, []), (None, True, [])],
    ids=["cancelled", "batch system silent", "left behind"],
)
def test_that_a_closed_job_is_closed_whatever_the_batch_system_says(tmp_path, cancel_error, left_behind, cancelled):
    """Status and event are set; a failed cancel is kept, not raised."""

    async def story():
        with in_force():
            job = await make_job(backend, tmp_path)
            job.is_left_behind = left_behind
            await job.close()
            await asyncio.wait_for(job.finished(), 1)
            return job

    backend = Backend(cancel_error=cancel_error)
    job = asyncio.run(story())

    assert job.status is Status.closed
    assert job.cancel_error is cancel_error
    assert backend.cancelled == cancelled
