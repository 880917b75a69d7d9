"""What dead drivers left behind: their batch jobs are found by the run's name and cancelled.

A driver that closes withdraws ``scheduler.json`` from its run directory; one that is killed cannot. So a run that still
has one, and that nobody writes any more, was orphaned.

Rule 1: a run whose writer lives is left alone, whoever it is; and one whose next driver is in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.confidential import remove_secrets
from scalable_hpc.errors import BatchSilent, RunDirectoryError, ScalableError
from scalable_hpc.lineage.journal import Journal
from scalable_hpc.lineage.lease import Lease
from scalable_hpc.lineage.quick import OnlyAllocations
from scalable_hpc.model.allocations import AllocationState, ExitReason
from scalable_hpc.model.events import AllocationChanged
from scalable_hpc.runs import RunDirectory, list_runs

_AGAIN_S = 30.0
"""Between two tries to cancel a dead driver's jobs: they hold nodes for ``orphan_grace`` otherwise."""

BackendOf = Callable[[str, RunDirectory], BatchBackend | None]
"""The backend of a provider's name for a run; None where this machine has none."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one run that its driver had left."""

    words: str
    is_done: bool
    """Not so: the batch system did not answer, it is worth another try."""


async def keep_sweeping(runs_root: Path, backend_of: BackendOf, *, but: str, tell: Callable[[str], None]) -> None:
    """Cancel what dead drivers left; what a silent batch system has kept from it is tried again.

    Args:
        runs_root: where the runs are.
        backend_of: how their batch systems are reached.
        but: the run that is left alone.
        tell: hears what was done, each thing once.
    """
    told = set[str]()
    while True:
        swept = await sweep_orphans(runs_root, backend_of, but=but)
        for words in (each.words for each in swept if each.words not in told):
            told.add(words)
            tell(words)
        if all(each.is_done for each in swept):
            return
        await asyncio.sleep(_AGAIN_S)


async def sweep_orphans(runs_root: Path, backend_of: BackendOf, *, but: str) -> list[Swept]:
    """Cancel the jobs of every run whose driver is dead; return what was done, run by run."""
    runs = await asyncio.to_thread(list_runs, runs_root)
    done = []
    for run in runs:
        if run.run_id == but or not run.is_open or run.is_chained:
            continue
        try:
            words, is_done = await sweep_run(run, backend_of), True
        except ScalableError as error:
            words = f"run {run.run_id} was left by its driver; its jobs could not be cancelled: {error.message}"
            is_done = not isinstance(error, BatchSilent)
        if words:
            done.append(Swept(words, is_done))
    return done


async def sweep_run(run: RunDirectory, backend_of: BackendOf) -> str:
    """Cancel the jobs of one run whose driver is dead; say what was done, nothing when its driver lives."""
    try:
        lease = await asyncio.to_thread(Lease.take, run.path)
    except RunDirectoryError:
        return ""  # its driver lives
    try:
        backend = backend_of(_provider(run), run)
        if backend is None:
            return ""
        jobs = [seen.job_id for seen in await backend.find(run.run_id)]
        if jobs:
            await backend.cancel(jobs)
        await asyncio.to_thread(_close, run)
    finally:
        await asyncio.to_thread(lease.release)
    what = f"cancelled its jobs {', '.join(jobs)}" if jobs else "it had no jobs left"
    return (
        f"run {run.run_id} was left by its driver: {what}; to go on with it: scalable-hpc run --run {run.run_id} SCRIPT"
    )


def _close(run: RunDirectory) -> None:
    """Journal that the dead driver's allocations are over; withdraw its announcement and its keys."""
    lives: dict[str, AllocationChanged] = {}
    ended = AllocationState.ENDED.value

    def remember(event: AllocationChanged) -> None:
        lives[event.name] = event

    with contextlib.closing(Journal(run.journal, run.run_id, into=OnlyAllocations(remember))) as journal:
        for event in lives.values():
            if event.state != ended:
                journal.append(
                    replace(
                        event,
                        at=time.time(),
                        state=ended,
                        because="its driver was gone: cancelled",
                        reason=ExitReason.CANCELLED.value,
                    )
                )
    run.announcement.unlink(missing_ok=True)
    shutil.rmtree(run.path / "security", ignore_errors=True)
    remove_secrets(run)


def _provider(run: RunDirectory) -> str:
    try:
        return str(json.loads(run.plan.read_text()).get("provider", ""))
    except (OSError, ValueError, AttributeError):
        return ""
