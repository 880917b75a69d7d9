"""What Slurm's commands print, read into observations; written for 20.11 to 25.x.

Rule 1: pure: text in, facts out. Running the commands is ``slurm``'s work.
Rule 2: no text raises. A line that cannot be read is left out, a state that is not known is UNKNOWN with its words.
Rule 3: nobody's silence ends a job: only a word of ``slurm_words.ENDINGS`` does.

Times are asked for as seconds since the epoch (``SLURM_TIME_FORMAT=%s``); where a Slurm prints ISO times all the
same they are taken as UTC, which is what the commands are told to print in (``TZ=UTC``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from scalable_hpc.batch.slurm_values import expand_nodes, parse_exit_code, parse_time
from scalable_hpc.batch.slurm_words import (
    ACCOUNTING_ENDINGS,
    CANNOT_LAUNCH,
    ENDINGS,
    ENDINGS_THAT_TELL_AN_EXIT,
    HELD_REASONS,
    RAN_OUT_OF_MEMORY,
    STATES,
    refusal_class,
    why_it_is_stuck,
    why_it_never_runs,
)
from scalable_hpc.errors import ScalableError
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.arrays import name_of_member, unfold

SEPARATOR = "\x1f"
"""Between fields: ASCII's own unit separator, in no job name, comment, node list or reason."""

SQUEUE_FIELDS: tuple[tuple[str, str, int], ...] = (
    # (squeue --Format name, our name, width): squeue pads to the width and cuts what is longer.
    ("JobArrayID", "id", 40),
    ("State", "state", 24),
    ("Reason", "reason", 160),
    ("SubmitTime", "submit", 24),
    ("StartTime", "start", 24),
    ("EndTime", "end", 24),
    ("RestartCnt", "restarts", 8),
    ("exit_code", "exit", 12),
    ("Name", "name", 200),
    ("Comment", "comment", 200),
    ("NodeList", "nodes", 2000),
)
SACCT_FIELDS: tuple[tuple[str, str], ...] = (
    ("JobID", "id"),
    ("State", "state"),
    ("ExitCode", "exit"),
    ("Submit", "submit"),
    ("Start", "start"),
    ("End", "end"),
    ("JobName", "name"),
    ("Comment", "comment"),
    ("NodeList", "nodes"),
)
_SQUEUE_NAMES = tuple(name for _, name, _ in SQUEUE_FIELDS)
_SACCT_NAMES = tuple(name for _, name in SACCT_FIELDS)
_SCONTROL_FIELDS = {
    "JobId": "id",
    "ArrayJobId": "array",
    "ArrayTaskId": "index",
    "JobState": "state",
    "Reason": "reason",
    "ExitCode": "exit",
    "Restarts": "restarts",
    "SubmitTime": "submit",
    "StartTime": "start",
    "EndTime": "end",
    "JobName": "name",
    "Comment": "comment",
    "NodeList": "nodes",
}

_NOTHING = frozenset({"", "none", "n/a", "(null)", "unknown", "none assigned", "invalid", "null"})
_PARSABLE = re.compile(r"([0-9]{1,18})(?:;[\w.-]+)?")
_SUBMITTED = re.compile(r"Submitted batch job ([0-9]{1,18})\b")
_SCONTROL_KEY = re.compile(r"(?:^|\s)([A-Z][A-Za-z/:]*)=")
_JOB_NAME = re.compile(r"(?m)^#SBATCH[ \t]+(?:--job-name[= ]|-J[ \t]*)[\"']?([^\s\"']+)")
_STATE_WORD = re.compile(r"[A-Z][A-Z_]*")
_COUNT = re.compile(r"[0-9]{1,9}")
_RAISED_SIGNAL = re.compile(r"RaisedSignal:([0-9]{1,3})")


def squeue_format() -> str:
    """Return the argument of ``squeue --Format`` whose output ``parse_squeue`` reads."""
    return ",".join(f"{name}:{width}{SEPARATOR}" for name, _, width in SQUEUE_FIELDS)


def sacct_format() -> str:
    """Return the argument of ``sacct --format`` whose output ``parse_sacct`` reads."""
    return ",".join(name for name, _ in SACCT_FIELDS)


def parse_squeue(
    text: str, fields: Sequence[str] = _SQUEUE_NAMES, separator: str = SEPARATOR
) -> dict[str, JobObservation]:
    """Read ``squeue -h -t all`` by named fields; jobs by id. Lines with another number of fields are left out."""
    found: dict[str, JobObservation] = {}
    for row in _rows(text, fields, separator):
        found[row["id"]] = _observe(row, ENDINGS)
    return found


def parse_sacct(
    text: str, fields: Sequence[str] = _SACCT_NAMES, separator: str = SEPARATOR
) -> dict[str, JobObservation]:
    """Read ``sacct -n -P -D``; one observation per job: its last incarnation, counted in ``restarts``.

    Steps (``12.batch``) and a header are left out. Rows come in the order of their submission; a requeued job has a
    row for each incarnation under the same id.
    """
    found: dict[str, JobObservation] = {}
    for row in _rows(text, fields, separator):
        seen = _observe(row, ACCOUNTING_ENDINGS)
        before = found.get(seen.job_id)
        found[seen.job_id] = seen if before is None else replace(seen, restarts=before.restarts + 1)
    return found


def parse_scontrol(text: str) -> dict[str, JobObservation]:
    """Read ``scontrol show job`` with or without ``-o``; jobs by id."""
    found: dict[str, JobObservation] = {}
    for record in re.split(r"(?m)^(?=JobId=)", text):
        keys = list(_SCONTROL_KEY.finditer(record))
        ends = [key.start() for key in keys[1:]] + [len(record)]
        row: dict[str, str] = {}
        for key, end in zip(keys, ends, strict=False):
            if (field := _SCONTROL_FIELDS.get(key[1])) is not None:
                # The first one counts: a job's name or comment cannot overwrite what stands before it.
                row.setdefault(field, record[key.end() : end].strip())
        for each in _single(row, _scontrol_id(row)) if row.get("state") else ():
            found[each["id"]] = _observe(each, ENDINGS)
    return found


def parse_job_id(stdout: str) -> str | None:
    """Return the job id that ``sbatch --parsable`` printed, below whatever banner a site puts above it."""
    for line in reversed(stdout.splitlines()):
        if match := _PARSABLE.fullmatch(line.strip()) or _SUBMITTED.search(line):
            return match[1]
    return None


def job_name_in(script: str) -> str | None:
    """Return the job name that a script's ``#SBATCH`` lines give, as sbatch reads them: the last one counts."""
    names = _JOB_NAME.findall(script)
    return names[-1] if names else None


def refusal(rc: int, stdout: str, stderr: str) -> ScalableError:
    """Return the error for an sbatch that gave no job id: ``SubmissionError`` for good, ``SubmissionDeferred`` not."""
    lines = [line.strip() for line in (stderr + "\n" + stdout).splitlines() if line.strip()]
    words = "\n".join(dict.fromkeys(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines))
    error, hint = refusal_class(words)
    return error(f"sbatch refused the job (exit code {rc}): '{words or 'it printed nothing'}'", hint=hint)


def never_runs(reason: str) -> str | None:
    """Say why a job that is pending for this reason (``JobObservation.because``) will never run; None: it may."""
    return why_it_never_runs(reason)


def stuck(reason: str) -> str | None:
    """Say why a job that is pending for this reason has no turn in the queue yet; None: it has."""
    return why_it_is_stuck(reason)


def says_unknown_job(stderr: str) -> bool:
    """Whether squeue or scontrol failed only because it does not know the one job it was asked about."""
    return "invalid job id specified" in stderr.lower()


def says_accounting_is_off(stderr: str) -> bool:
    """Whether sacct failed because this cluster keeps no accounting, as opposed to its database being away."""
    return "accounting storage is disabled" in stderr.lower()


def _rows(text: str, fields: Sequence[str], separator: str) -> Iterable[dict[str, str]]:
    # Not splitlines(): that also splits at \x1c-\x1e and other characters that names may hold.
    for line in text.split("\n"):
        values = line.rstrip("\r").split(separator)
        if len(values) == len(fields) + 1 and not values[-1].strip():
            values.pop()  # squeue puts the separator behind every field, the last one too
        row = {name: value.strip() for name, value in zip(fields, values, strict=False)}
        if len(values) == len(fields) and row["state"]:
            yield from _single(row, row["id"])


def _single(row: Mapping[str, str], printed_id: str) -> Iterable[dict[str, str]]:
    """Yield the row for each job that its id stands for: members of an array that wait may be printed as one."""
    return ({**row, "id": job_id} for job_id in unfold(printed_id))


def _scontrol_id(row: Mapping[str, str]) -> str:
    """Return a job's id: in an array, the array's and the index, of which there may be several."""
    index = row.get("index", "")
    return f"{row['array']}_{index if index.isdigit() else f'[{index}]'}" if "array" in row else row.get("id", "")


def _observe(row: Mapping[str, str], endings: Mapping[str, ExitReason]) -> JobObservation:
    printed, reason = row["state"], _text(row.get("reason", ""))
    raw = f"{printed} ({reason})" if reason else printed
    word = _STATE_WORD.match(printed)
    state_word = word[0] if word else ""
    state = STATES.get(state_word, JobState.UNKNOWN)
    ending = None
    if state_word in endings:
        state, ending = JobState.ENDED, _ending(endings[state_word], raw, reason, row)
    elif state is JobState.PENDING and HELD_REASONS.search(reason):
        state = JobState.HELD
    # The start and end of a job that waits are forecasts of the scheduler, not facts.
    has_started = state in (JobState.RUNNING, JobState.SUSPENDED, JobState.ENDING, JobState.ENDED)
    return JobObservation(
        job_id=row["id"],
        state=state,
        raw=raw,
        because=reason,
        name=name_of_member(_text(row.get("name", "")), row["id"]),
        comment=_text(row.get("comment", "")),
        submitted_at=parse_time(row.get("submit", "")),
        started_at=parse_time(row.get("start", "")) if has_started else None,
        ends_at=parse_time(row.get("end", "")) if has_started and ending is None else None,
        nodes=expand_nodes(_text(row.get("nodes", ""))) if has_started else (),
        ending=ending,
        restarts=_count(row.get("restarts", "")),
        expected_start=parse_time(row.get("start", "")) if state is JobState.PENDING else None,
    )


def _ending(reason: ExitReason, raw: str, words: str, row: Mapping[str, str]) -> JobEnding:
    code, signal = parse_exit_code(row.get("exit", ""))
    if signal is None and (raised := _RAISED_SIGNAL.search(words)):
        signal = int(raised[1])
    if reason is ExitReason.FAILED and signal == CANNOT_LAUNCH:
        reason = ExitReason.LAUNCH_FAILED
    if reason not in ENDINGS_THAT_TELL_AN_EXIT:
        code, signal = None, None
    if signal in (CANNOT_LAUNCH, RAN_OUT_OF_MEMORY):
        signal = None
    if code == 0 and reason is not ExitReason.COMPLETED:
        code = None  # what Slurm prints when no process ended by itself
    return JobEnding(
        reason=reason,
        raw=raw,
        exit_code=code,
        signal=signal,
        ended_at=parse_time(row.get("end", "")),
        nodes=expand_nodes(_text(row.get("nodes", ""))),
    )


def _text(value: str) -> str:
    return "" if value.strip().lower() in _NOTHING else value.strip()


def _count(value: str) -> int:
    return int(value) if _COUNT.fullmatch(value) else 0
