"""Which losses come when: each at a number of tasks that are done, so that a rehearsal can be repeated; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState

KINDS = {
    "lose_node": "a node is lost",
    "preempt": "an allocation is preempted",
    "oom": "an allocation runs out of memory",
    "walltime": "an allocation's walltime is over",
    "kill_driver": "the driver is killed",
}
"""Each loss, in words."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One loss."""

    kind: str
    after: int
    """Tasks that are done by then."""


@dataclass(frozen=True, slots=True)
class Played:
    """A loss that was brought about."""

    cue: Cue
    at: float
    done: int
    what: str
    """What was hit: an allocation, or the driver."""


def in_order(cues: Iterable[Cue]) -> list[Cue]:
    """Return the cues as they fall due."""
    return sorted(cues, key=lambda cue: cue.after)


def due(cues: Sequence[Cue], done: int) -> Cue | None:
    """Return the next cue if enough tasks are done for it."""
    return cues[0] if cues and done >= cues[0].after else None


def busiest(ledger: Ledger, running: Iterable[str]) -> str | None:
    """Return the allocation that has most in hand, among those whose jobs run; None: none has anything.

    An allocation without work would be a loss that costs nothing.
    """
    busy = Counter(record.allocation for record in ledger.in_state(TaskState.SENT))
    names = [name for name in running if busy[name]]
    return max(names, key=lambda name: busy[name], default=None)
