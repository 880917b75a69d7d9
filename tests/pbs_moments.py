"""Recorded sessions of a real PBS, command by command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.batch.pbs_text import parse_qstat
from scalable_hpc.model.allocations import JobObservation

PBS = Path(__file__).parent / "transcripts" / "pbs"
FILES = sorted(path.name for path in PBS.glob("*.txt"))

_BLOCK = re.compile(
    r"^\[[\d:.]+\] (?P<who>[$#]) (?P<command>.*?)\n(?:--- stdin\n(?P<stdin>.*?))?--- stdout\n(?P<stdout>.*?)"
    r"--- stderr\n(?P<stderr>.*?)--- exit (?P<rc>\d+)  \(",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Recorded:
    """One command and what came of it."""

    command: str
    stdout: str
    stderr: str
    rc: int

    @property
    def jobs(self) -> dict[str, JobObservation]:
        return parse_qstat(self.stdout)


def text_of(file: str) -> str:
    return (PBS / file).read_bytes().decode(errors="replace")


def recorded(file: str) -> list[Recorded]:
    """The commands of one session, in their order."""
    return [Recorded(m["command"], m["stdout"], m["stderr"], int(m["rc"])) for m in _BLOCK.finditer(text_of(file))]


def everything() -> list[Recorded]:
    return [one for file in FILES for one in recorded(file)]


def whole_records() -> list[Recorded]:
    """Every qstat that printed all that the server knows of one job or more, as text, folded or not."""
    plain = re.compile(r"qstat (?!.*(-F|json|\||-Q|-B)).*-\w*f")
    return [one for one in everything() if plain.match(one.command) and one.stdout.startswith("Job Id: ")]


def last_word_on(job_id: str) -> JobObservation:
    """What the last whole record of a job says."""
    return [one.jobs[job_id] for one in whole_records() if job_id in one.jobs][-1]
