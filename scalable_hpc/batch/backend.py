"""The port that every batch system satisfies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from scalable_hpc.model.allocations import JobObservation


class BatchBackend(Protocol):
    """A batch system: five verbs, each with a timeout of its own.

    Every verb raises ``BatchSilent`` when the system gives no usable answer in time; silence never ends a job.
    """

    name: str
    """``"slurm"``, ``"pbs"``, ``"local"``: also the name of the template folder."""

    def check(self) -> None:
        """Raise ``MissingCommandError`` when a command that this backend needs is not to be had."""

    async def submit(self, script: Path) -> str:
        """Submit a rendered script and return the job id; of an array of jobs, its own (``arrays.member_id``).

        Raises:
            SubmissionError: refused for good (``PartitionRefused``, ``LimitRefused``), with the system's words.
            SubmissionDeferred: not now (submit limit, controller busy): the caller backs off and tries again.
        """

    async def status(self, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
        """Observe many jobs with one query; a job that nobody knows any more is ENDED or UNKNOWN, never left out."""

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs; those that are unknown or over already are no error."""

    async def find(self, run_id: str) -> Sequence[JobObservation]:
        """Every job of this user that is not over and whose name starts with ``scalable-<run_id>-``."""
