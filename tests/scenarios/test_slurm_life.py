"""What a real Slurm does to a run without ending anything: limits, silence, a request that nobody can serve."""

from __future__ import annotations

import asyncio
import time

import pytest

from scalable_hpc.batch.slurm import SlurmBackend
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState
from tests.ensembles import AttemptFailed, FleetNote, ReceiptTaken, allocations_of, make_ensemble, of_kind
from tests.waiting import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]


def target_of(slurm, *, most: int, **more) -> dict:
    return {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "poll": 1,
        "allocations": {"min": 0, "max": most, "walltime": "00:10:00"},
        **more,
    }


def finished(ensemble, driver, count: int) -> list:
    """The events of a run that ends with every result, each from one execution, and nothing charged."""
    out, err = driver.communicate(timeout=80)
    assert driver.returncode == 0, f"{out}\n{err}"
    assert f"complete {count}" in out
    events = ensemble.events()
    assert set(ensemble.counted("start").values()) == {1}
    assert of_kind(events, AttemptFailed) == []
    return events


def test_that_a_submit_limit_is_waited_out(slurm, tmp_path):
    """One job may be submitted: an array of two is put off and asked for in halves. The run goes on with one job, and
    has its second as soon as the limit is lifted.
    """
    modify = ["sacctmgr", "-i", "modify", "qos", "limited", "set"]
    slurm.run([*modify, "MaxJobsPerUser=2", "MaxSubmitJobsPerUser=1"])
    target = target_of(slurm, most=2, qos="limited")
    target["allocations"]["array"] = 2
    ensemble = make_ensemble(tmp_path, target=target, count=32, seconds=2.0, cpus=2)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("the first results", lambda: len(ensemble.counted("end")) >= 4, timeout=40)
        deferred = [note.because for note in of_kind(ensemble.events(), FleetNote) if note.kind == "deferred"]
        slurm.run([*modify, "MaxSubmitJobsPerUser=3"])
        events = finished(ensemble, driver, 32)
    finally:
        driver.kill()
        slurm.run([*modify, "MaxJobsPerUser=1", "MaxSubmitJobsPerUser=3"])

    assert any("QOSMaxSubmitJobPerUserLimit" in words for words in deferred), deferred
    assert len({event.allocation for event in of_kind(events, ReceiptTaken)}) == 2


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_that_a_controller_that_is_stopped_for_a_minute_costs_nothing(slurm, tmp_path):
    """Work goes on. A node that dies meanwhile costs what ran there, which runs again; it is replaced once."""
    ensemble = make_ensemble(tmp_path, target=target_of(slurm, most=2), count=160, seconds=2.0)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("two allocations work", lambda: len(ensemble.counted("end")) >= 16, timeout=60)
        jobs = {name: life[-1] for name, life in allocations_of(ensemble.events()).items()}
        slurm.daemon("stop", "slurmctld")
        stopped_at, before = time.monotonic(), len(ensemble.counted("end"))
        slurm.node("crash", jobs["a0002"].nodes[0])
        try:
            wait_until("a minute has gone", lambda: time.monotonic() > stopped_at + 60, timeout=70, every=1)
            meanwhile = len(ensemble.counted("end")) - before
        finally:
            slurm.daemon("start", "slurmctld")
        out, err = driver.communicate(timeout=100)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"
    assert "complete 160" in out

    events = ensemble.events()
    failed = of_kind(events, AttemptFailed)
    known = slurm.run(["sacct", "-X", "-n", "-P", "-D", "-o", "JobName"]).split()
    assert meanwhile >= 60
    assert {(event.allocation, event.charged) for event in failed} == {("a0002", False)}
    assert sum(ensemble.counted("start").values()) == 160 + len(failed)
    run_id = ensemble.runs[0].run_id
    submitted = sorted(name for name in known if run_id in name)
    assert submitted == [f"scalable-{run_id}-{name}" for name in sorted(allocations_of(events))]
    assert len(submitted) <= 3
    noted = [note.kind for note in of_kind(events, FleetNote)]
    assert ("silent" in noted, "answers" in noted) == (True, True)


def test_that_what_no_node_can_serve_is_told_in_slurms_words(slurm, tmp_path):
    """At once, with the script that was refused; nothing is left in the queue."""
    ensemble = make_ensemble(tmp_path, target=target_of(slurm, most=1), count=2, seconds=0.0, cpus=999)
    began = time.monotonic()
    ended = ensemble.run(env=slurm.env, timeout=40)
    took = time.monotonic() - began

    assert ended.returncode != 0
    assert "More processors requested than permitted" in ended.stderr + ended.stdout
    assert "a0001.sh" in ended.stderr + ended.stdout
    assert took < 20
    assert slurm.run(["squeue", "-h"]).strip() == ""


def test_that_what_slurm_takes_and_will_never_start_is_told_in_its_words(slurm, tmp_path):
    """An account whose minutes are used up: the job is taken, waits for ever, and is cancelled within seconds."""
    ensemble = make_ensemble(tmp_path, target=target_of(slurm, most=1, account="broke"), count=2, seconds=0.0)
    began = time.monotonic()
    ended = ensemble.run(env=slurm.env, timeout=60)
    took = time.monotonic() - began

    assert ended.returncode != 0
    assert "AssocGrpCPUMinutesLimit" in ended.stderr + ended.stdout
    assert "used up" in ended.stderr + ended.stdout
    assert took < 25
    assert slurm.run(["squeue", "-h"]).strip() == ""


def test_that_a_run_needs_no_accounting(slurm_without_accounting, tmp_path):
    """Without sacct the controller tells how jobs ended, while it knows them; then they are unknown, and no more."""
    slurm = slurm_without_accounting
    ended = slurm.run(["sbatch", "--parsable", "--wrap", "exit 3"]).strip()
    backend = SlurmBackend()

    def told() -> JobObservation:
        return asyncio.run(backend.status([ended]))[ended]

    ending = wait_until("its end is told", lambda: told().ending, timeout=20)
    ensemble = make_ensemble(tmp_path, target=target_of(slurm, most=1), count=16, seconds=2.0)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("the first results", lambda: len(ensemble.counted("end")) >= 4, timeout=40)
        slurm.run(["scancel", allocations_of(ensemble.events())["a0001"][-1].job_id])
        out, err = driver.communicate(timeout=80)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"
    forgotten = wait_until("it is forgotten", lambda: (one := told()).state is JobState.UNKNOWN and one, timeout=40)

    assert slurm.attempt(["sacct", "-X"]).returncode == 1
    assert (ending.reason, ending.exit_code, backend.accounting) == (ExitReason.FAILED, 3, "off")
    assert forgotten.because == "the controller does not know the job; accounting is off"
    events = ensemble.events()
    assert allocations_of(events)["a0001"][-1].reason == "cancelled"
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []
    assert len(of_kind(events, ReceiptTaken)) == 16
