"""A driver that uses the nodes of the batch job that it is in, and asks for no other."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import scalable_hpc
from scalable_hpc.chain.book import BEGAN, DONE, STOPPED, Book
from tests.ensembles import AttemptFailed, AttemptPlaced, Ensemble, ReceiptTaken, allocations_of, make_ensemble, of_kind
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


MIXED = """
import os, subprocess, time
from pathlib import Path
from scalable_hpc import ScalableSession, context


def work(number):
    note(f"start {{number}} {{','.join(context().hosts)}}")
    time.sleep(6)
    note(f"end {{number}} {{','.join(context().hosts)}}")
    return number


def pair(number):
    note(f"start {{number}} {{','.join(context().hosts)}}")
    run = subprocess.run([*context().launch(), "bash", "-c", "sleep 6; hostname"], capture_output=True, text=True)
    note(f"end {{number}} {{','.join(sorted(set(run.stdout.split())))}}")
    return number


def note(line):
    descriptor = os.open({executions!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (line + chr(10)).encode())
    os.close(descriptor)


if __name__ == "__main__":
    with ScalableSession.from_yaml() as client:
        futures = [*client.map(work, range(16)), *client.map(pair, range(16, 26))]
        print("complete", len(client.collect(futures).ok), flush=True)
"""


def documented(page: str, name: str, **changes: str) -> str:
    """Return a file of a page, made one of this test: each change is of something that is in it."""
    found = re.search(rf"```bash\n(#!/bin/bash\n# {re.escape(name)}\n.*?)```", page, re.DOTALL)
    assert found is not None, f"no {name} in the page"
    text = found[1]
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    return text


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_that_the_documented_job_is_requeued_at_its_walltime_and_goes_on(slurm, tmp_path):
    """Three nodes, tasks of one and of two; what runs at the warning finishes, and the same job does the rest."""
    target = {"provider": "slurm", "inside": True, "interface": slurm.interface, "poll": 1, "margin": 1}
    components = {"single": {"cpus": 2, "memory": "400M"}, "double": {"cpus": 2, "memory": "400M", "nodes": 2}}
    tasks = {"work": {"component": "single"}, "pair": {"component": "double"}}
    manifest = {"version": 1, "targets": {"here": target}, "components": components, "tasks": tasks}
    (tmp_path / "inside.yaml").write_text(json.dumps(manifest))
    ensemble = Ensemble(tmp_path, 26)
    ensemble.driver.write_text(MIXED.format(executions=str(ensemble.executions)))
    page = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()
    sizes = {"nodes=4": "nodes=3", "task=32": "task=3", "mem=110G": "mem=1500M", "time=04:00:00": "time=00:10:00"}
    ours = {"source venv/bin/activate": f"export PATH={Path(sys.executable).parent}:$PATH", "USR1@120": "USR1@15"}
    (tmp_path / "inside.sh").write_text(documented(page, "inside.sh", **sizes, **ours))
    job_id = slurm.run(["sbatch", "--parsable", f"--chdir={tmp_path}", str(tmp_path / "inside.sh")]).strip()
    log = tmp_path / f"crops-{job_id}.log"
    try:
        wait_until("results", lambda: sum(ensemble.counted("end").values()) >= 3, timeout=60)
        # Slurm looks at limits twice a minute, and warns by so much early.
        slurm.run(["scontrol", "update", f"jobid={job_id}", "EndTime=now+45seconds"])
        wait_until(
            "it to be requeued", lambda: "PENDING" in slurm.run(["squeue", "-h", "-j", job_id, "-o", "%T"]), timeout=60
        )
        ran = ensemble.executions.read_text()
        slurm.run(["scontrol", "update", f"jobid={job_id}", "TimeLimit=10"])
        wait_until("its completion", lambda: "complete 26" in log.read_text(), timeout=100)
    finally:
        slurm.attempt(["scancel", job_id])

    lines = [line.split() for line in ensemble.executions.read_text().splitlines()]
    assert set(ensemble.counted("start").values()) == {1}, "what ran at the warning finished, and nothing ran twice"
    assert 3 <= ran.count("end") == ran.count("start") < 26
    hosts = {int(number): {said for _, n, said in lines if n == number} for _, number, _ in lines}
    assert all(len(said) == 1 for said in hosts.values()), "a program ran on the nodes of its task, and no others"
    assert {said.count(",") for number in range(16, 26) for said in hosts[number]} == {1}
    used = {host for said in hosts.values() for both in said for host in both.split(",")}
    assert set(slurm.node_names[:2]) <= used <= set(slurm.node_names[:3])
    assert [
        event for which in range(len(ensemble.runs)) for event in of_kind(ensemble.events(which), AttemptFailed)
    ] == []
    assert slurm.run(["sacct", "-X", "-n", "-P", "-D", "-j", job_id, "-o", "JobID"]).split() == [job_id] * 2


@pytest.mark.pbs
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_that_a_driver_inside_a_pbs_job_goes_on_in_the_next_one(pbs, tmp_path):
    """The page's script: its walltime ends it, it is submitted again and completes what is left."""
    target = {"provider": "pbs", "inside": True, "interface": "lo", "poll": 1, "margin": 0}
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=2.0, cpus=2)
    (tmp_path / "scalable.yaml").rename(tmp_path / "inside.yaml")
    ensemble.driver.write_text(ensemble.driver.read_text().replace(repr(str(tmp_path / "scalable.yaml")), ""))
    page = (Path(__file__).parents[2] / "docs" / "pbs.md").read_text()
    python, package = Path(sys.executable).parent, Path(scalable_hpc.__file__).parents[1]
    venv = {"source venv/bin/activate": f"export PATH={python}:$PATH PYTHONPATH={package}"}
    sizes = {"select=4:ncpus=32:mem=110gb": "select=2:ncpus=2:mem=900mb"}
    script = tmp_path / "inside.sh"
    for seconds in ("20", "59"):
        script.write_text(documented(page, "inside.sh", **sizes, **venv, **{"time=04:00:00": f"time=00:00:{seconds}"}))
        job_id = pbs.run("qsub", str(script), cwd=tmp_path).stdout.strip()
        wait_until("its end", lambda job_id=job_id: job_id not in pbs.jobs(), timeout=70)
        wait_until("nothing of it to run", lambda: not processes_naming(f"{tmp_path}/"), timeout=30)

    said = "".join(path.read_text() for path in tmp_path.glob("crops.o*"))
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
