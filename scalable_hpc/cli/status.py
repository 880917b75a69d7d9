"""``scalable-hpc status [RUN]``: whether a run's driver lives, how far it is, what it holds."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalable_hpc.cli.run_arguments import add_run_arguments, chosen_run
from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.lease import Holder, lives, read_holder
from scalable_hpc.model.allocations import JobState
from scalable_hpc.runs import RunDirectory

if TYPE_CHECKING:
    from scalable_hpc.chain.book import Entry


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("status", help="whether a run's driver lives, how far it is, what it holds")
    add_run_arguments(parser, optional=True)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print what the journal and the driver's heartbeat say."""
    from scalable_hpc.lineage.census import progress_of
    from scalable_hpc.lineage.journal import fold_journal
    from scalable_hpc.lineage.ledger import Ledger
    from scalable_hpc.model.events import AllocationChanged, Event, RunOpened
    from scalable_hpc.telemetry.report import build_report
    from scalable_hpc.telemetry.text import say_budget

    run = chosen_run(arguments)
    if run.links.exists() and not run.journal.exists():
        print(f"run {run.run_id}: its driver has not begun yet")
        _tell_chain(run)
        return 0
    ledger = Ledger()
    allocations: dict[str, AllocationChanged] = {}
    told: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, AllocationChanged):
            allocations[event.name] = event
        if isinstance(event, AllocationChanged | RunOpened):
            told.append(event)

    fold_journal(run.journal, ledger, note)
    now = time.time()
    holder = read_holder(run.path)
    if holder is not None and not lives(holder, now):
        holder = None
    progress = progress_of(ledger)
    left = progress.waiting + progress.running
    print(f"run {run.run_id}: {_driver(holder, now, closed=ledger.closed is not None)}")
    print(
        f"tasks: {progress.done} done, {progress.running} running, {progress.waiting} waiting,"
        f" {progress.failed} failed, {progress.cancelled} cancelled; {progress.hits} cache hits"
    )
    report = build_report(told)
    if report.budget_node_hours is not None:
        print(f"node-hours: {report.node_hours:.3g}{say_budget(report)}")
    for name, event in allocations.items():
        if event.state != "ended":
            print(f"{name}: {event.state}, job {event.job_id}: {event.because}")
    _tell_chain(run)
    if left and holder is None and not run.is_chained:
        print(f"to finish it: scalable-hpc resume {run.run_id}")
    return 0


def _tell_chain(run: RunDirectory) -> None:
    """Say how a driver that is a chain of batch jobs stands."""
    from scalable_hpc.chain.book import SUBMITTED, Book

    entries = list(Book(run))
    if not entries:
        return
    told = [entry for entry in entries if entry.what != SUBMITTED] or entries
    last = told[-1]
    because = f": {last.because}" if last.because else ""
    print(f"driver job: link {last.link} (job {last.job_id}) {last.what}{because}")
    if run.is_chained:
        _tell_what_waits(run, entries)


def _tell_what_waits(run: RunDirectory, entries: Sequence[Entry]) -> None:
    """Say in the batch system's words why a link that is to come, or to come again, does not run."""
    from scalable_hpc.chain.book import BEGAN, SUBMITTED
    from scalable_hpc.chain.opening import manifest_of
    from scalable_hpc.chain.outlook import observe, outlooks

    began = max((entry.link for entry in entries if entry.what == BEGAN), default=0)
    submitted = {entry.link: entry.job_id for entry in entries if entry.what == SUBMITTED and entry.job_id}
    jobs = {job_id: link for link, job_id in submitted.items() if link >= began}
    try:
        manifest = manifest_of(run)
        seen = observe(manifest, run, list(jobs))
    except ScalableError as error:
        print(f"how its jobs stand is not known: {error.message}")
        return
    waiting = outlooks(manifest, seen)
    for job_id, link in jobs.items():
        if job_id in waiting:
            print(f"driver job: link {link} (job {job_id}) waits: {waiting[job_id]}")
        elif link > began and seen[job_id].state is JobState.ENDED:
            print(
                f"driver job: link {link} (job {job_id}) is over and never began: '{seen[job_id].raw}'"
                f"; to go on: scalable-hpc cancel {run.run_id}; scalable-hpc submit --run {run.run_id} DRIVER.py"
            )


def _driver(holder: Holder | None, now: float, *, closed: bool) -> str:
    if holder is not None:
        return f"driven by {holder}, last heard of {max(0.0, now - holder.beat):.0f} s ago"
    return "closed" if closed else "left by its driver"
