"""All that is known of one allocation, and what the batch system's word and Dask's mean together; pure.

An allocation's life is told twice: the batch system says what its job does, Dask says which workers are here. The two
come at different speeds and contradict each other for seconds (a worker registers before ``squeue`` says RUNNING)
or for minutes (a partitioned node). ``RECONCILED`` says for every pair what it means and why it can happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from scalable_hpc.model.allocations import AllocationState, JobEnding, JobObservation
from scalable_hpc.model.fleet import AllocationView


class Word(Enum):
    """What the batch system has said of an allocation's job, history included."""

    UNSUBMITTED = "has not answered the submission"
    SUBMITTED = "took the job and has not been asked since"
    WAITING = "waits"
    WAITING_AGAIN = "waits again after it ran: requeued"
    RUNNING = "runs"
    SUSPENDED = "suspended"
    ENDING = "is being torn down"
    ENDED = "is over"
    UNKNOWN = "does not know the job, or says something we cannot read"


class Link(Enum):
    """What Dask knows of an allocation's workers."""

    NEVER = "none came"
    HERE = "one is registered now"
    GONE = "came and left"


_NEVER, _HERE, _GONE = Link.NEVER, Link.HERE, Link.GONE
_S = AllocationState

RECONCILED: Mapping[tuple[Word, Link], tuple[AllocationState | None, str]] = {
    (Word.UNSUBMITTED, _NEVER): (_S.SUBMITTING, "asked of the batch system"),
    (Word.UNSUBMITTED, _HERE): (_S.LIVE, "its worker is here before the answer to its submission"),
    (Word.UNSUBMITTED, _GONE): (_S.STARTING, "its worker came and left before the answer to its submission"),
    (Word.SUBMITTED, _NEVER): (_S.PENDING, "submitted"),
    (Word.SUBMITTED, _HERE): (_S.LIVE, "a worker registered before the batch system was asked"),
    (Word.SUBMITTED, _GONE): (_S.STARTING, "its worker left, the batch system has not been asked since"),
    (Word.WAITING, _NEVER): (_S.PENDING, "waits in the queue"),
    (Word.WAITING, _HERE): (_S.LIVE, "a worker registered: the batch system's answer is older"),
    (Word.WAITING, _GONE): (_S.PENDING, "its worker came and left, and the job waits in the queue"),
    (Word.WAITING_AGAIN, _NEVER): (_S.PENDING, "requeued by the batch system: waits again"),
    (Word.WAITING_AGAIN, _HERE): (_S.LIVE, "a worker registered after the requeue: the batch system's answer is older"),
    (Word.WAITING_AGAIN, _GONE): (_S.PENDING, "requeued by the batch system: waits again"),
    (Word.RUNNING, _NEVER): (_S.STARTING, "its job runs, no worker has registered yet"),
    (Word.RUNNING, _HERE): (_S.LIVE, "a worker registered"),
    (Word.RUNNING, _GONE): (_S.STARTING, "its last worker left, its job still runs"),
    (Word.SUSPENDED, _NEVER): (_S.STARTING, "suspended by the batch system before a worker registered"),
    (Word.SUSPENDED, _HERE): (_S.LIVE, "suspended by the batch system"),
    (Word.SUSPENDED, _GONE): (_S.STARTING, "suspended by the batch system, its last worker left"),
    (Word.ENDING, _NEVER): (_S.CLOSING, "being torn down by the batch system"),
    (Word.ENDING, _HERE): (_S.CLOSING, "being torn down by the batch system, its worker is still connected"),
    (Word.ENDING, _GONE): (_S.CLOSING, "being torn down by the batch system"),
    (Word.ENDED, _NEVER): (_S.ENDED, "ended before any worker registered"),
    (Word.ENDED, _HERE): (_S.ENDED, "ended, its worker's connection is not closed yet"),
    (Word.ENDED, _GONE): (_S.ENDED, "ended"),
    (Word.UNKNOWN, _NEVER): (None, "the batch system does not know the job"),
    (Word.UNKNOWN, _HERE): (_S.LIVE, "a worker is registered, though the batch system does not know the job"),
    (Word.UNKNOWN, _GONE): (_S.STARTING, "its last worker left, and the batch system does not know the job"),
}
"""(batch word, Dask word) to state and reason; None: whatever it was before."""


@dataclass(frozen=True, slots=True)
class Known:
    """Everything known of one allocation; ``view`` is what the planner gets to see of it."""

    view: AllocationView
    word: Word = Word.UNSUBMITTED
    raw: str = ""
    """The batch system's last words, unchanged."""
    workers: tuple[tuple[str, int], ...] = ()
    """Address and slots of each worker that is registered now."""
    nodes: tuple[str, ...] = ()
    ran: bool = False
    """The batch system has said that it runs, since it last waited."""
    restarts: int = 0
    unknown_since: float | None = None
    answer_lost_at: float | None = None
    """When its submission ended without an answer: it may exist, under its name."""
    close_because: str = ""
    closed_from: AllocationState | None = None
    """The state it was in when we decided to close it."""
    drain_because: str = ""
    interrupted: JobEnding | None = None
    """The requeue that took its last workers; None once a new worker is here."""
    ending: JobEnding | None = None
    seen: JobObservation | None = None
    """The observation that was folded in last, if nothing else was since."""
    is_inherited: bool = False
    """An earlier driver of the run opened it: what it was like until now nobody here has seen."""
    granted: tuple[str, ...] = ()
    """Its nodes in the batch system's own words; those of ``nodes`` may have come from workers."""
    lost: tuple[str, ...] = ()
    """Nodes that the batch system took out of its job, which goes on."""
    is_disowned: bool = False
    """Its job id belongs to another job by now: nothing may be cancelled by that id."""

    @property
    def link(self) -> Link:
        """What Dask knows of its workers."""
        if self.workers:
            return Link.HERE
        return Link.GONE if self.view.reached_live else Link.NEVER
