"""The run that a script goes on with when its driver was killed: found by itself, where that is sound.

It is when the same script with the same arguments and the same plan is started again, nobody drives that run, and
batch jobs of it are still there: their workers wait for a driver, or they keep a place in the queue; or its target
needs none, since it uses the nodes of the driver's own job. A batch system that does not answer leaves that open: the
run goes on, and finds out.

Rule 1: everything must be equal; in doubt a new run is begun, and what was left is swept.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3

from scalable_hpc.backends import backend_for_orphans
from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.errors import BatchSilent, ScalableError
from scalable_hpc.lineage.lease import lives, read_holder
from scalable_hpc.planning import Plan
from scalable_hpc.runs import RunDirectory, list_runs

logger = logging.getLogger(__name__)


_WHATEVER_THE_JOB = ("version", "target", "provider", "manifest", "cache", "runs", "driver")
"""What of a description does not come from the job that the driver is in."""


def description(plan: Plan, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what a run directory keeps of a plan and of the script that it is for (default: this process's)."""
    argv = sys.argv if argv is None else [*argv]
    script = Path(argv[0]) if argv and argv[0] else None
    is_script = script is not None and script.is_file()
    driver = {"argv": argv, "script": blake3(script.read_bytes()).hexdigest()} if script and is_script else None
    described: dict[str, Any] = json.loads(json.dumps({**plan.to_dict(), "driver": driver}))
    return described


def find_orphan(manifest: ResolvedManifest, plan: Plan) -> RunDirectory | None:
    """Return the run of a killed driver that this script was and whose batch jobs are still there; usually None."""
    ours = description(plan)
    if ours["driver"] is None:
        return None  # an interactive session: nobody can tell what it is going to call
    now = time.time()
    for run in reversed(list_runs(manifest.runs_root)):
        if not run.is_open or run.is_chained or _is_driven(run, now):
            continue
        try:
            jobs = _jobs_of(run, manifest) if _is_same(run.read_plan(), ours, manifest) else ()
        except BatchSilent as silence:
            jobs = (f"there may be ({silence.message})",)
        except ScalableError as error:
            logger.warning("run %s was left by its driver and cannot be gone on with: %s", run.run_id, error.message)
            continue
        if jobs and manifest.target.inside:
            logger.warning("goes on with run %s, whose driver ended with its job", run.run_id)
            return run
        if jobs:
            words = "goes on with run %s, whose driver was killed: takes over its jobs %s"
            logger.warning(words, run.run_id, ", ".join(jobs))
            return run
    return None


def _is_same(theirs: dict[str, Any], ours: dict[str, Any], manifest: ResolvedManifest) -> bool:
    """Whether it is the same script with the same plan; inside a job, much of a plan follows from that job."""
    if not manifest.target.inside:
        return theirs == ours
    return all(theirs.get(key) == ours[key] for key in _WHATEVER_THE_JOB)


def _is_driven(run: RunDirectory, now: float) -> bool:
    holder = read_holder(run.path)
    return holder is not None and lives(holder, now)


def _jobs_of(run: RunDirectory, manifest: ResolvedManifest) -> Sequence[str]:
    """Return the jobs that wait for a driver of the run; inside its own job a driver brings that one along."""
    if manifest.target.inside:
        return ["the driver's own"]
    backend = backend_for_orphans(manifest.target, manifest.target.provider, run)
    if backend is None:
        return []
    with ThreadPoolExecutor(1) as thread:  # its own loop: the script may have one that runs
        return thread.submit(asyncio.run, _find(backend, run.run_id)).result()


async def _find(backend: BatchBackend, run_id: str) -> list[str]:
    return [seen.job_id for seen in await backend.find(run_id)]
