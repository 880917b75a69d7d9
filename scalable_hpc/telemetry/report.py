"""From a run's events to its report: counts, attempts, allocations, failures, and what faults cost; pure.

Rule 1: everything is drawn from events; what a torn journal lost is missing, never guessed.
Rule 2: words (``because``, the batch system's ``raw``) are carried on unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.events import Event
from scalable_hpc.telemetry.tally import AllocationTally, Tally, TaskTally, is_lost, is_suspect, took_worker

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by how they stand; ``hits`` were never tasks of this run: their results were known."""

    submitted: int
    done: int
    failed: int
    cancelled: int
    unfinished: int
    hits: int


@dataclass(frozen=True, slots=True)
class NameReport:
    """The same by task name."""

    name: str
    submitted: int
    done: int
    failed: int
    hits: int
    mean_s: float | None
    """Mean time of the attempts that delivered; None: there were none."""


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """Attempts that ended without a receipt, in the same way and for the same reason."""

    ending: str
    reason: str
    """Why the allocation under them ended; empty when it did not, or nobody said."""
    verdict: str
    charged: bool
    count: int


@dataclass(frozen=True, slots=True)
class AllocationReport:
    """One allocation's life."""

    name: str
    worker_type: str
    job_id: str
    state: str
    reason: str
    raw: str
    because: str
    nodes: tuple[str, ...]
    asked_at: float
    started_at: float | None
    ended_at: float | None
    node_hours: float
    receipts: int
    lost: int
    """Attempts that ended with it, without a receipt."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that ended without a receipt, and all that was known of it; None: nobody knew."""

    task_id: str
    label: str
    attempt: int
    at: float
    ending: str
    verdict: str
    charged: bool
    decision: str
    because: str
    worker: str | None
    allocation: str | None
    node: str | None
    exit_code: int | None
    """Of its slot; so is the signal."""
    signal: int | None
    worker_end: str | None
    """How its worker died, if it did."""
    ran_s: float | None
    peak_memory: int | None
    """Bytes."""
    time_left_s: float | None
    """Of its allocation."""
    allocation_reason: str
    """Why its allocation ended, as far as anybody said, then or later; empty: it did not, or nobody did."""
    allocation_raw: str
    """The batch system's own words on that."""
    error_type: str | None
    error: str | None
    traceback: str
    """Of the exception; where there was none, the end of what the slot had printed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed for good."""

    task_id: str
    label: str
    error_type: str
    error: str
    because: str
    verdict: str
    worker: str
    allocation: str
    node: str
    ran_s: float | None
    retries: int
    """Attempts after the first one that were charged."""
    uncharged: int
    """Attempts that infrastructure took and that were not held against it."""
    deaths: int
    """Slots that died running it and nothing else was to blame."""
    workers: int
    """Whole workers that died under it for no reason of the infrastructure's."""
    traceback: str
    attempts: tuple[EndedAttempt, ...] = ()
    """Each of its attempts."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the faults cost: lost, run again, skipped."""

    attempts_lost: int
    """Attempts that were not charged: infrastructure took them."""
    attempts_suspect: int
    """Attempts that were not charged although their slots died: whether they were to blame, another one told."""
    attempts_beside: int
    """Attempts that were running on a worker that died for no known reason: they ran again alone, uncharged."""
    attempts_charged: int
    tasks_run_again: int
    """Tasks with more than one attempt that began."""
    extra_attempts: int
    done_twice: int
    """Tasks that were placed again although a receipt for them had been taken. Should be 0."""
    reused: int
    """Attempts that found their result in the store, published by one whose receipt was lost."""
    done_before: int
    """Tasks that were done before the last driver of the run started."""
    recalled: int = 0
    """Times that a task was run again since its result was lost with the worker that held it, or damaged on disk."""


@dataclass(frozen=True, slots=True)
class Note:
    """A decision of the fleet that is not about one allocation."""

    at: float
    kind: str
    because: str


@dataclass(frozen=True, slots=True)
class Differing:
    """A call that is said to be pure and gave another result when it was computed once more."""

    task_id: str
    label: str
    first: str
    """Digest of the result that counts."""
    second: str
    second_node: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything a run's journal tells."""

    run_id: str
    target: str
    opened_at: float
    last_at: float
    is_closed: bool
    closed_because: str
    drivers: int
    """How many drivers worked on it, one after the other."""
    tasks: TaskCounts
    names: tuple[NameReport, ...]
    attempts: tuple[AttemptCount, ...]
    allocations: tuple[AllocationReport, ...]
    node_hours: float
    failures: tuple[Failure, ...]
    upkeep: Upkeep
    notes: tuple[Note, ...]
    verified: int = 0
    """Calls that were computed once more, to be compared."""
    differing: tuple[Differing, ...] = ()
    """Those of them whose results were not the same."""
    ended: tuple[EndedAttempt, ...] = ()
    """Every attempt that ended without a receipt, in the order of the journal."""
    budget_node_hours: float | None = None
    """What the run may use; None: as many as it needs."""
    forecast_node_hours: float = 0.0
    """What it will have used if every allocation that runs or waits lasts to the end of its walltime."""

    @property
    def wall_s(self) -> float:
        """From the first event to the last."""
        return self.last_at - self.opened_at


def build_report(events: Iterable[Event]) -> RunReport:
    """Fold a run's events into its report; any beginning of a journal will do."""
    tally = Tally()
    for event in events:
        tally.add(event)
    allocations = tuple(_allocation(each, tally) for each in tally.allocations.values())
    return RunReport(
        run_id=tally.run_id,
        target=tally.target,
        opened_at=tally.opened_at or 0.0,
        last_at=tally.last_at,
        is_closed=tally.closed_because is not None,
        closed_because=tally.closed_because or "",
        drivers=tally.drivers,
        tasks=_counts(tally),
        names=_names(tally),
        attempts=_attempts(tally),
        allocations=allocations,
        node_hours=sum(each.node_hours for each in allocations),
        failures=tuple(
            _failure(task_id, task, tally) for task_id, task in tally.tasks.items() if task.given_up is not None
        ),
        ended=tuple(sorted((each for task in tally.tasks.values() for each in _ended(task, tally)), key=_when)),
        upkeep=_upkeep(tally),
        notes=tuple(Note(note.at, note.kind, note.because) for note in tally.notes),
        verified=sum(task.state == "done" for task in tally.once_more.values()),
        differing=tuple(_differing(tally)),
        budget_node_hours=None if tally.budget_node_s is None else tally.budget_node_s / SECONDS_PER_HOUR,
        forecast_node_hours=sum(map(_at_most_hours, allocations, tally.allocations.values(), repeat(tally.last_at))),
    )


def _at_most_hours(report: AllocationReport, seen: AllocationTally, now: float) -> float:
    if seen.ended_at is not None or seen.last.state == AllocationState.CLOSING.value:
        return report.node_hours
    walltime_s = seen.last.walltime_s or 0.0
    left_s = walltime_s if seen.started_at is None else (seen.last.ends_at or seen.started_at + walltime_s) - now
    return report.node_hours + max(1, len(seen.nodes)) * max(0.0, left_s) / SECONDS_PER_HOUR


def _counts(tally: Tally) -> TaskCounts:
    states = Counter(task.state for task in tally.tasks.values())
    return TaskCounts(
        submitted=len(tally.tasks),
        done=states["done"],
        failed=states["failed"],
        cancelled=states["cancelled"],
        unfinished=states["unfinished"],
        hits=sum(tally.hits.values()),
    )


def _names(tally: Tally) -> tuple[NameReport, ...]:
    by_name: dict[str, list[TaskTally]] = {name: [] for name in tally.hits}
    for task in tally.tasks.values():
        by_name.setdefault(task.name, []).append(task)
    return tuple(_name(name, tasks, tally.hits[name]) for name, tasks in sorted(by_name.items()))


def _name(name: str, tasks: list[TaskTally], hits: int) -> NameReport:
    times = [task.ran_s for task in tasks if task.ran_s is not None]
    states = Counter(task.state for task in tasks)
    mean = sum(times) / len(times) if times else None
    return NameReport(name, len(tasks), states["done"], states["failed"], hits, mean)


def _attempts(tally: Tally) -> tuple[AttemptCount, ...]:
    counted = Counter(
        (failed.ending, tally.reason_of(failed), failed.verdict, failed.charged)
        for task in tally.tasks.values()
        for failed in task.failed
    )
    return tuple(AttemptCount(*key, count) for key, count in sorted(counted.items(), key=lambda each: -each[1]))


def _allocation(seen: AllocationTally, tally: Tally) -> AllocationReport:
    until = seen.ended_at if seen.ended_at is not None else tally.last_at
    hours = 0.0 if seen.started_at is None else max(0.0, until - seen.started_at) / SECONDS_PER_HOUR
    last = seen.last
    return AllocationReport(
        name=last.name,
        worker_type=seen.worker_type,
        job_id=seen.job_id,
        state=last.state,
        reason=last.reason or "",
        raw=last.raw or "",
        because=last.because,
        nodes=seen.nodes,
        asked_at=seen.asked_at,
        started_at=seen.started_at,
        ended_at=seen.ended_at,
        node_hours=hours * max(1, len(seen.nodes)),
        receipts=seen.receipts,
        lost=tally.lost_on[last.name],
    )


def _ended(task: TaskTally, tally: Tally) -> Iterator[EndedAttempt]:
    for failed in task.failed:
        yield EndedAttempt(
            task_id=failed.task_id,
            label=task.label or failed.task_id,
            attempt=failed.attempt,
            at=failed.at,
            ending=failed.ending,
            verdict=failed.verdict,
            charged=failed.charged,
            decision=failed.decision,
            because=failed.because,
            worker=failed.worker,
            allocation=failed.allocation,
            node=failed.node,
            exit_code=failed.exit_code,
            signal=failed.signal,
            worker_end=failed.worker_end,
            ran_s=failed.ran_s,
            peak_memory=failed.peak_memory,
            time_left_s=failed.time_left_s,
            allocation_reason=tally.reason_of(failed),
            allocation_raw=failed.allocation_raw or tally.raw_of(failed),
            error_type=failed.error_type,
            error=failed.error,
            traceback=failed.traceback,
        )


def _when(ended: EndedAttempt) -> float:
    return ended.at


def _failure(task_id: str, task: TaskTally, tally: Tally) -> Failure:
    assert task.given_up is not None, "only tasks that were given up are failures"
    last = task.failed[-1] if task.failed else None
    charged = sum(failed.charged for failed in task.failed)
    return Failure(
        task_id=task_id,
        label=task.label or task_id,
        error_type=task.given_up.error_type,
        error=task.given_up.error,
        because=task.given_up.because,
        verdict=last.verdict if last else "",
        worker=(last.worker or "") if last else "",
        allocation=(last.allocation or "") if last else "",
        node=(last.node or "") if last else "",
        ran_s=last.ran_s if last else None,
        retries=max(0, charged - 1),
        uncharged=sum(is_lost(failed) for failed in task.failed),
        deaths=sum(is_suspect(failed) and not took_worker(failed) for failed in task.failed),
        workers=sum(is_suspect(failed) and took_worker(failed) for failed in task.failed),
        traceback=last.traceback if last else "",
        attempts=tuple(_ended(task, tally)),
    )


def _differing(tally: Tally) -> Iterator[Differing]:
    for event in tally.differing:
        task = tally.tasks.get(event.task_id)
        label = task.label if task is not None else ""
        yield Differing(event.task_id, label or event.task_id, event.first, event.second, event.second_node)


def _upkeep(tally: Tally) -> Upkeep:
    tasks = tally.tasks.values()
    suspects = [failed for task in tasks for failed in task.failed if is_suspect(failed) and not failed.charged]
    begun = [task.begun for task in tasks]
    return Upkeep(
        attempts_lost=sum(is_lost(failed) for task in tasks for failed in task.failed),
        attempts_suspect=sum(not took_worker(failed) for failed in suspects),
        attempts_beside=sum(took_worker(failed) for failed in suspects),
        attempts_charged=sum(failed.charged for task in tasks for failed in task.failed),
        tasks_run_again=sum(times > 1 for times in begun),
        extra_attempts=sum(times - 1 for times in begun if times > 1),
        done_twice=sum(task.begun_after_receipt > 0 for task in tasks),
        reused=sum(task.reused for task in tasks),
        done_before=sum(task.is_done_before for task in tasks),
        recalled=len(tally.recalled),
    )
