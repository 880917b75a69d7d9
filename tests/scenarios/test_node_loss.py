"""A cluster (a real Slurm, or a stand-in PBS) loses a node and an allocation in the middle of an ensemble."""

from __future__ import annotations

import re

import pytest

from tests.ensembles import (
    AttemptFailed,
    AttemptPlaced,
    ReceiptTaken,
    allocations_of,
    make_ensemble,
    of_kind,
    reasons_of,
)
from tests.standins.pbs_settings import Node
from tests.waiting import wait_until

COUNT = 60


class SlurmSite:
    """A node is cut off from everybody; the controller notices by itself after some 16 s."""

    def __init__(self, slurm) -> None:
        self._slurm = slurm
        self.target = {"provider": "slurm", "queue": "batch", "interface": slurm.interface}
        self.env = slurm.env

    def cut_off(self, job_id: str) -> None:
        self._slurm.node("crash", self._slurm.run(["squeue", "-h", "-o", "%N", "-j", job_id]).strip())

    def cancel(self, job_id: str) -> None:
        self._slurm.run(["scancel", job_id])


class PbsSite:
    """A node's power is cut; PBS gives it some time (310 s on a real one) before it tells of the job's end."""

    def __init__(self, pbs) -> None:
        self._pbs = pbs
        pbs.configure(nodes={f"node{number}": Node() for number in range(1, 5)}, node_fail_requeue_s=4)
        self.target = {"provider": "pbs", "queue": "workq", "interface": "lo", "poll": 1}
        self.env: dict[str, str] = {}

    def cut_off(self, job_id: str) -> None:
        (host,) = re.findall(r"exec_host = (\w+)", self._pbs.run("qstat", "-f", job_id).stdout)
        self._pbs.control("lose-node", host)

    def cancel(self, job_id: str) -> None:
        assert self._pbs.run("qdel", job_id).returncode == 0


@pytest.fixture(
    params=[pytest.param(SlurmSite, marks=pytest.mark.slurm), pytest.param(PbsSite, marks=pytest.mark.pbs)],
    ids=["slurm", "pbs"],
)
def site(request):
    return request.param(request.getfixturevalue(request.node.callspec.id))


@pytest.mark.timeout(300)
def test_that_an_ensemble_survives_a_node_power_cut_and_a_cancelled_job(site, tmp_path):
    """60 right results, none with a receipt executed twice, nothing charged, the lost capacity replaced."""
    target = {**site.target, "allocations": {"min": 0, "max": 2, "walltime": "00:10:00"}}
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=2.0)
    driver = ensemble.start(env=site.env)
    try:
        wait_until("ten scenarios done", lambda: sum(ensemble.counted("end").values()) >= 10, timeout=60)
        first = {event.allocation: event for event in of_kind(ensemble.events(), AttemptPlaced)}
        assert len(first) >= 2, "both allocations should be at work by now"
        victim, cancelled = sorted(first)[:2]
        jobs = {name: life[-1] for name, life in allocations_of(ensemble.events()).items()}
        # The cut is silent: what it took along may be run again before the batch system tells of it.
        site.cut_off(jobs[victim].job_id)
        site.cancel(jobs[cancelled].job_id)
        out, err = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"
    assert f"complete {COUNT}" in out

    events = ensemble.events()
    receipts = {event.task_id: event for event in of_kind(events, ReceiptTaken) if not event.late}
    assert len(receipts) == COUNT
    placed_after_receipt = [
        event
        for event in of_kind(events, AttemptPlaced)
        if event.task_id in receipts and event.at > receipts[event.task_id].at
    ]
    assert placed_after_receipt == []
    ended = ensemble.counted("end")
    assert set(ended) == set(range(COUNT))
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []

    reasons = reasons_of(events)
    why: dict[str, set[str | None]] = {victim: set(), cancelled: set()}
    for event in of_kind(events, AttemptFailed):
        # assigned a moment before the cut, or refused by a worker that was already leaving: nothing to explain
        if event.ending == "never_started" or event.verdict == "expected":
            continue
        why.setdefault(event.allocation, set()).add(reasons[event.task_id, event.attempt])
    assert why[victim] == {"node_fail"}
    # cancelled jobs have the grace time until SIGKILL, in which attempts of two seconds may well finish
    assert why[cancelled] <= {"cancelled"}
    lives = allocations_of(events)
    assert lives[victim][-1].reason == "node_fail"
    assert lives[cancelled][-1].reason == "cancelled"
    assert len(lives) >= 3, "the lost capacity was not replaced"
    more_than_once = sum(ensemble.counted("start").values()) - COUNT
    assert more_than_once <= len(of_kind(events, AttemptFailed)), "a scenario was run again for no recorded reason"
