"""From a run's events to its report: counts, attempts, allocations, failures, and what faults cost; pure.

Rule 1: everything is drawn from events; what a torn journal lost is missing, never guessed.
Rule 2: words (``because``, the batch system's ``raw``) are carried on unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat

from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.events import Event
from scalable_hpc.telemetry.reported import (
    AllocationReport,
    AttemptCount,
    Differing,
    EndedAttempt,
    Failure,
    NameReport,
    Note,
    RunReport,
    TaskCounts,
    Upkeep,
)
from scalable_hpc.telemetry.tally import AllocationTally, Tally, TaskTally, is_lost, is_suspect, took_worker

SECONDS_PER_HOUR = 3600.0


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
        hits=tally.hits.total,
    )


def _names(tally: Tally) -> tuple[NameReport, ...]:
    by_name: dict[str, list[TaskTally]] = {name: [] for name in tally.hits.names}
    for task in tally.tasks.values():
        by_name.setdefault(task.name, []).append(task)
    return tuple(_name(name, tasks, tally.hits.names[name]) for name, tasks in sorted(by_name.items()))


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
        asked_s=last.walltime_s,
        configured_s=last.configured_s,
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
