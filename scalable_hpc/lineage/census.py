"""What the keeper tells others of its state: progress for people, demand for the fleet.

Rule 1: pure, and as quick with a million waiting tasks as with ten: it counts lanes, not tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scalable_hpc.lineage.lanes import Lane
from scalable_hpc.lineage.learned import FEW, Learned
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Allowance
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.model.fleet import Demand
from scalable_hpc.model.resources import Needs


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in tasks."""

    done: int = 0
    running: int = 0
    """On a worker."""
    waiting: int = 0
    failed: int = 0
    cancelled: int = 0
    hits: int = 0
    """Calls answered from the store; none of the others."""
    excluded: tuple[str, ...] = ()
    """Hosts that new allocations keep away from."""
    budget: str = ""
    """What is used of the run's node-hours, in words; empty: it may use as many as it needs."""


def progress_of(ledger: Ledger, now: float = -math.inf) -> Progress:
    """Return how far a run is; ``now`` (seconds since the epoch) is for hosts whose time is over."""
    state = TaskState
    return Progress(
        done=ledger.count(state.DONE, state.LET_GO),
        running=ledger.count(state.SENT),
        waiting=ledger.count(state.WAITING, state.ATTACHED, state.READY, state.BACKOFF),
        failed=ledger.count(state.FAILED),
        cancelled=ledger.count(state.CANCELLED),
        hits=ledger.hits.total,
        excluded=ledger.hosts.excluded(now),
    )


@dataclass(slots=True)
class _Tally:
    waiting: int = 0
    assigned: int = 0
    need_s: float | None = None
    timed: int = 0
    total_s: float = 0.0
    diverted: int = 0
    longest_s: float = 0.0
    """Of the waiting tasks; infinite where nothing is known of one of them."""
    slot_s: float = 0.0
    """That the waiting tasks take."""


def demand_of(ledger: Ledger, roster: Roster, allowance: Allowance) -> list[Demand]:
    """Return what is wanted of each worker type: what is ready or in backoff, and what is assigned.

    A task that several worker types could run counts for the first of them that can be had.
    """
    tallies: dict[str, _Tally] = {name: _Tally() for name in allowance.worker_types()}
    for lane in ledger.ready.lanes():
        worker_type = _type_of(lane, allowance)
        if worker_type is not None:
            tally = tallies.setdefault(worker_type, _Tally())
            _count_lane(tally, lane, ledger, allowance)
            _count_work(tally, worker_type, lane, ledger.learned, allowance)
        own = lane.key.worker_type
        if own is not None and own != worker_type and allowance.is_away(own):
            tallies.setdefault(own, _Tally()).diverted += lane.live + lane.delayed
    is_more_to_come = ledger.count(TaskState.WAITING) > 0
    for worker in roster:
        attempts = sum(len(load.attempts) for load in worker.loads.values())
        tallies.setdefault(worker.worker_type, _Tally()).assigned += attempts
    return [
        Demand(
            name,
            tally.waiting,
            tally.assigned,
            tally.need_s,
            tally.total_s / tally.timed if tally.timed else None,
            tally.diverted,
            None if is_more_to_come or not tally.waiting or math.isinf(tally.longest_s) else tally.longest_s,
            tally.slot_s * (1 + tally.assigned / max(1, tally.waiting)),
            len(ledger.tasks),
        )
        for name, tally in tallies.items()
    ]


def _count_lane(tally: _Tally, lane: Lane, ledger: Ledger, allowance: Allowance) -> None:
    waiting = lane.live + lane.delayed
    tally.waiting += waiting
    head: TaskRecord | None = lane.head()
    need_s = None if head is None else allowance.need(head).cold_s
    if need_s is not None:
        tally.need_s = max(tally.need_s or 0.0, need_s)
    mean_s = ledger.learned.typical_s(lane.key.name)
    if mean_s is not None:
        tally.timed += waiting
        tally.total_s += mean_s * waiting


def _count_work(tally: _Tally, worker_type: str, lane: Lane, learned: Learned, allowance: Allowance) -> None:
    """Count what the tasks of a lane take of slots, and how long the longest of them may run.

    Nothing is known of a lane that has nobody ready, of tasks that run alone or go on in another allocation.
    """
    key, head, waiting = lane.key, lane.head(), lane.live + lane.delayed
    if not waiting:
        return
    need = None if head is None or key.suspect or key.checkpoints else allowance.need(head)
    if head is None or need is None or need.cold_s is None:
        tally.longest_s = math.inf
        return
    need_s = need.cold_s
    is_said = key.expected_class is not None
    longest_s = max(need_s, 0.0 if is_said else learned.longest_s(key.name) or 0.0)
    mean_s = None if is_said or learned.count(key.name) <= FEW else learned.typical_s(key.name)
    tally.longest_s = max(tally.longest_s, longest_s)
    slots = _slots_taken(worker_type, need.of(head), allowance)
    tally.slot_s += waiting * slots * (need_s if mean_s is None else mean_s)


def _slots_taken(worker_type: str, needs: Needs, allowance: Allowance) -> float:
    """Return how many slots of a worker one such task is worth: what it takes may leave others idle."""
    kinds = (offer.worker_type for offer in allowance.fitting(needs) if offer.worker_type.name == worker_type)
    kind = next(kinds, None)
    if kind is None:
        return 1.0
    at_once = [kind.slots, max(kind.cpus, kind.slots) // max(1, needs.cpus)]
    if needs.gpus:
        at_once.append(kind.gpus // needs.gpus)
    if needs.memory and kind.memory:
        at_once.append(kind.memory // needs.memory)
    return kind.slots / max(1, min(at_once))


def _type_of(lane: Lane, allowance: Allowance) -> str | None:
    """Return the worker type that a lane's tasks are counted for; None: nobody could run them."""
    head: TaskRecord | None = lane.head()
    needs = allowance.needs_of(lane.key.name, *lane.asked) if head is None else allowance.needs(head)
    if needs.worker_type is not None:
        return needs.worker_type
    fitting = [offer.worker_type.name for offer in allowance.fitting(needs)]
    return next((name for name in fitting if not allowance.is_away(name)), fitting[0] if fitting else None)
