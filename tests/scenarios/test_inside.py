"""A driver that uses the nodes of the batch job that it is in, and asks for no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import scalable_hpc
from scalable_hpc.chain.book import BEGAN, DONE, STOPPED, Book
from tests.ensembles import AttemptFailed, AttemptPlaced, ReceiptTaken, allocations_of, make_ensemble, of_kind
from tests.processes import processes_naming
from tests.scenarios.test_chain import submit
from tests.waiting import wait_until

COUNT = 40
MORE = 72
"""Slurm ends a job up to half a minute after its time: what is left for the second one must take longer."""


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_that_a_driver_inside_its_job_goes_on_in_the_next_one(slurm, tmp_path):
    """Two nodes serve it; walltime ends them; its next link has two others, and completes what is left."""
    target = {
        "provider": "slurm",
        "inside": True,
        "queue": "batch",
        "interface": slurm.interface,
        "poll": "1s",
        "allocations": {"max": 2},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=MORE, seconds=3.0, cpus=2)
    asked = submit(tmp_path, slurm.env, "driver.py", "--walltime", "00:10:00", "--memory", "800M")
    assert asked.returncode == 0, asked.stderr
    [run] = ensemble.runs
    book = Book(run)
    try:
        wait_until("results", lambda: sum(ensemble.counted("end").values()) >= 6, timeout=60)
        first = book.last(BEGAN, 1).job_id
        shown = slurm.run(["squeue", "-h", "-o", "%i %D %T"]).splitlines()
        assert f"{first} 2 RUNNING" in shown
        slurm.run(["scontrol", "update", f"jobid={first}", "EndTime=now+1second"])
        wait_until("the end of the chain", lambda: book.last(DONE) or book.last(STOPPED), timeout=90)
    finally:
        slurm.attempt(["scancel", "--me"])

    logs = "".join(path.read_text() for path in sorted(run.logs.glob("driver-*.log")))
    assert f"complete {MORE}" in logs
    assert book.last(BEGAN).link == 2
    events = ensemble.events()
    receipts = {event.task_id: event for event in of_kind(events, ReceiptTaken) if not event.late}
    words = [line.split() for line in ensemble.executions.read_text().splitlines()]
    lines = [(what, int(number)) for what, number, *_ in words]
    again = [number for at, (what, number) in enumerate(lines) if what == "start" and ("end", number) in lines[:at]]
    assert again == [], "a scenario was executed again after its end"
    assert set(ensemble.counted("end")) == set(range(MORE))
    after = [e for e in of_kind(events, AttemptPlaced) if e.task_id in receipts and e.at > receipts[e.task_id].at]
    assert after == []
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []
    lives = allocations_of(events)
    nodes = [(node,) for node in slurm.node_names[:2]]
    jobs = {life[-1].job_id.partition("@")[2].partition(".")[0] for life in lives.values() if life[-1].job_id}
    assert jobs == {first, book.last(BEGAN, 2).job_id}
    assert {event.nodes for life in lives.values() for event in life if event.state == "live"} == set(nodes)
    names = slurm.run(["sacct", "-X", "-n", "-P", "-o", "JobName"]).split()
    others = {name for name in names if run.run_id in name and "driver" not in name}
    assert others == set(), "a job was asked for beside the driver's"


PBS_SCRIPT = """#!/bin/bash
#PBS -N in-its-job
#PBS -l select=2:ncpus=2:mem=900mb
#PBS -l place=scatter
#PBS -l walltime=00:00:{seconds}
#PBS -j oe
export PYTHONPATH={package}
cd {base}
{python} {base}/driver.py >>{base}/said 2>&1
"""


@pytest.mark.pbs
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_that_a_driver_inside_a_pbs_job_goes_on_in_the_next_one(pbs, tmp_path):
    """A script written by hand: its walltime ends it, it is submitted again and completes what is left."""
    target = {"provider": "pbs", "inside": True, "interface": "lo", "poll": 1, "margin": 0}
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=2.0, cpus=2)
    script = tmp_path / "job.sh"
    for seconds in (20, 59):
        facts = {"base": tmp_path, "python": sys.executable, "package": Path(scalable_hpc.__file__).parents[1]}
        script.write_text(PBS_SCRIPT.format(seconds=seconds, **facts))
        job_id = pbs.run("qsub", str(script)).stdout.strip()
        wait_until("its end", lambda job_id=job_id: job_id not in pbs.jobs(), timeout=70)
        wait_until("nothing of it to run", lambda: not processes_naming(str(ensemble.driver)), timeout=30)

    said = (tmp_path / "said").read_text()
    assert f"complete {COUNT}" in said
    # PBS asks first: whether the first driver had time to close its run, or left it to the next, is a matter of load
    events = [(which, event) for which in range(len(ensemble.runs)) for event in ensemble.events(which)]
    receipts = [(which, event) for which, event in events if isinstance(event, ReceiptTaken) and event.node]
    assert {event.node for _, event in receipts} == {"node1", "node2"}
    assert len({(which, event.allocation) for which, event in receipts}) == 4, "two nodes served each of the two jobs"
    lines = [line.split()[:2] for line in ensemble.executions.read_text().splitlines()]
    again = [line for at, line in enumerate(lines) if line[0] == "start" and ["end", line[1]] in lines[:at]]
    assert again == [], "a scenario was executed again after its end"
    assert pbs.jobs() == []


def test_that_a_target_inside_a_job_says_so_outside_of_one(tmp_path, monkeypatch):
    """Before anything is made or asked for, with what to do instead."""
    for name in ("SLURM_JOB_ID", "PBS_JOBID"):
        monkeypatch.delenv(name, raising=False)
    ensemble = make_ensemble(tmp_path, target={"provider": "slurm", "inside": True}, count=1, seconds=0)
    ended = ensemble.run()

    assert ended.returncode != 0
    assert "the target says 'inside: true', but this driver is in no job of slurm: $SLURM_JOB_ID" in ended.stderr
    assert "scalable-hpc submit" in ended.stderr
    assert ensemble.runs == []
