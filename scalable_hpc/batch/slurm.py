"""Slurm as a batch system: runs sbatch, squeue, sacct, scontrol and scancel, and asks ``slurm_text`` what they said.

Rule 1: thin. Reading and deciding are in ``slurm_text`` and ``slurm_words``.
Rule 2: one squeue for all jobs of a query; sacct only for those the controller has forgotten.
Rule 3: a controller that does not answer is ``BatchSilent``; accounting that does not answer leaves a job UNKNOWN.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scalable_hpc.batch.commands import CommandResult, CommandRunner
from scalable_hpc.batch.slurm_environment import query_environment, submit_environment
from scalable_hpc.batch.slurm_text import (
    SEPARATOR,
    job_name_in,
    parse_job_id,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
    refusal,
    sacct_format,
    says_accounting_is_off,
    says_unknown_job,
    squeue_format,
)
from scalable_hpc.batch.slurm_told import Told, merge_observations
from scalable_hpc.batch.slurm_words import cancel_is_moot, may_have_been_taken
from scalable_hpc.errors import BatchSilent, MissingCommandError, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState
from scalable_hpc.model.arrays import array_of, is_array_name, is_job_id, name_alone

IDS_PER_COMMAND = 500
"""Far below the 128 KiB that Linux allows one argument, and what one controller answers well within a second."""

SCONTROL_AT_MOST = 16
"""scontrol is asked about one job at a time, and only where there is no accounting: a few per query are enough."""


_VERBS = ("sbatch", "squeue", "sacct", "scontrol", "scancel")


@dataclass(frozen=True, slots=True)
class SlurmCommands:
    """What to call Slurm's commands, what to add to each, and how long to wait for an answer (seconds)."""

    sbatch: str = "sbatch"
    squeue: str = "squeue"
    sacct: str = "sacct"
    scontrol: str = "scontrol"
    scancel: str = "scancel"
    sbatch_args: tuple[str, ...] = ()
    squeue_args: tuple[str, ...] = ()
    sacct_args: tuple[str, ...] = ()
    scontrol_args: tuple[str, ...] = ()
    scancel_args: tuple[str, ...] = ()
    submit_timeout_s: float = 120.0
    """Submit filters of sites may talk to other services; an answer lost here may be a job gained."""
    query_timeout_s: float = 60.0
    """The clients themselves give up on an absent controller after 4 to 16 s, by MessageTimeout."""
    cancel_timeout_s: float = 60.0

    def of_cluster(self, name: str) -> SlurmCommands:
        """Return the commands for another cluster of the site: ids mean nothing without it, so each is told."""
        arguments = [f"{verb}_args" for verb in _VERBS]
        told: dict[str, Any] = {each: (*getattr(self, each), f"--clusters={name}") for each in arguments}
        return replace(self, **told)


@dataclass(slots=True)
class SlurmBackend:
    """The batch system Slurm, 20.11 and later.

    Args:
        commands: names, extra arguments and timeouts.
        runner: runs them; bounds how many are under way at once.
        environ: the environment of the commands, and so of the jobs; None: ours at the time of each call.
        find_command: ``shutil.which`` or a stand-in.
    """

    commands: SlurmCommands = field(default_factory=SlurmCommands)
    runner: CommandRunner = field(default_factory=CommandRunner)
    environ: Mapping[str, str] | None = None
    find_command: Callable[[str], str | None] = shutil.which
    accounting: str = "unknown"
    """``on`` or ``off`` once sacct has shown which."""
    name: str = "slurm"

    def check(self) -> None:
        """Raise ``MissingCommandError`` for the first command that is not to be had; sacct may be missing."""
        needed = (self.commands.sbatch, self.commands.squeue, self.commands.scancel, self.commands.scontrol)
        for command in needed:
            if self.find_command(command) is None:
                raise MissingCommandError(
                    f"Slurm's command '{command}' is not on PATH: '{self._environ().get('PATH', '')}'",
                    hint="start on a login node of the cluster, or load its module ('module load slurm'); "
                    "to run on this machine instead, choose a target with 'provider: local'",
                )

    async def submit(self, script: Path) -> str:
        """Submit a script with ``sbatch --parsable`` and return the job id, which may be an array's.

        When the answer is lost on its way, a job of the script's name is looked for, since names are never reused: if
        the controller has it, it is ours.

        Raises:
            SubmissionError: refused for good (``PartitionRefused``, ``LimitRefused``), with Slurm's own words.
            SubmissionDeferred: not now; try again later.
            BatchSilent: no answer, and no such job (yet): one may still appear, ``find`` will tell.
        """
        name = await asyncio.to_thread(_read_job_name, script)
        argv = [self.commands.sbatch, "--parsable", *self.commands.sbatch_args, str(script)]
        environment = submit_environment(self._environ())
        try:
            result = await self.runner.run(argv, timeout_s=self.commands.submit_timeout_s, env=environment)
        except BatchSilent:
            if (adopted := await self._job_named(name)) is not None:
                return adopted
            raise
        if result.rc == 0 and (job_id := parse_job_id(result.stdout)) is not None:
            return job_id
        answer_lost = result.rc == 0 or may_have_been_taken(result.stderr + result.stdout)
        if answer_lost and (adopted := await self._job_named(name)) is not None:
            return adopted
        raise _silence(result) if result.rc == 0 else refusal(result.rc, result.stdout, result.stderr)

    async def status(self, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
        """Observe jobs; the answer has every id that was asked for.

        Raises:
            BatchSilent: the controller gave no usable answer.
        """
        found: dict[str, JobObservation] = {}
        for ids in _in_parts([job_id for job_id in dict.fromkeys(job_ids) if is_job_id(job_id)]):
            found.update(await self._status(ids))
        for job_id in job_ids:
            if job_id not in found:
                found[job_id] = JobObservation(job_id, JobState.UNKNOWN, "", because="this is no Slurm job id")
        return found

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Run ``scancel`` on jobs; those that are over, unknown or another user's by now are no error.

        Raises:
            BatchSilent: the controller gave no usable answer.
        """
        for ids in _in_parts([job_id for job_id in dict.fromkeys(job_ids) if is_job_id(job_id)]):
            argv = [self.commands.scancel, *self.commands.scancel_args, *ids]
            result = await self._query(argv, self.commands.cancel_timeout_s)
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            if result.rc != 0 and not (lines and all(cancel_is_moot(line) for line in lines)):
                raise _silence(result)

    async def find(self, run_id: str) -> Sequence[JobObservation]:
        """Return every job of this user that is not over and whose name starts with ``scalable-<run_id>-``."""
        seen = await self._squeue("-u", str(os.getuid()))
        prefix = f"scalable-{run_id}-"
        return [job for job in seen.values() if job.name.startswith(prefix) and job.state is not JobState.ENDED]

    async def end_time(self, job_id: str) -> float | None:
        """Return when a running job's walltime will end it (seconds since the epoch); admins may extend it."""
        return (await self.status([job_id]))[job_id].ends_at

    async def _status(self, ids: Sequence[str]) -> dict[str, JobObservation]:
        queue = await self._squeue("-j", ",".join(ids))
        asked = [job_id for job_id in ids if job_id not in queue or _lacks_exit(queue[job_id])]
        rows, accounting = await self._sacct(asked)
        shown = await self._scontrol(asked) if accounting == "off" else {}
        missing = await self._missing_in_arrays([job_id for job_id in asked if job_id not in rows], queue)
        told = {
            job_id: Told(queue.get(job_id), rows.get(job_id), shown.get(job_id), accounting, job_id in missing)
            for job_id in ids
        }
        return {job_id: merge_observations(job_id, each) for job_id, each in told.items()}

    async def _missing_in_arrays(self, ids: Sequence[str], queue: Mapping[str, JobObservation]) -> set[str]:
        """Return the members that the controller does not know although it knows their arrays."""
        members = [job_id for job_id in ids if job_id not in queue and array_of(job_id) != job_id]
        known = {array_of(job_id) for job_id in queue}
        if doubtful := {array_of(job_id) for job_id in members} - known:
            known |= {array_of(job_id) for job_id in await self._squeue("-j", ",".join(sorted(doubtful)))}
        return {job_id for job_id in members if array_of(job_id) in known}

    async def _squeue(self, *which: str) -> dict[str, JobObservation]:
        argv = [
            self.commands.squeue,
            *self.commands.squeue_args,
            "-h",
            "-a",
            "-r",
            "-t",
            "all",
            "-O",
            squeue_format(),
            *which,
        ]
        result = await self._query(argv, self.commands.query_timeout_s)
        # Asked about one job alone that it does not know, squeue fails; about several, it leaves them out.
        if result.rc != 0 and not says_unknown_job(result.stderr):
            raise _silence(result)
        return parse_squeue(result.stdout)

    async def _sacct(self, ids: Sequence[str]) -> tuple[dict[str, JobObservation], str]:
        """Return the accounting's last row of each job, and whether accounting is on, off or silent."""
        if not ids or self.accounting == "off":
            return {}, self.accounting
        argv = [self.commands.sacct, *self.commands.sacct_args, "-X", "-n", "-P", "-D", f"--delimiter={SEPARATOR}"]
        argv += ["-j", ",".join(ids), "-o", sacct_format()]
        if self.find_command(self.commands.sacct) is None:
            self.accounting = "off"
            return {}, "off"
        try:
            result = await self._query(argv, self.commands.query_timeout_s)
        except BatchSilent:
            return {}, "silent"
        if result.rc == 0:
            self.accounting = "on"
            return parse_sacct(result.stdout), "on"
        if says_accounting_is_off(result.stderr):
            self.accounting = "off"
            return {}, "off"
        return {}, "silent"

    async def _scontrol(self, ids: Sequence[str]) -> dict[str, JobObservation]:
        shown: dict[str, JobObservation] = {}
        for job_id in ids[:SCONTROL_AT_MOST]:
            argv = [self.commands.scontrol, *self.commands.scontrol_args, "-o", "show", "job", job_id]
            try:
                result = await self._query(argv, self.commands.query_timeout_s)
            except BatchSilent:
                break
            shown.update(parse_scontrol(result.stdout))
        return shown

    async def _job_named(self, name: str | None) -> str | None:
        """Return the id of our job of this name when the controller has it; best effort."""
        if name is None:
            return None
        try:
            seen = await self._squeue("-u", str(os.getuid()))
        except BatchSilent:
            return None
        found = next((job.job_id for job in seen.values() if job.name == name_alone(name)), None)
        return array_of(found) if found is not None and is_array_name(name) else found

    async def _query(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        return await self.runner.run(argv, timeout_s=timeout_s, env=query_environment(self._environ()))

    def _environ(self) -> Mapping[str, str]:
        return os.environ if self.environ is None else self.environ


def _read_job_name(script: Path) -> str | None:
    try:
        return job_name_in(script.read_text(errors="replace"))
    except OSError as err:
        raise SubmissionError(f"the job script cannot be read: '{script}' ({err.strerror})") from err


def _in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), IDS_PER_COMMAND):
        yield ids[begin : begin + IDS_PER_COMMAND]


def _lacks_exit(job: JobObservation) -> bool:
    """Whether it is not yet known if a failed job ran at all."""
    end = job.ending
    return end is not None and end.reason is ExitReason.FAILED and end.exit_code is None and end.signal is None


def _silence(result: CommandResult) -> BatchSilent:
    words = result.stderr.strip() or result.stdout.strip() or "it printed nothing"
    return BatchSilent(
        f"'{result.argv[0]}' gave no usable answer (exit code {result.rc}): '{words}'", hint="see 'scontrol ping'"
    )
