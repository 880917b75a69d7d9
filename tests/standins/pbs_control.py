"""What only an administrator, or fate, can do to the stand-in PBS; for tests."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.standins.pbs_cluster import Cluster
from tests.standins.pbs_job import Job


def _repair(cluster: Cluster, node: str) -> None:
    cluster.down.pop(node, None)


def _rerun(cluster: Cluster, job: Job) -> None:
    if job.state == "R" and job.can_rerun:
        job.is_rerun, job.kill_at = True, time.time()
        cluster.sessions.send(job, signal.SIGKILL)


def _suspend(cluster: Cluster, job: Job) -> None:
    if job.state == "R":
        job.state, job.substate = "S", 43
        cluster.sessions.send(job, signal.SIGSTOP)


def _resume(cluster: Cluster, job: Job) -> None:
    if job.state == "S":
        job.state, job.substate = "R", 42
        cluster.sessions.send(job, signal.SIGCONT)


def _release(_: Cluster, job: Job) -> None:
    job.state, job.substate, job.hold, job.comment = "Q", 10, "n", ""


NODE_VERBS: dict[str, Callable[[Cluster, str], None]] = {"lose-node": Cluster.lose, "repair-node": _repair}
JOB_VERBS: dict[str, Callable[[Cluster, Job], None]] = {
    "rerun": _rerun,
    "suspend": _suspend,
    "resume": _resume,
    "release": _release,
}
