"""Recorded moments of real Slurm jobs, as the parsers get them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.batch.slurm_text import parse_sacct, parse_scontrol, parse_squeue
from scalable_hpc.batch.slurm_told import Told, merge_observations
from scalable_hpc.model.allocations import JobObservation

SLURM = Path(__file__).parent / "transcripts" / "slurm"
GOLDEN = SLURM / "golden"
MOMENTS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())

SQUEUE_COLUMNS = [
    "id",
    "state",
    "compact",
    "reason",
    "place",
    "nodes",
    "6",
    "7",
    "8",
    "9",
    "10",
    "submit",
    "start",
    "end",
    "14",
    "15",
    "16",
    "17",
    "name",
    "comment",
    "20",
]
SACCT_DUPLICATES_COLUMNS = ["id", "state", "exit", "start", "end"]
_SACCT_NAMES = {
    "JobIDRaw": "id", "State": "state", "ExitCode": "exit", "Submit": "submit", "Start": "start", "End": "end",
    "JobName": "name", "Comment": "comment", "NodeList": "nodes",
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """One job at one moment, as each command told it; texts."""

    name: str
    squeue: str
    scontrol: str
    sacct: str
    sacct_duplicates: str

    @property
    def job_id(self) -> str:
        """The job that the moment is about; of an array, the task that has the array's own id."""
        everything = self.squeue + self.sacct_duplicates
        return re.match(r"\d+", everything.lstrip())[0]

    def in_squeue(self) -> JobObservation | None:
        return parse_squeue(self.squeue, SQUEUE_COLUMNS, "|").get(self.job_id)

    def in_scontrol(self) -> JobObservation | None:
        return parse_scontrol(self.scontrol).get(self.job_id)

    def in_sacct(self) -> JobObservation | None:
        """What sacct tells now, without -D."""
        header = self.sacct.partition("\n")[0].split("|")
        if "JobIDRaw" not in header:
            return None
        return parse_sacct(self.sacct, [_SACCT_NAMES.get(name, name) for name in header], "|").get(self.job_id)

    def in_sacct_duplicates(self) -> JobObservation | None:
        """What sacct tells of every incarnation, folded."""
        return parse_sacct(self.sacct_duplicates, SACCT_DUPLICATES_COLUMNS, "|").get(self.job_id)

    def accounted(self) -> dict[str, JobObservation]:
        """What sacct tells of every job of the moment."""
        return parse_sacct(self.sacct_duplicates, SACCT_DUPLICATES_COLUMNS, "|")

    def merged(self) -> JobObservation:
        """What we make of squeue and sacct together."""
        return merge_observations(self.job_id, Told(self.in_squeue(), self.in_sacct_duplicates()))


def moment(name: str) -> Moment:
    """Read a recorded moment."""
    folder = GOLDEN / name

    def text(file: str) -> str:
        return (folder / file).read_text() if (folder / file).exists() else ""

    return Moment(name, text("squeue.psv"), text("scontrol.txt"), text("sacct.psv"), text("sacct-duplicates.psv"))


@dataclass(frozen=True)
class Refused:
    """One recorded sbatch that gave no job."""

    command: str
    rc: int
    stderr: str


def refusals() -> list[Refused]:
    """Return every sbatch of the recorded session that failed."""
    text = (SLURM / "rejections.txt").read_text()
    found = []
    for block in re.split(r"(?m)^\[ *[0-9.]+s\] ", text)[1:]:
        command = block.partition("\n")[0].partition("$ ")[2]
        rc = re.search(r"(?m)^-> rc=(\d+)", block)
        if "sbatch" in command and rc is not None and rc[1] != "0":
            stderr = "\n".join(re.findall(r"(?m)^stderr: (.*)$", block))
            found.append(Refused(command, int(rc[1]), stderr))
    return found
