"""Arrays of jobs: several allocations by one submission, each a member with an id of its own.

A member's index is the last three digits of its allocation's name, so that Slurm itself can name its log file, and no
index reaches ``MaxArraySize`` where that is its default, 1001. The array's job name is its first allocation's, marked.

Rule 1: pure, and no text raises: what is no id stands for no job.
"""

from __future__ import annotations

import re

DIGITS = 3
"""Of an allocation's name that are the index; members have the rest in common."""
_MARK = "+"
"""At the end of an array's job name."""
_MOST_MEMBERS = 100_000
"""More than a Slurm takes; keeps a damaged ``[0-999999999]`` from filling the memory."""

_ONE = re.compile(r"[0-9]{1,18}(?:_[0-9]{1,9})?")
_FOLDED = re.compile(r"(?P<array>[0-9]{1,18})_\[(?P<indices>[0-9,:-]+)(?:%[0-9]+)?\]")
_RANGE = re.compile(r"(?P<low>[0-9]{1,9})(?:-(?P<high>[0-9]{1,9})(?::(?P<step>[1-9][0-9]{0,8}))?)?")


def trunk(name: str) -> str:
    """Return what all members of an array have in common, of the name of one of them."""
    return name[:-DIGITS]


def index_of(name: str) -> int:
    """Return the index of an allocation in its array."""
    return int(name[-DIGITS:])


def array_name(first: str) -> str:
    """Return the job name of an array, of the job name that its first member would have alone."""
    return first + _MARK


def name_alone(job_name: str) -> str:
    """Return a job name as the first member would have it alone; that of a single job stays as it is."""
    return job_name.removesuffix(_MARK)


def is_array_name(job_name: str) -> bool:
    """Whether a job name is one of ours, of an array."""
    return job_name.endswith(_MARK)


def member_id(array: str, name: str) -> str:
    """Return the job id of an allocation, of its array's id or any member's."""
    return f"{array_of(array)}_{index_of(name)}"


def array_of(job_id: str) -> str:
    """Return the id of the array that a member belongs to; that of a single job stays as it is."""
    return job_id.partition("_")[0]


def name_of_member(job_name: str, job_id: str) -> str:
    """Return the job name that a member would have alone; that of any other job stays as it is."""
    index = job_id.partition("_")[2]
    if not (index.isdigit() and is_array_name(job_name)):
        return job_name
    return f"{trunk(name_alone(job_name))}{int(index):0{DIGITS}d}"


def is_job_id(text: str) -> bool:
    """Whether a text is the id of one job, alone or in an array."""
    return _ONE.fullmatch(text) is not None


def unfold(text: str) -> tuple[str, ...]:
    """Return the ids that a printed one stands for: ``12``, ``12_3``, or all of ``12_[0-3,7%2]``."""
    if is_job_id(text):
        return (text,)
    match = _FOLDED.fullmatch(text)
    if match is None:
        return ()
    found: list[str] = []
    for part in match["indices"].split(","):
        bounds = _RANGE.fullmatch(part)
        if bounds is None:
            return ()
        low, high = int(bounds["low"]), int(bounds["high"] or bounds["low"])
        indices = range(low, high + 1, int(bounds["step"] or 1))
        if not indices or len(found) + len(indices) > _MOST_MEMBERS:
            return ()
        found += [f"{match['array']}_{index}" for index in indices]
    return tuple(found)
