"""PBS as a batch system: runs qsub, qstat, qselect and qdel, and asks ``pbs_text`` what they said.

Rule 1: thin. Reading and deciding are in ``pbs_text`` and ``pbs_words``.
Rule 2: one qstat for all jobs of a query. An exit code that is not 0 does not mean that there is no data.
Rule 3: a server that does not answer is ``BatchSilent``: jobs run on, and their ends are told when it is back.
Rule 4: where PBS keeps no history, a job that the server took and knows no more is over; its script's own last word
    (``endings``) tells how, as far as anything does.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scalable_hpc.batch.commands import CommandResult, CommandRunner
from scalable_hpc.batch.pbs_environment import query_environment, submit_environment
from scalable_hpc.batch.pbs_text import (
    Answer,
    Trailer,
    is_job_id,
    job_name_in,
    parse_ids,
    parse_job_id,
    parse_trailer,
    read_answer,
    refusal,
    vanished,
    version_in,
)
from scalable_hpc.batch.pbs_words import NO_SUCH_NODE_DAEMON, SERVER_IS_AWAY, cancel_is_moot, may_have_been_taken
from scalable_hpc.errors import BatchSilent, MissingCommandError, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState

IDS_PER_COMMAND = 500
"""Far below the length that Linux allows a command line, and what one server answers within a second or two."""
_VERSION_TIMEOUT_S = 10.0
"""``qstat --version`` asks nobody: longer is a broken file system, which the first submission will tell."""


@dataclass(frozen=True, slots=True)
class PbsCommands:
    """What to call PBS's commands, what to add to each, and how long to wait for an answer (seconds)."""

    qsub: str = "qsub"
    qstat: str = "qstat"
    qselect: str = "qselect"
    qdel: str = "qdel"
    qsub_args: tuple[str, ...] = ()
    qstat_args: tuple[str, ...] = ()
    qselect_args: tuple[str, ...] = ()
    qdel_args: tuple[str, ...] = ()
    submit_timeout_s: float = 120.0
    """Hooks of sites may talk to other services; an answer lost here may be a job gained."""
    query_timeout_s: float = 60.0
    cancel_timeout_s: float = 60.0


@dataclass(slots=True)
class PbsBackend:
    """The batch system PBS: OpenPBS and PBS Professional.

    Args:
        commands: names, extra arguments and timeouts.
        endings: where job scripts leave their last word, a file ``<job id>`` each; None: they leave none.
        runner: runs the commands; bounds how many are under way at once.
        environ: the environment of the commands; None: ours at the time of each call.
        find_command: ``shutil.which`` or a stand-in.
    """

    commands: PbsCommands = field(default_factory=PbsCommands)
    endings: Path | None = None
    runner: CommandRunner = field(default_factory=CommandRunner)
    environ: Mapping[str, str] | None = None
    find_command: Callable[[str], str | None] = shutil.which
    history: str = "unknown"
    """``on`` or ``off`` once qstat has shown which."""
    name: str = "pbs"
    _seen: dict[str, JobObservation | None] = field(default_factory=dict)
    """Jobs that the server took and that are not over, as last seen."""
    _cancelled: set[str] = field(default_factory=set)
    _cut_off: set[str] = field(default_factory=set)
    """Jobs that qdel could not reach: their node was down."""

    def check(self) -> None:
        """Raise ``MissingCommandError`` for the first command that is not to be had, or is not PBS's."""
        for command in (self.commands.qsub, self.commands.qstat, self.commands.qselect, self.commands.qdel):
            if self.find_command(command) is None:
                raise MissingCommandError(
                    f"PBS's command '{command}' is not on PATH: '{self._environ().get('PATH', '')}'",
                    hint="start on a login node of the cluster, or load its module ('module load pbs'); "
                    "to run on this machine instead, choose a target with 'provider: local'",
                )
        self._check_whose_qstat_it_is()

    async def submit(self, script: Path) -> str:
        """Submit a script with ``qsub`` and return the job id, as ``123.server``.

        When the answer is lost on its way, a job of the script's name is looked for, since names are never reused: if
        the server has it, it is ours.

        Raises:
            SubmissionError: refused for good (``PartitionRefused``, ``LimitRefused``), with PBS's own words.
            SubmissionDeferred: not now; try again later.
            BatchSilent: no answer, and no such job (yet): one may still appear, ``find`` will tell.
        """
        name = await asyncio.to_thread(_read_job_name, script)
        argv = [self.commands.qsub, *self.commands.qsub_args, str(script)]
        environment = submit_environment(self._environ())
        try:
            result = await self.runner.run(argv, timeout_s=self.commands.submit_timeout_s, env=environment)
        except BatchSilent:
            if (adopted := await self._job_named(name)) is not None:
                return self._taken(adopted)
            raise
        if result.rc == 0 and (job_id := parse_job_id(result.stdout)) is not None:
            return self._taken(job_id)
        answer_lost = result.rc == 0 or may_have_been_taken(result.rc, result.stderr + result.stdout)
        if answer_lost and (adopted := await self._job_named(name)) is not None:
            return self._taken(adopted)
        raise _silence(result) if result.rc == 0 else refusal(result.rc, result.stdout, result.stderr)

    async def status(self, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
        """Observe jobs; the answer has every id that was asked for.

        Raises:
            BatchSilent: the server gave no usable answer.
        """
        found: dict[str, JobObservation] = {}
        for ids in _in_parts([job_id for job_id in dict.fromkeys(job_ids) if is_job_id(job_id)]):
            found.update(await self._status(tuple(ids)))
        for job_id in job_ids:
            if job_id not in found:
                found[job_id] = JobObservation(job_id, JobState.UNKNOWN, "", because="this is no PBS job id")
        return found

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Run ``qdel`` on jobs; those that are over, unknown or another user's by now are no error.

        A job whose node is down cannot be told to end: it is removed by force.

        Raises:
            BatchSilent: the server gave no usable answer.
        """
        for ids in _in_parts([job_id for job_id in dict.fromkeys(job_ids) if is_job_id(job_id)]):
            cut_off = await self._qdel(ids)
            if cut_off:
                self._cut_off.update(cut_off)
                await self._qdel(cut_off, "-W", "force")
            self._cancelled.update(job_id for job_id in ids if job_id in self._seen)

    async def find(self, run_id: str) -> Sequence[JobObservation]:
        """Return every job of this user that is not over and whose name starts with ``scalable-<run_id>-``."""
        prefix = f"scalable-{run_id}-"
        jobs = [job for job in await self._mine() if job.name.startswith(prefix) and job.state is not JobState.ENDED]
        self._seen.update({job.job_id: job for job in jobs})
        return jobs

    async def end_time(self, job_id: str) -> float | None:
        """Return when a running job's walltime will end it (seconds since the epoch); admins may extend it."""
        return (await self.status([job_id]))[job_id].ends_at

    async def _status(self, ids: tuple[str, ...]) -> dict[str, JobObservation]:
        answer = await self._qstat(ids)
        observed = {job_id: self._as_ended(job) for job_id, job in answer.jobs.items()}
        for job_id in ids:
            if job_id not in observed:
                observed[job_id] = await asyncio.to_thread(self._without_a_record, job_id, answer)
        for job_id, job in observed.items():
            if job.state is JobState.ENDED:
                self._seen.pop(job_id, None)
                self._cancelled.discard(job_id)
            elif job.state is not JobState.UNKNOWN:
                self._seen[job_id] = job
        return observed

    async def _qstat(self, ids: tuple[str, ...]) -> Answer:
        """Ask about jobs, with their history where PBS keeps one."""
        for with_history in (True, False) if self.history != "off" else (False, True):
            argv = [self.commands.qstat, *self.commands.qstat_args, *(["-x"] if with_history else []), "-f", *ids]
            result = await self._query(argv, self.commands.query_timeout_s)
            answer = read_answer(result.rc, result.stdout, result.stderr, ids)
            if answer.is_silent:
                raise _silence(result)
            if answer.has_no_history:
                self.history = "off"
            elif answer.finished:
                self.history = "on"  # switched on meanwhile: ask again, with it
            else:
                self.history = "on" if with_history else self.history
                return answer
        raise _silence(result)

    def _without_a_record(self, job_id: str, answer: Answer) -> JobObservation:
        """Say what is known of a job that the server does not know."""
        if job_id not in answer.unknown:
            return JobObservation(job_id, JobState.UNKNOWN, "", because="qstat said nothing of the job")
        trailer = self._trailer(job_id)
        if trailer is not None or (self.history == "off" and job_id in self._seen):
            was_cancelled = job_id in self._cancelled
            seen = self._seen.get(job_id)
            ended = vanished(job_id, seen, trailer=trailer, was_cancelled=was_cancelled, now=time.time())
            return self._as_ended(ended)
        history = "it keeps no history" if self.history == "off" else "nor does its history"
        return JobObservation(job_id, JobState.UNKNOWN, "", because=f"the server does not know the job; {history}")

    def _as_ended(self, job: JobObservation) -> JobObservation:
        """Name the node's loss as the reason where a job was removed by force because of it."""
        end = job.ending
        if end is None or job.job_id not in self._cut_off or end.reason is not ExitReason.CANCELLED:
            return job
        raw = f"{end.raw}; its node was down when it was deleted"
        return replace(job, ending=replace(end, reason=ExitReason.NODE_FAIL, raw=raw))

    def _trailer(self, job_id: str) -> Trailer | None:
        if self.endings is None:
            return None
        path = self.endings / job_id
        try:
            return parse_trailer(path.read_text(errors="replace"), path.stat().st_mtime)
        except OSError:
            return None

    async def _qdel(self, ids: Sequence[str], *options: str) -> list[str]:
        """Delete jobs; return those whose node's daemon could not be reached."""
        argv = [self.commands.qdel, *self.commands.qdel_args, *options, *ids]
        result = await self._query(argv, self.commands.cancel_timeout_s)
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        cut_off = [match[1] for line in lines if (match := NO_SUCH_NODE_DAEMON.search(line))]
        others = [line for line in lines if not cancel_is_moot(line) and not NO_SUCH_NODE_DAEMON.search(line)]
        if result.rc != 0 and (others or not lines):
            raise _silence(result)
        return [job_id for job_id in cut_off if is_job_id(job_id)] if not options else []

    async def _mine(self) -> list[JobObservation]:
        """Every job of this user that is not over."""
        argv = [self.commands.qselect, *self.commands.qselect_args, "-u", _user()]
        result = await self._query(argv, self.commands.query_timeout_s)
        if result.rc != 0 or SERVER_IS_AWAY.search(result.stderr):
            raise _silence(result)
        found: list[JobObservation] = []
        for ids in _in_parts(parse_ids(result.stdout)):
            found += (await self._qstat(tuple(ids))).jobs.values()
        return found

    async def _job_named(self, name: str | None) -> str | None:
        """Return the id of our job of this name when the server has it; best effort."""
        if name is None:
            return None
        try:
            jobs = await self._mine()
        except BatchSilent:
            return None
        return next((job.job_id for job in jobs if job.name == name), None)

    async def _query(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        return await self.runner.run(argv, timeout_s=timeout_s, env=query_environment(self._environ()))

    def _taken(self, job_id: str) -> str:
        self._seen[job_id] = None
        return job_id

    def _check_whose_qstat_it_is(self) -> None:
        """Refuse Torque, and the wrappers that other systems bring along: their qstat means other things."""
        argv = [self.commands.qstat, *self.commands.qstat_args, "--version"]
        environment = query_environment(self._environ())
        try:
            answer = subprocess.run(
                argv, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False, env=environment
            )
        except (OSError, subprocess.SubprocessError):
            return
        if version_in(answer.stdout) is None:
            said = (answer.stderr.strip() or answer.stdout.strip() or "nothing").splitlines()[0]
            raise MissingCommandError(
                f"'{self.commands.qstat}' is not PBS's: asked for its version it says '{said}'. OpenPBS and PBS "
                "Professional are supported; Torque, which has commands of the same names, is not",
                hint="put OpenPBS's commands first on PATH, or name them under 'commands' in the target",
            )

    def _environ(self) -> Mapping[str, str]:
        return os.environ if self.environ is None else self.environ


def _read_job_name(script: Path) -> str | None:
    try:
        text = script.read_text(errors="replace")
    except OSError as err:
        raise SubmissionError(f"the job script cannot be read: '{script}' ({err.strerror})") from err
    if not text.startswith("#!"):
        # qsub takes anything for a script, and a login shell of whichever kind would run it
        raise SubmissionError(f"the job script does not begin with '#!': '{script}'")
    return job_name_in(text)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), IDS_PER_COMMAND):
        yield ids[begin : begin + IDS_PER_COMMAND]


def _silence(result: CommandResult) -> BatchSilent:
    words = result.stderr.strip() or result.stdout.strip() or "it printed nothing"
    return BatchSilent(
        f"'{result.argv[0]}' gave no usable answer (exit code {result.rc}): '{words}'", hint="see 'qstat -B'"
    )
