"""Ensembles on the stand-ins of PBS: what PBS alone does, or does otherwise than the others."""

from __future__ import annotations

import pytest

from tests.ensembles import (
    AttemptFailed,
    FleetNote,
    ReceiptTaken,
    allocations_of,
    make_ensemble,
    of_kind,
)
from tests.standins.pbs_settings import Node
from tests.waiting import wait_until

TARGET = {"provider": "pbs", "queue": "workq", "interface": "lo", "poll": 1, "margin": 2}


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_that_a_pbs_server_that_restarts_costs_nothing(pbs, tmp_path):
    """While it is away nothing ends and nothing is run again; jobs and workers go on without it."""
    target = {**TARGET, "allocations": {"min": 0, "max": 1, "walltime": "00:05:00"}}
    ensemble = make_ensemble(tmp_path, target=target, count=24, seconds=1.0)
    driver = ensemble.start()
    try:
        wait_until("the first results", lambda: len(ensemble.counted("end")) >= 4, timeout=60)
        pbs.configure(server="down")
        before = len(ensemble.counted("end"))
        wait_until("more of them, with no server", lambda: len(ensemble.counted("end")) >= before + 8, timeout=60)
        wait_until("the fleet to notice", lambda: of_kind(ensemble.events(), FleetNote), timeout=30)
        pbs.configure()
        out, err = driver.communicate(timeout=100)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"

    events = ensemble.events()
    assert of_kind(events, AttemptFailed) == []
    assert set(ensemble.counted("start").values()) == {1}
    assert len(allocations_of(events)) == 1
    assert pbs.jobs() == []


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_that_a_limit_of_jobs_per_user_is_waited_out(pbs, tmp_path):
    """One job may be there: the run goes on with it, and asks for the second again until it may."""
    pbs.configure(max_queued=1)
    target = {**TARGET, "allocations": {"min": 0, "max": 2, "walltime": "00:05:00"}}
    ensemble = make_ensemble(tmp_path, target=target, count=48, seconds=1.0)
    driver = ensemble.start()
    try:
        wait_until("results of the first", lambda: len(ensemble.counted("end")) >= 4, timeout=60)
        deferred = [note for note in of_kind(ensemble.events(), FleetNote) if "per-user limit" in note.because]
        pbs.configure()
        wait_until("a second job", lambda: len(pbs.jobs()) == 2, timeout=60)
        out, err = driver.communicate(timeout=100)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"

    assert deferred, "nobody was told why there is one job only"
    assert len({event.allocation for event in of_kind(ensemble.events(), ReceiptTaken)}) == 2
    assert of_kind(ensemble.events(), AttemptFailed) == []


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_that_a_job_of_three_nodes_loses_one_and_goes_on(pbs, tmp_path):
    """Each node has a worker; what ran on the lost one runs again on the others, at no cost."""
    pbs.configure(nodes={f"node{number}": Node() for number in (1, 2, 3)}, node_fail_requeue_s=4)
    target = {**TARGET, "allocations": {"min": 0, "max": 1, "nodes": 3, "walltime": "00:05:00"}}
    ensemble = make_ensemble(tmp_path, target=target, count=48, seconds=1.5, cpus=2)
    driver = ensemble.start()

    def nodes() -> set[str]:
        return {event.node for event in of_kind(ensemble.events(), ReceiptTaken)}

    try:
        wait_until("results", lambda: ensemble.counted("end"), timeout=60)
        wait_until("results from each", lambda: len(nodes()) == 3, timeout=90)
        pbs.control("lose-node", "node2")
        out, err = driver.communicate(timeout=100)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"

    events = ensemble.events()
    assert len(of_kind(events, ReceiptTaken)) == 48
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []
    assert {event.node for event in of_kind(events, AttemptFailed)} <= {"node2"}
