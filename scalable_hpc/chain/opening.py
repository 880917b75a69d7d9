"""Submits links: renders a link's script and hands it to the batch system."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace

from scalable_hpc.backends import batch_system
from scalable_hpc.chain.book import STOPPED, SUBMITTED, Book, Entry, Order
from scalable_hpc.chain.driver_script import DriverJob, render_driver
from scalable_hpc.chain.outlook import Outlook
from scalable_hpc.confidential import remove_secrets, write_secrets
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.environment import driver_environment
from scalable_hpc.errors import BatchSilent, RunDirectoryError, ScalableError, SubmissionError
from scalable_hpc.planning import make_plan
from scalable_hpc.runs import RunDirectory, create_run
from scalable_hpc.takeover import description

SYSTEMS = ("slurm", "pbs")
"""Those that have a template for drivers."""


def begin_chain(manifest: ResolvedManifest, order: Order) -> tuple[RunDirectory, str]:
    """Make a run for a script and submit its first link; return the run and the job id.

    Raises:
        SubmissionError: the target's batch system has no jobs for drivers, or refuses this one.
        SubmissionDeferred: it would not take it now.
        MissingCommandError: a command of the batch system is not on PATH.
        RunDirectoryError: the run directory cannot be made or written.
        TemplateError: the script cannot be rendered.
    """
    target = manifest.target
    if target.provider not in SYSTEMS:
        raise SubmissionError(
            f"target {target.name!r} is {target.provider!r}: a driver can be a job of {' or '.join(SYSTEMS)} only",
            hint=f"scalable-hpc run --target {target.name} {order.script}",
        )
    batch_system(target, RunDirectory(manifest.runs_root)).check()
    run = create_run(manifest.runs_root)
    described = description(make_plan(manifest), [order.script, *order.arguments])
    run.describe(manifest.path.read_text(), json.dumps(described, indent=1))
    return run, _submit_first(manifest, run, order, 1)


def go_on_with_chain(manifest: ResolvedManifest, run: RunDirectory, order: Order) -> str:
    """Submit another link of a run whose chain has stopped, or that never had one; return its job id.

    Raises:
        RunDirectoryError: its chain goes on by itself; and as ``begin_chain``.
    """
    if run.is_chained:
        raise RunDirectoryError(
            f"the driver of run {run.run_id!r} is in the queue, or at work",
            hint=f"scalable-hpc status {run.run_id}",
        )
    number = max((entry.link for entry in Book(run)), default=0) + 1
    return _submit_first(manifest, run, replace(order, max_links=order.max_links + number - 1), number)


def _submit_first(manifest: ResolvedManifest, run: RunDirectory, order: Order, number: int) -> str:
    """Submit a link that follows no other; one that is refused leaves no chain behind."""
    order.write(run)
    try:
        return submit_link(manifest, run, order, number, after=None)
    except BatchSilent:
        raise  # it may have been taken
    except ScalableError:
        run.driver_order.unlink(missing_ok=True)
        raise


def submit_link(manifest: ResolvedManifest, run: RunDirectory, order: Order, number: int, *, after: str | None) -> str:
    """Submit a link, to begin when the job ``after`` has ended in whatever way; return its job id.

    Raises:
        SubmissionError: refused for good.
        SubmissionDeferred: not now.
        BatchSilent: no answer; it may have been taken.
        TemplateError: the script cannot be rendered.
    """
    job = DriverJob(
        number,
        walltime_s=order.walltime_s,
        cpus=order.cpus,
        memory=order.memory,
        partition=order.partition,
        python=order.python,
        directory=order.directory,
        signal_lead_s=max(1, round(order.lead_s)),
        after=after,
    )
    script = run.scripts / f"driver-{number:03d}.sh"
    run.scripts.mkdir(mode=0o700, exist_ok=True)
    script.touch(mode=0o600)
    script.write_text(render_driver(manifest, run, job))
    write_secrets(run, None, driver_environment(manifest))
    job_id = asyncio.run(batch_system(manifest.target, run).submit(script))
    Book(run).note(Entry(number, SUBMITTED, time.time(), f"after job {after}" if after else "asked for", job_id))
    return job_id


def refuse_what_never_runs(manifest: ResolvedManifest, run: RunDirectory, number: int, outlook: Outlook) -> None:
    """Give up a new link that the batch system took and will never run, or do nothing where it may run.

    Raises:
        SubmissionError: in the batch system's words; the job is cancelled, the chain stopped.
        BatchSilent: it is to be given up, and could not be cancelled.
    """
    if outlook.never is None:
        return
    because = f"job {outlook.job_id} will never run: '{outlook.words}' ({outlook.never})"
    run.driver_order.unlink(missing_ok=True)
    Book(run).note(Entry(number, STOPPED, time.time(), because, outlook.job_id))
    cancel_links(manifest, run, [outlook.job_id])
    remove_secrets(run)
    script = run.scripts / f"driver-{number:03d}.sh"
    raise SubmissionError(
        f"{manifest.target.provider} would let the driver's job wait for ever, so it was cancelled: {because}",
        hint=f"correct the target, --cpus, --memory or --partition; what was asked for is in {str(script)!r}",
    )


def cancel_links(manifest: ResolvedManifest, run: RunDirectory, job_ids: Sequence[str]) -> None:
    """Take links out of the queue; those that are over are no error.

    Raises:
        BatchSilent: no answer.
    """
    if job_ids:
        asyncio.run(batch_system(manifest.target, run).cancel(list(job_ids)))


def manifest_of(run: RunDirectory) -> ResolvedManifest:
    """Return the manifest that a run was begun with.

    Raises:
        RunDirectoryError: it cannot be read.
        ManifestError: it is wrong.
    """
    described = run.read_plan()
    return load_manifest(described["manifest"], target=described["target"], text=run.read_manifest())
