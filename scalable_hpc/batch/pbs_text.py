"""What PBS's commands print, read into observations; OpenPBS, and PBS Professional from 14 on.

The source is ``qstat -f``, as text: of JSON there are builds that answer about the first job only, and builds that
write what no parser reads. Text is folded at some 79 columns, anywhere; a value may hold line breaks of its own.

Rule 1: pure: text in, facts out. Running the commands is ``pbs``'s work.
Rule 2: no text raises. An attribute that cannot be read is left out, a state that is not known is UNKNOWN.
Rule 3: nobody's silence ends a job. Only state F does, or, where PBS keeps no history, the server's answer that it
    does not know a job that it had taken.

Dates are printed by the commands in local time, without a zone; they are read as local time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scalable_hpc.batch.pbs_values import parse_integer, parse_nodes, parse_span, parse_time
from scalable_hpc.batch.pbs_words import (
    FINISHED,
    HAS_FINISHED,
    HISTORY_IS_OFF,
    SERVER_IS_AWAY,
    STATES,
    UNKNOWN_JOB,
    WAITS_FOR_OTHERS,
    Finish,
    refusal_class,
    why_ended,
    why_it_is_stuck,
    why_it_never_runs,
)
from scalable_hpc.errors import ScalableError
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState

_READ = frozenset(
    {
        "Job_Name", "job_state", "substate", "Exit_status", "comment", "exec_host", "qtime", "ctime", "stime",
        "obittime", "mtime", "run_count", "resources_used.walltime", "resources_used.diag_messages",
        "Resource_List.walltime", "estimated.start_time", "Hold_Types",
    }
)  # fmt: skip
"""All others are passed over: Variable_List alone may hold anything, lines that look like attributes included."""

_JOB_ID = re.compile(r"[0-9]{1,18}(?:\[[0-9]*\])?\.[A-Za-z0-9._-]+")
_ID_LINE = re.compile(r"Job Id: (\S+)\s*")
_ATTRIBUTE = re.compile(r" {4}([A-Za-z_][\w.]*) = ?(.*)")
_NAME_DIRECTIVE = re.compile(r"(?m)^#PBS[ \t]+-N[ \t]*[\"']?([^\s\"']+)")
_VERSION = re.compile(r"(?m)^pbs_version = (\S+)")


def parse_qstat(text: str) -> dict[str, JobObservation]:
    """Read ``qstat -f`` of any number of jobs, whole or folded; jobs by id, as the server prints them."""
    return {job_id: observe(job_id, attributes) for job_id, attributes in _records(text)}


def observe(job_id: str, attributes: Mapping[str, str]) -> JobObservation:
    """Say what a job with these attributes is doing."""
    letter, comment = attributes.get("job_state", ""), attributes.get("comment", "")
    substate, runs = parse_integer(attributes.get("substate")), parse_integer(attributes.get("run_count")) or 0
    started = parse_time(attributes.get("stime", ""))
    walltime_s = parse_span(attributes.get("Resource_List.walltime", ""))
    state = JobState.ENDED if letter in FINISHED else STATES.get(letter, JobState.UNKNOWN)
    waits = state in (JobState.PENDING, JobState.HELD)
    has_started = not waits and state is not JobState.UNKNOWN
    raw = f"{letter or 'no state'}" + (f" {substate}" if substate is not None else "")
    nodes = parse_nodes(attributes.get("exec_host", "")) if has_started else ()
    seen = JobObservation(
        job_id=job_id,
        state=state,
        raw=f"{raw} ({comment})" if comment else raw,
        because=_why(state, comment, substate, attributes) if state is not JobState.ENDED else "",
        name=attributes.get("Job_Name", ""),
        submitted_at=parse_time(attributes.get("ctime", "")),
        started_at=started if has_started else None,
        ends_at=started + walltime_s if has_started and started is not None and walltime_s is not None else None,
        nodes=nodes,
        # run_count counts starts; what waits again has run before.
        restarts=max(0, runs if waits else runs - 1),
        expected_start=parse_time(attributes.get("estimated.start_time", "")) if waits else None,
    )
    if state is not JobState.ENDED:
        return seen
    return replace(seen, ends_at=None, ending=_ending(attributes, nodes, seen.raw, walltime_s))


def _why(state: JobState, comment: str, substate: int | None, attributes: Mapping[str, str]) -> str:
    """Return PBS's comment, or what its attributes say of a hold for which it has none."""
    if comment or state is not JobState.HELD:
        return comment
    if substate == WAITS_FOR_OTHERS:
        return "waits for other jobs (depend)"
    return f"held (Hold_Types = {attributes.get('Hold_Types', 'n')})"


def _ending(attributes: Mapping[str, str], nodes: tuple[str, ...], raw: str, walltime_s: float | None) -> JobEnding:
    end = Finish(
        exit_status=parse_integer(attributes.get("Exit_status")),
        substate=parse_integer(attributes.get("substate")),
        comment=attributes.get("comment", ""),
        diagnosis=attributes.get("resources_used.diag_messages", ""),
        used_s=parse_span(attributes.get("resources_used.walltime", "")),
        walltime_s=walltime_s,
    )
    status = end.exit_status
    plain = status is not None and status >= 0 and end.signal is None
    words = [raw] if status is None else [raw, f"Exit_status {status}"]
    return JobEnding(
        reason=why_ended(end),
        raw="; ".join([*words, *filter(None, [end.diagnosis])]),
        exit_code=status if plain else None,
        signal=end.signal,
        ended_at=parse_time(attributes.get("obittime", "") or attributes.get("mtime", "")),
        nodes=nodes,
    )


def _records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each job's id and the attributes that we read; lines of other attributes' values are passed over."""
    job_id, name = "", ""
    attributes: dict[str, str] = {}
    # Not splitlines(): values may hold any other character that it splits at.
    for line in text.split("\n"):
        if begins := _ID_LINE.fullmatch(line):
            if job_id:
                yield job_id, attributes
            job_id, attributes, name = begins[1] if _JOB_ID.fullmatch(begins[1]) else "", {}, ""
        elif attribute := _ATTRIBUTE.fullmatch(line.rstrip("\r")):
            # The first one counts: an environment's value cannot overwrite what stands before it.
            name = attribute[1] if attribute[1] in _READ and attribute[1] not in attributes else ""
            if name:
                attributes[name] = attribute[2]
        elif line.startswith("\t") and name:
            attributes[name] += line[1:].rstrip("\r")
        else:
            name = ""
    if job_id:
        yield job_id, attributes


@dataclass(frozen=True, slots=True)
class Answer:
    """What one qstat said of the jobs that it was asked about."""

    jobs: Mapping[str, JobObservation]
    unknown: frozenset[str] = frozenset()
    """Ids that the server says it does not know."""
    finished: frozenset[str] = frozenset()
    """Ids of which it says that they are over, and no more (asked without ``-x``)."""
    is_silent: bool = False
    """No server answered, or with words that we do not know and no word on some job."""
    has_no_history: bool = False
    """PBS keeps none: it has said nothing at all about jobs, running ones included."""


def read_answer(rc: int, stdout: str, stderr: str, asked: tuple[str, ...]) -> Answer:
    """Sort out a qstat: with an exit code that is not 0 there may be data, with 0 there may be none.

    Args:
        rc: the exit code: that of the last error.
        stdout: the jobs that the server knows.
        stderr: a line for each error.
        asked: the ids that were asked about.
    """
    jobs = match_ids(parse_qstat(stdout), asked)
    unknown = _named(UNKNOWN_JOB, stderr, asked)
    finished = _named(HAS_FINISHED, stderr, asked)
    has_no_history = HISTORY_IS_OFF.search(stderr) is not None
    left = set(asked) - set(jobs) - unknown - finished
    is_silent = SERVER_IS_AWAY.search(stderr) is not None or (rc != 0 and bool(left) and not has_no_history)
    return Answer(jobs, frozenset(unknown), frozenset(finished), is_silent, has_no_history)


def match_ids(jobs: Mapping[str, JobObservation], asked: tuple[str, ...]) -> dict[str, JobObservation]:
    """Return the jobs that were asked about, under the ids that we know them by.

    A server may go by several names; the number before the first dot is the same in all of them.
    """
    by_number = {number_of(job_id): job for job_id, job in jobs.items()}
    found = {job_id: jobs.get(job_id) or by_number.get(number_of(job_id)) for job_id in asked}
    return {job_id: replace(job, job_id=job_id) for job_id, job in found.items() if job is not None}


def _named(pattern: re.Pattern[str], stderr: str, asked: tuple[str, ...]) -> set[str]:
    numbers = {number_of(job_id) for job_id in pattern.findall(stderr)}
    return {job_id for job_id in asked if number_of(job_id) in numbers}


def number_of(job_id: str) -> str:
    """Return what is before the first dot of a job id: ``123`` or ``123[]``."""
    return job_id.partition(".")[0]


def is_job_id(text: str) -> bool:
    """Whether this is a whole job id, ``123.server``."""
    return _JOB_ID.fullmatch(text) is not None


def parse_job_id(stdout: str) -> str | None:
    """Return the job id that qsub printed, below whatever banner a site puts above it."""
    return next((line.strip() for line in reversed(stdout.splitlines()) if is_job_id(line.strip())), None)


def parse_ids(stdout: str) -> tuple[str, ...]:
    """Return the ids that qselect printed, a line each."""
    return tuple(line.strip() for line in stdout.splitlines() if is_job_id(line.strip()))


def job_name_in(script: str) -> str | None:
    """Return the job name that a script's ``#PBS`` lines give, as qsub reads them: the last one counts."""
    names = _NAME_DIRECTIVE.findall(script)
    return names[-1] if names else None


def version_in(stdout: str) -> str | None:
    """Return the version that ``qstat --version`` of OpenPBS or PBS Professional prints; None for any other qstat."""
    match = _VERSION.search(stdout)
    return match[1] if match else None


def refusal(rc: int, stdout: str, stderr: str) -> ScalableError:
    """Return the error for a qsub that gave no job id: ``SubmissionError`` for good, ``SubmissionDeferred`` not.

    The exit code decides: the text may be that of an earlier error.
    """
    lines = [line.strip() for line in (stderr + "\n" + stdout).splitlines() if line.strip()]
    words = "\n".join(dict.fromkeys(line.removeprefix("qsub: ").strip() for line in lines))
    error, meaning, hint = refusal_class(rc)
    code = f"exit code {rc}: {meaning}" if meaning else f"exit code {rc}"
    return error(f"qsub refused the job ({code}): '{words or 'it printed nothing'}'", hint=hint)


def never_runs(reason: str) -> str | None:
    """Say why a job that waits with this comment (``JobObservation.because``) will never run; None: it may."""
    return why_it_never_runs(reason)


def stuck(reason: str) -> str | None:
    """Say why a job that waits with this comment has no turn in the queue yet; None: it has."""
    return why_it_is_stuck(reason)


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a job's own script left behind at its end."""

    exit_code: int
    at: float | None = None


def parse_trailer(text: str, at: float | None) -> Trailer | None:
    """Read the line that a job script writes at its end, ``exit 3``; None for anything else."""
    word, _, code = text.strip().partition(" ")
    number = parse_integer(code)
    return Trailer(number, at) if word == "exit" and number is not None and number >= 0 else None


def vanished(
    job_id: str, last: JobObservation | None, *, trailer: Trailer | None, was_cancelled: bool, now: float
) -> JobObservation:
    """Say how a job ended that the server took and does not know any more, where PBS keeps no history.

    Args:
        job_id: the job.
        last: what was last seen of it; None: nothing was.
        trailer: its script's last word.
        was_cancelled: whether we have deleted it.
        now: seconds since the epoch.
    """
    last = last or JobObservation(job_id, JobState.UNKNOWN, "")
    code, raw = None, "gone, and PBS keeps no history"
    if was_cancelled:
        reason, raw = ExitReason.CANCELLED, f"{raw}; it was deleted by us"
    elif last.ends_at is not None and (trailer.at if trailer and trailer.at else now) >= last.ends_at:
        reason, raw = ExitReason.TIMEOUT, f"{raw}; its walltime was over"
    elif trailer is not None:
        reason, code = ExitReason.COMPLETED if trailer.exit_code == 0 else ExitReason.FAILED, trailer.exit_code
        raw = f"{raw}; its script ended with exit code {code}"
    else:
        reason = ExitReason.UNKNOWN
    ending = JobEnding(
        reason, raw, exit_code=code, ended_at=trailer.at if trailer and trailer.at else now, nodes=last.nodes
    )
    return replace(last, state=JobState.ENDED, raw=raw, because="", ends_at=None, ending=ending)
