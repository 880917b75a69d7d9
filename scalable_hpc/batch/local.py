"""This machine as a batch system: runs the same rendered scripts as process groups, with queue, walltime and faults.

Rule 1: a job belongs to its shepherd process, not to the driver: it survives the driver, and a new one can observe,
cancel and find it through the spool directory.
Rule 2: blocking file work happens in worker threads, never on the caller's loop.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from scalable_hpc.batch import local_jobs, shepherd, spool
from scalable_hpc.batch.local_queue import LocalQueue
from scalable_hpc.batch.local_text import Capacity, LocalRequest, Waiting, parse_script, refuse_what_never_fits
from scalable_hpc.errors import BatchSilent, MissingCommandError, RunDirectoryError, SubmissionError
from scalable_hpc.model.allocations import JobObservation, JobState

KILL_WAIT_S = 3.0
"""Between SIGTERM and SIGKILL: time to flush a result, short enough to watch (Slurm's own default is 30 s)."""

_README = """The jobs of scalable_hpc's local batch system, one directory each; see scalable_hpc/batch/spool.py.
Remove it when no job of it runs any more.
"""
_JOB_ID = re.compile(r"local-([0-9]{1,9})")


T = TypeVar("T")


class LocalBackend:
    """A real little batch system on this machine.

    Args:
        spool_directory: where its jobs live; made (0700) with the first one. One spool, one driver at a time.
        cpus: how many jobs may take together; None: those this process may run on.
        memory: bytes likewise; None: memory is not counted.
        kill_wait_s: how long a job that has to end may take before it is killed.
        queue_wait_s: how long every job waits at least, to show what a busy machine does.
        places: names of what ``cpus`` counts (nodes, say): a job learns which are its own from
            ``$SCALABLE_HPC_PLACES``. Empty: cpus have no names.
        environ: environment of the jobs; None: ours at the moment of submission, as sbatch does.
    """

    name: str = "local"

    def __init__(
        self,
        spool_directory: Path,
        *,
        cpus: int | None = None,
        memory: int | None = None,
        kill_wait_s: float = KILL_WAIT_S,
        queue_wait_s: float = 0.0,
        places: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._spool = Path(spool_directory).resolve()
        self._total = Capacity(cpus if cpus is not None else _usable_cpus(), memory, max(1, len(places)))
        self._kill_wait_s = kill_wait_s
        self._queue_wait_s = queue_wait_s
        self._environ = environ
        self._queue = LocalQueue(self._total, places)

    def check(self) -> None:
        """Raise ``MissingCommandError`` where local jobs cannot be watched: only Linux has what they need."""
        if not Path("/proc/self/stat").exists() or not hasattr(signal, "sigtimedwait"):
            raise MissingCommandError(
                "local jobs need Linux's '/proc', which is not to be had here",
                hint="choose a target with 'provider: slurm', or start in a Linux container",
            )

    async def submit(self, script: Path) -> str:
        """Queue a script; it runs within a few dozen milliseconds where there is room.

        Raises:
            SubmissionError: the script cannot be read, or says what cannot be understood.
            LimitRefused: it asks for more than this machine offers.
            RunDirectoryError: the spool cannot be written.
        """
        return await asyncio.to_thread(self._submit, script)

    async def status(self, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
        """Observe jobs, of this driver or of an earlier one with the same spool; every id is in the answer."""
        return await self._in_thread(lambda: {job_id: self._observe(job_id) for job_id in job_ids})

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs: SIGTERM to all of their processes, SIGKILL after ``kill_wait_s``; returns before they are over."""
        await self._in_thread(lambda: self._order_all(list(job_ids), signal.SIGTERM))

    async def find(self, run_id: str) -> Sequence[JobObservation]:
        """Return every job in the spool that is not over and whose name starts with ``scalable-<run_id>-``."""
        return await self._in_thread(lambda: self._find(f"scalable-{run_id}-"))

    async def end_time(self, job_id: str) -> float | None:
        """Return when a running job's walltime will end it (seconds since the epoch)."""
        return (await self.status([job_id]))[job_id].ends_at

    def lose_node(self, job_id: str) -> None:
        """End a job as a power cut does: every process is killed at once, and its reason is NODE_FAIL."""
        self._order(job_id, shepherd.LOSE_NODE)

    def preempt(self, job_id: str) -> None:
        """Take a job's place away as a more important job does: grace as when cancelled, its reason PREEMPTED."""
        self._order(job_id, signal.SIGUSR1)

    def end_walltime(self, job_id: str) -> None:
        """End a job as if its walltime were over now: grace as then, its reason TIMEOUT."""
        self._order(job_id, shepherd.END_WALLTIME)

    def run_out_of_memory(self, job_id: str) -> None:
        """End a job as a batch system does whose limit it broke: killed at once, its reason OUT_OF_MEMORY."""
        self._order(job_id, shepherd.OUT_OF_MEMORY)

    def close(self) -> None:
        """Start no more jobs: those that wait are cancelled, those that run go on."""
        self._queue.close()

    async def _in_thread(self, verb: Callable[[], T]) -> T:
        """Do file work off the loop; a disk that fails is silence, not news of a job."""
        try:
            return await asyncio.to_thread(verb)
        except OSError as err:
            raise BatchSilent(f"the spool cannot be used: '{self._spool}' ({err})") from err

    def _submit(self, script: Path) -> str:
        try:
            text = script.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise SubmissionError(f"the job script cannot be read: '{script}' ({err})") from err
        if self._queue.is_closed:
            raise SubmissionError("this local batch system was closed: it starts no more jobs")
        request = parse_script(text)
        refuse_what_never_fits(request, self._total)
        now = time.time()
        try:
            directory = self._new_directory()
            (directory / spool.SCRIPT).write_text(text, encoding="utf-8")
            self._write_request(directory, request, now)
        except OSError as err:
            raise RunDirectoryError(f"the spool cannot be written: '{self._spool}' ({err.strerror})") from err
        waiting = Waiting(directory.name, request.cpus, request.memory, now + self._queue_wait_s)
        self._queue.add(waiting, directory, dict(os.environ if self._environ is None else self._environ))
        return directory.name

    def _new_directory(self) -> Path:
        if not self._spool.is_dir():
            self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._spool / "README").write_text(_README, encoding="utf-8")
        number = max(self._numbers(), default=0)
        while True:
            number += 1
            with suppress(FileExistsError):
                directory = self._spool / f"local-{number}"
                directory.mkdir(mode=0o700)
                return directory

    def _write_request(self, directory: Path, request: LocalRequest, now: float) -> None:
        output = (request.output or str(directory / spool.OUTPUT)).replace("%j", directory.name)
        chdir = Path.cwd() / (request.chdir or "")
        placed = replace(request, chdir=str(chdir), output=str(chdir / output))
        more = {
            "kill_wait_s": self._kill_wait_s,
            "submitted_at": now,
            "driver": spool.identity_of(os.getpid()),
        }
        spool.write_json(str(directory / spool.REQUEST), {**asdict(placed), **more})

    def _observe(self, job_id: str) -> JobObservation:
        if not _JOB_ID.fullmatch(job_id):
            return JobObservation(job_id, JobState.UNKNOWN, "", because="this is no local job id")
        seen = local_jobs.observe(self._spool / job_id)
        if seen.state is JobState.PENDING and (because := self._queue.because(job_id)):
            return replace(seen, because=because)
        return seen

    def _order_all(self, job_ids: Sequence[str], number: signal.Signals) -> None:
        for job_id in job_ids:
            self._order(job_id, number)

    def _order(self, job_id: str, number: signal.Signals) -> None:
        directory = self._spool / job_id
        if not _JOB_ID.fullmatch(job_id) or not directory.is_dir():
            return
        if number is signal.SIGTERM and local_jobs.give_up_before_start(directory, "before it started"):
            self._queue.rouse()
            return
        local_jobs.order(directory, number)

    def _find(self, prefix: str) -> list[JobObservation]:
        if not self._spool.is_dir():
            return []
        seen = [self._observe(f"local-{number}") for number in sorted(self._numbers())]
        over = (JobState.ENDED, JobState.UNKNOWN)
        return [job for job in seen if job.name.startswith(prefix) and job.state not in over]

    def _numbers(self) -> list[int]:
        return [int(match[1]) for entry in self._spool.iterdir() if (match := _JOB_ID.fullmatch(entry.name))]


def _usable_cpus() -> int:
    """Return how many CPUs this process may run on: less than the machine has in a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
