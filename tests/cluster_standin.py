"""A courier in miniature and a batch system of plain processes, to test the driver's side of Dask with neither.

As a program it joins the driver announced in a run directory, says hello, and obeys what the bundles tell it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from scalable_hpc.model.allocations import AllocationRequest, ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.messages import (
    TOPIC,
    AttemptDone,
    AttemptEnded,
    Bundle,
    Envelope,
    WorkerDraining,
    WorkerHello,
)
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Locator, Receipt

CANCELLED: set[AttemptId] = set()
WAKE = threading.Event()


def bundle_of(key: str, *orders: str) -> Bundle:
    """Make a bundle whose n-th attempt obeys the n-th order: done, exception, silent, hang, crash."""
    return Bundle(
        key, tuple(Envelope(AttemptId(f"{key}-t{n}", 1), "task", "0" * 64, "", "", order.encode(), b"")
                   for n, order in enumerate(orders))
    )  # fmt: skip


class Unreadable:
    """Pickles in the driver and raises where it is opened."""

    def __reduce__(self):
        return (_explode, (os.getpid(),))


def _explode(sender: int) -> Unreadable:
    if os.getpid() != sender:
        raise RuntimeError("cannot be read over here")
    return Unreadable()


def run_bundle(bundle: Bundle) -> None:
    """Obey, as a Dask task."""
    from distributed import get_worker

    worker = get_worker()
    directory = Path(os.environ["STANDIN_RUN_DIR"])
    for envelope in bundle.envelopes:
        with (directory / "executed").open("a") as log:
            log.write(f"{envelope.attempt} {os.getpid()}\n")
        order = envelope.function.decode()
        if order == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "raise":
            raise LookupError("the carrier itself fails")
        if order == "hang":
            while envelope.attempt not in CANCELLED and not WAKE.wait(0.02):
                pass
            order = "cancelled"
        if order != "silent":
            _say(worker, _report(envelope.attempt, order, worker))


def _report(attempt: AttemptId, order: str, worker):
    if order == "done":
        result = Locator("", "0" * 64, "0" * 64, 1, inline=b"x" * 100)
        return AttemptDone(Receipt(attempt, result, 1.0, 2.0, 3, "node", worker.address, str(worker.name)))
    ending = {"exception": Ending.EXCEPTION, "cancelled": Ending.CANCELLED}[order]
    return AttemptEnded(Evidence(attempt, ending, time.time(), worker=worker.address))


def cancel_attempts(attempts: tuple[AttemptId, ...]) -> None:
    """Let hanging attempts end."""
    CANCELLED.update(attempts)


def drain(because: str, dask_worker=None) -> None:
    """Answer with the message of a draining worker."""
    _say(dask_worker, WorkerDraining(dask_worker.address, because, None))


def _say(worker, message) -> None:
    worker.log_event(TOPIC, {"kind": type(message).__name__, "body": pickle.dumps(message)})


async def _serve(run_dir: Path, allocation: str) -> None:
    from distributed import Security, Worker

    announced = json.loads((run_dir / "scheduler.json").read_text())
    tls = announced["tls"]
    security = tls and Security(
        require_encryption=True, tls_ca_file=tls["ca"], tls_worker_cert=tls["cert"], tls_worker_key=tls["key"]
    )

    class Standin(Worker):
        async def close(self, *args, **kwargs):
            WAKE.set()
            return await super().close(*args, **kwargs)

    async with Standin(
        announced["address"], name=allocation, nthreads=2, security=security, memory_limit=0, dashboard=False,
        local_directory=str(run_dir / "scratch"),
    ) as worker:  # fmt: skip
        hello = WorkerHello(
            worker.address,
            allocation,
            allocation,
            "",
            "node",
            os.getpid(),
            "standin",
            2,
            2,
            None,
            0,
            None,
            1.0,
            "",
            "0",
        )
        _say(worker, hello)
        await worker.finished()


class ProcessBackend:
    """A batch system without queue or walltime; can be told to refuse."""

    def __init__(self, name: str = "local") -> None:
        self.name = name
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.refuse_with: list[Exception] = []
        self.refuse_cancel: list[Exception] = []
        self.cancelled: list[tuple[str, ...]] = []
        self.hold: asyncio.Event | None = None
        """When set, ``submit`` waits for it, and says in ``reached`` that it does."""
        self.reached = asyncio.Event()

    def check(self) -> None:
        """Need nothing."""

    async def submit(self, script: Path) -> str:
        if self.refuse_with:
            raise self.refuse_with.pop(0)
        if self.hold is not None:
            self.reached.set()
            await self.hold.wait()
        job_id = str(1000 + len(self.jobs))
        self._spawn(job_id, script)
        return job_id

    def _spawn(self, job_id: str, script: Path) -> None:
        with script.with_suffix(".log").open("wb") as log:
            self.jobs[job_id] = subprocess.Popen([script], stdout=log, stderr=log, start_new_session=True)

    async def status(self, job_ids):
        return {job_id: self._observe(job_id) for job_id in job_ids}

    def _observe(self, job_id: str) -> JobObservation:
        code = self.jobs[job_id].poll()
        if code is None:
            return JobObservation(job_id, JobState.RUNNING, "R")
        return JobObservation(job_id, JobState.ENDED, "E", ending=JobEnding(ExitReason.UNKNOWN, "E", exit_code=code))

    async def cancel(self, job_ids) -> None:
        if self.refuse_cancel:
            raise self.refuse_cancel.pop(0)
        self.cancelled.append(tuple(job_ids))
        for job_id in job_ids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.jobs[job_id].pid, signal.SIGTERM)

    async def find(self, _run_id):
        return [self._observe(job_id) for job_id in self.jobs if self.jobs[job_id].poll() is None]

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.jobs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def standin_script(run_dir: Path, request: AllocationRequest) -> str:
    """Render the job script of an allocation of stand-ins."""
    root = Path(__file__).parent.parent
    return (
        "#!/bin/bash\n"
        f"export PYTHONPATH='{root}' STANDIN_RUN_DIR='{run_dir}'\n"
        f"exec '{sys.executable}' -m tests.cluster_standin '{run_dir}' '{request.name}'\n"
    )


if __name__ == "__main__":
    # Under the name by which the driver's references find these functions, not as __main__.
    from tests import cluster_standin

    asyncio.run(cluster_standin._serve(Path(sys.argv[1]), sys.argv[2]))
