"""``scalable-hpc explain TASK|RUN``: why something waits, where it could run and where not, why it was run again."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scalable_hpc.cli.run_arguments import add_runs_dir, run_named
from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.lineage.lease import lives, read_holder

if TYPE_CHECKING:
    from scalable_hpc.batch.backend import BatchBackend
    from scalable_hpc.config.resolved import ResolvedManifest
    from scalable_hpc.lineage.ledger import Ledger
    from scalable_hpc.lineage.record import TaskRecord
    from scalable_hpc.lineage.standing import Fleet
    from scalable_hpc.model.allocations import JobObservation
    from scalable_hpc.model.events import AllocationChanged, FleetNote
    from scalable_hpc.runs import RunDirectory

_RUN = re.compile(r"\d{8}(T.*)?")
_NOTES_SHOWN = 5
_MATCHES_SHOWN = 8


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "explain",
        help="why a task or a run waits, where it could run and where not, why it was run again",
        description="Explains a task (by its id, or as its call is written in reports) or a run, from the run's journal"
        " and manifest, whether its driver lives or not.",
    )
    parser.add_argument("what", nargs="?", metavar="TASK|RUN", help="a task, or a run (default: the newest run)")
    parser.add_argument("--run", help="the run of the task: its id or the start of it (default: the newest)")
    parser.add_argument(
        "--no-ask",
        action="store_true",
        help="do not ask the batch system why jobs wait now: the journal has what it said when they were submitted",
    )
    add_runs_dir(parser)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the explanation."""
    what: str | None = arguments.what
    is_run = what is not None and arguments.run is None and _RUN.fullmatch(what) is not None
    run = run_named(arguments, what if is_run else arguments.run)
    case = _Case(run, asks=not arguments.no_ask)
    print(*(case.of_run() if is_run or what is None else case.of_task(what)), sep="\n")
    return 0


class _Case:
    """A run as its journal leaves it."""

    def __init__(self, run: RunDirectory, *, asks: bool) -> None:
        from scalable_hpc.chain.opening import manifest_of
        from scalable_hpc.config.growth import grown
        from scalable_hpc.lineage.journal import fold_journal
        from scalable_hpc.lineage.ledger import Ledger
        from scalable_hpc.lineage.need import Offer
        from scalable_hpc.lineage.standing import fleet_of
        from scalable_hpc.lineage.waiting import read_reasons
        from scalable_hpc.model.events import AllocationChanged, Event, FleetNote

        self._run = run
        self._now = time.time()
        self._ledger: Ledger = Ledger()
        self._notes: list[FleetNote] = []
        changes: list[AllocationChanged] = []

        def note(event: Event) -> None:
            if isinstance(event, AllocationChanged):
                changes.append(event)
            elif isinstance(event, FleetNote):
                self._notes.append(event)

        fold_journal(run.journal, self._ledger, note)
        manifest = grown(manifest_of(run))
        target = manifest.target
        each = [(kind, manifest.target_of(kind.name)) for kind in manifest.worker_types.values()]
        self._offers = [Offer(kind, own.walltime_s, own.margin_s) for kind, own in each]
        words = _ask(run, manifest, changes) if asks else {}
        told = read_reasons(run.path, self._now)
        self._fleet: Fleet = fleet_of(changes, self._ledger, target.nodes, words, told)

    def of_task(self, what: str) -> list[str]:
        """Explain one task."""
        from scalable_hpc.lineage.account import account_of
        from scalable_hpc.lineage.journal import read_events
        from scalable_hpc.lineage.standing import stand

        record = self._named(what)
        standing = stand(record, self._ledger, self._offers, self._fleet, self._now)
        label = standing.label if standing.label != standing.task_id else self._labels().get(standing.task_id, "")
        lines = [f"{label} ({standing.task_id}) is {standing.state}: {standing.because}"]
        if standing.places:
            lines += [f"it needs {standing.needs}; where it could run:"]
            lines += [f"  {'yes' if one.fits else 'no ':3} {one.place}: {one.because}" for one in standing.places]
        if standing.waited_for:
            lines.append(
                f"{len(standing.waited_for)} tasks wait for it: {', '.join(standing.waited_for[:_MATCHES_SHOWN])}"
            )
        lines.append("what happened:")
        told = account_of(record.task_id, read_events(self._run.journal))
        start = told[0][0]
        lines += [f"  +{at - start:.1f}s {words}" for at, words in told]
        return [*lines, *self._driver()]

    def of_run(self) -> list[str]:
        """Explain what the run waits for."""
        from scalable_hpc.lineage.census import progress_of
        from scalable_hpc.lineage.standing import groups

        progress = progress_of(self._ledger, self._now)
        counts = f"{progress.done} done, {progress.running} running, {progress.waiting} waiting"
        ended = f"{progress.failed} failed, {progress.cancelled} cancelled"
        lines = [f"run {self._run.run_id}: {counts}, {ended}"]
        lines += [
            f"  {one.count} of {one.name} ({one.state}): {one.because}; for instance {one.example}"
            for one in groups(self._ledger, self._offers, self._fleet, self._now)
        ]
        for seen in self._fleet.open():
            words = self._fleet.words.get(seen.name) or seen.because
            since = self._now - self._fleet.pending_since.get(seen.name, seen.at)
            lines.append(f"{seen.name}: {seen.state} for {since:.0f} s, job {seen.job_id}: {words}")
        told = self._fleet.told.fleet if self._fleet.told is not None else {}
        lines += [f"no more allocations of {name!r} are asked for: {because}" for name, because in told.items()]
        if progress.excluded:
            lines.append(f"kept away from: {', '.join(progress.excluded)}")
        lines += [f"note, {self._now - one.at:.0f} s ago: {one.because}" for one in self._notes[-_NOTES_SHOWN:]]
        return [*lines, *self._driver()]

    def _labels(self) -> dict[str, str]:
        """Return how each call was written; the ledger lets go of that when a task is over."""
        from scalable_hpc.lineage.journal import read_events
        from scalable_hpc.model.events import TaskSubmitted

        submitted = (event for event in read_events(self._run.journal) if isinstance(event, TaskSubmitted))
        return {event.task_id: event.label for event in submitted}

    def _driver(self) -> list[str]:
        """Say so when nobody drives what is not over."""
        holder = read_holder(self._run.path)
        if not self._ledger.unfinished or (holder is not None and lives(holder, self._now)):
            return []
        return [f"nobody drives this run: scalable-hpc resume {self._run.run_id}"]

    def _named(self, what: str) -> TaskRecord:
        """Return the task of an id, else of a label, else the only one that is like it.

        Raises:
            RunDirectoryError: there is none, or several.
        """
        tasks = self._ledger.tasks
        if what in tasks:
            return tasks[what]
        labels = self._labels()
        ways: tuple[Callable[[str, str], bool], ...] = (
            lambda _, label: label == what,
            lambda name, label: name.startswith(what) or label.startswith(what),
            lambda _, label: what in label,
        )
        likely = ([tasks[name] for name, label in labels.items() if is_it(name, label)] for is_it in ways)
        found = next(filter(None, likely), [])
        if len(found) == 1:
            return found[0]
        many = ", ".join(f"{one.task_id}" for one in found[:_MATCHES_SHOWN])
        words = f"{len(found)} tasks of run {self._run.run_id} are like '{what}'" if found else "no such task"
        raise RunDirectoryError(
            f"{words}: {many}" if found else f"{words} in run {self._run.run_id}: '{what}'",
            hint="name one of them in full" if found else "scalable-hpc explain    # the newest run, with examples",
        )


def _ask(run: RunDirectory, manifest: ResolvedManifest, changes: list[AllocationChanged]) -> dict[str, str]:
    """Return the batch system's reasons now, by allocation; silence is told as such."""
    from scalable_hpc.backends import backend_for_orphans
    from scalable_hpc.errors import BatchSilent

    backend = backend_for_orphans(manifest.target, manifest.target.provider, run)
    last = {event.name: event for event in changes}
    jobs = {event.job_id: name for name, event in last.items() if event.job_id and event.state != "ended"}
    if backend is None or not jobs:
        return {}
    try:
        seen = asyncio.run(_status(backend, list(jobs)))
    except BatchSilent as silence:
        return dict.fromkeys(jobs.values(), f"the batch system does not answer: {silence.message}")
    return {jobs[job]: f"{one.raw} ({one.because})" if one.because else one.raw for job, one in seen.items()}


async def _status(backend: BatchBackend, jobs: list[str]) -> Mapping[str, JobObservation]:
    return await backend.status(jobs)
