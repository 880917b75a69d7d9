"""Jobs of the stand-in PBS that wait for others: ``-W depend=afterany:12:13``.

A job that waits is held by the system. It is released when each job that it names is as it should be; it is over, with
no exit status and no word, once one of them can no longer become so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.standins.pbs_job import Job

HELD, IN_VAIN = 22, 92
"""Substates: while it waits; once it has waited in vain."""
OF_PARENTS = {"after": "before", "afterok": "beforeok", "afternotok": "beforenotok", "afterany": "beforeany"}
"""What a job may say of another one, and what the other one then says of it."""
OTHERS = frozenset({*OF_PARENTS.values(), "on", "runone"})
"""Which qsub takes, and this stand-in does not play."""
_NUMBER = re.compile(r"(\d+)(\.[\w.-]+)?")


@dataclass(frozen=True)
class Wait:
    """One job that is waited for; ``parent`` is None when the server knows no such job."""

    kind: str
    number: int
    parent: Job | None


def read_depend(text: str) -> list[tuple[str, int]] | None:
    """Return kind and number of each job that ``afterok:12.pbshead:13`` names; None when it cannot be read."""
    kind, *ids = text.split(":")
    numbers = [_NUMBER.fullmatch(one) for one in ids]
    if kind not in OF_PARENTS or not ids or None in numbers:
        return None
    return [(kind, int(number[1])) for number in numbers if number]


def hold(job: Job, waits: list[Wait]) -> None:
    """Make a new job wait."""
    job.waits = waits
    job.state, job.substate, job.hold = "H", HELD, "s"
    for wait in waits:
        if wait.parent is not None:
            wait.parent.is_waited_for.append((OF_PARENTS[wait.kind], job))


def is_in_vain(job: Job) -> bool:
    """Release a job that has waited for all that it wanted; return whether it can never get it."""
    holds = [_holds(wait) for wait in job.waits]
    if False in holds:
        job.substate = IN_VAIN
        return True
    job.waits = [wait for wait, is_true in zip(job.waits, holds, strict=True) if is_true is None]
    if not job.waits:
        job.state, job.substate, job.hold = "Q", 10, "n"
    return False


def told(job: Job, server: str) -> str | None:
    """Return the attribute ``depend``: whom the job waits for, and who waits for it."""
    waiting = [(kind, child.number) for kind, child in job.is_waited_for if child.substate == HELD]
    found = [*((wait.kind, wait.number) for wait in job.waits), *waiting]
    return ",".join(f"{kind}:{number}.{server}@{server}" for kind, number in found) or None


def _holds(wait: Wait) -> bool | None:
    """Whether what is said of that job is true; None: not yet."""
    parent = wait.parent
    if parent is None:
        return False
    if wait.kind == "after" and parent.started is not None:
        return True
    if not parent.is_over:
        return None
    return wait.kind in ("after", "afterany") or (wait.kind == "afterok") == (parent.exit_status == 0)
