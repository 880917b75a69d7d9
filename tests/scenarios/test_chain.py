"""A driver that is a chain of batch jobs, on each batch system that has jobs for drivers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scalable_hpc.chain.book import BEGAN, DONE, STOPPED, SUBMITTED, Book
from tests.batch_systems import BatchSystem
from tests.ensembles import AttemptFailed, Ensemble, ReceiptTaken, allocations_of, make_ensemble, of_kind
from tests.waiting import wait_until

LINKS, EACH = 3, 6
DRIVER = f"""
import time
from pathlib import Path
from scalable_hpc import ScalableSession, cacheable

HERE = Path(__file__).parent

def note(words):
    with open(HERE / "executions.log", "a") as log:
        log.write(f"{{words}} {{time.time()}}\\n")

@cacheable(return_type=int, number=int)
def scenario(number: int) -> int:
    note(f"start {{number}}")
    while not (HERE / f"link-{{1 + number // {EACH}}}").exists():  # only that link's time brings it to its end
        time.sleep(0.1)
    note(f"end {{number}}")
    return number * number

if __name__ == "__main__":
    (HERE / f"link-{{1 + len(list(HERE.glob('link-*')))}}").touch()
    with ScalableSession.from_yaml() as client:
        batch = client.collect(client.map(scenario, range({LINKS * EACH}), retries=0))
    print("complete", len(batch.ok), flush=True)
"""


def submit(base: Path, env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return command(base, env, "submit", *words)


def command(base: Path, env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "scalable_hpc.cli", *words]
    return subprocess.run(
        argv, cwd=base, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def begin_chain(base: Path, system: BatchSystem, walltime: str) -> Ensemble:
    """Submit a driver some of whose scenarios end in its first link, some in its second, some in its third."""
    manifest = {
        "version": 1,
        "project": {"name": "ensemble"},
        "targets": {"here": system.target(walltime="00:30:00")},
        "components": {"model": {"cpus": system.cpus, "memory": "400M"}},  # on a node of its own, not the driver's
        "tasks": {"scenario": {"component": "model"}},
    }
    (base / "chain.yaml").write_text(json.dumps(manifest))
    (base / "driver.py").write_text(DRIVER)
    asked = ("--manifest", "chain.yaml", "--memory", "500M", "--walltime", walltime)
    submitted = submit(base, system.env, "driver.py", *asked)
    assert submitted.returncode == 0, submitted.stderr
    ensemble = Ensemble(base, LINKS * EACH)
    assert submitted.stdout.strip() == ensemble.runs[-1].run_id
    return ensemble


def check_that_it_completes(ensemble: Ensemble, system: BatchSystem, seconds: float, *, links: int = LINKS) -> None:
    """Over so many links, each scenario once, with one allocation that each takes over from the one before."""
    run = ensemble.runs[-1]
    book = Book(run)
    last = system.wait("the end", lambda: book.last(DONE) or book.last(STOPPED), seconds)

    logs = "".join(path.read_text() for path in sorted(run.logs.glob("driver-*.log")))
    assert last.what == DONE, logs
    assert f"complete {ensemble.count}" in logs
    assert book.last(BEGAN).link >= links, logs
    once = dict.fromkeys(range(ensemble.count), 1)
    assert ensemble.counted("start") == ensemble.counted("end") == once
    events = ensemble.events()
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []
    computed = [event.task_id for event in of_kind(events, ReceiptTaken) if event.node]
    assert len(computed) == len(set(computed))
    assert len(allocations_of(events)) == 1, "each link should take over the allocation of the one before"
    assert not run.is_chained
    system.wait("an empty queue", lambda: system.jobs(ensemble) == [], 30)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_that_a_driver_goes_on_over_three_links_to_the_end(chain_system, tmp_path):
    """Its successor waits in the queue all the time; nothing is run twice, one allocation serves all."""
    ensemble = begin_chain(tmp_path, chain_system, chain_system.link_walltime)
    book = Book(ensemble.runs[-1])
    successor = chain_system.wait("a successor in the queue", lambda: book.last(SUBMITTED, 2), 60)
    assert successor.because == f"after job {book.last(SUBMITTED, 1).job_id}"

    check_that_it_completes(ensemble, chain_system, 380)
    log = (ensemble.runs[-1].logs / "driver-001.log").read_text()
    assert "s before the end of its job" in log


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_that_a_driver_whose_node_is_lost_goes_on_under_the_same_id(chain_system, tmp_path):
    """It is requeued: the same link on another node, once nothing is heard of the old one, and the same allocation."""
    if chain_system.name == "real_pbs":
        pytest.skip("no user can take a node away")
    ensemble = begin_chain(tmp_path, chain_system, "00:10:00")
    job_id = str(Book(ensemble.runs[-1]).last(SUBMITTED, 1).job_id)
    chain_system.wait("results", lambda: len(ensemble.counted("end")) >= EACH, 100)
    chain_system.lose_node_of_driver(job_id)
    if chain_system.name == "pbs":  # where no minute is needed to be sure of the old one: a preemption as well
        chain_system.wait("more results", lambda: len(ensemble.counted("end")) >= 2 * EACH, 100)
        chain_system.requeue(job_id)
    else:
        for link in (2, 3):
            (ensemble.base / f"link-{link}").touch()

    check_that_it_completes(ensemble, chain_system, 200, links=1)
    assert chain_system.starts(job_id) == (3 if chain_system.name == "pbs" else 2)


def test_that_a_driver_that_can_never_run_is_refused(chain_system, tmp_path):
    """Also where the batch system takes its job: in its words, within seconds, and the job does not stay."""
    ensemble = make_ensemble(tmp_path, target=chain_system.target(), count=1, seconds=0.0)
    ended = submit(tmp_path, chain_system.env, "driver.py", "--cpus", "9999", "--walltime", "00:05:00")

    assert ended.returncode in (20, 22), ended.stderr
    assert re.search("Can Never Run: Insuff|violates queue|More processors requested", ended.stderr), ended.stderr
    assert chain_system.jobs(ensemble) == []
    assert not ensemble.runs[-1].is_chained


def test_that_a_driver_that_waits_for_others_to_act_says_so(chain_system, tmp_path):
    """When it is submitted, and whenever its status is asked for; and it can be cancelled."""
    if chain_system.closed is None:
        pytest.skip("no queue of this machine is known to be closed")
    queue, words = chain_system.closed
    ensemble = make_ensemble(tmp_path, target=chain_system.target(), count=1, seconds=0.0)
    submitted = submit(tmp_path, chain_system.env, "driver.py", "--queue", queue, "--walltime", "00:05:00")
    assert submitted.returncode == 0, submitted.stderr
    (job_id,) = chain_system.jobs(ensemble)
    status = command(tmp_path, chain_system.env, "status")
    cancelled = command(tmp_path, chain_system.env, "cancel", ensemble.runs[-1].run_id)

    assert f"job {job_id} waits: {words}" in submitted.stderr
    assert f"driver job: link 1 (job {job_id}) waits: {words}" in status.stdout, status.stderr
    assert cancelled.returncode == 0, cancelled.stderr
    chain_system.wait("an empty queue", lambda: chain_system.jobs(ensemble) == [], 30)


@pytest.mark.slow
def test_that_a_link_tells_what_is_in_the_way_of_the_next(pbs, tmp_path):
    """The first link runs here, as its job would run it; its successor is in a queue that starts nothing."""
    target = {"provider": "pbs", "queue": "workq", "interface": "lo", "poll": 1, "margin": 2}
    ensemble = make_ensemble(tmp_path, target=target, count=40, seconds=1.5)
    submitted = submit(tmp_path, {}, "driver.py", "--queue", "stopped", "--walltime", "00:00:16")
    assert submitted.returncode == 0, submitted.stderr
    run = ensemble.runs[-1]
    argv = [sys.executable, "-m", "scalable_hpc.chain", str(run.path), "1"]
    link = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    successor = Book(run).last(SUBMITTED, 2).job_id
    command(tmp_path, {}, "cancel", run.run_id)

    assert link.returncode == 0, link.stderr
    assert f"link 2 (job {successor}) waits: 'Not Running: Queue not started.'" in link.stderr
    wait_until("an empty queue", lambda: pbs.jobs() == [], timeout=30)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_that_a_link_that_gets_nowhere_ends_the_chain_with_the_reason(slurm, tmp_path):
    """Tasks of ten minutes under a driver of one: the second link would do no better."""
    target = {"provider": "slurm", "queue": "batch", "interface": slurm.interface, "poll": 1}
    ensemble = make_ensemble(tmp_path, target=target, count=1, seconds=600.0)
    submitted = submit(tmp_path, slurm.env, "driver.py", "--walltime", "00:01:00", "--memory", "500M")
    assert submitted.returncode == 0, submitted.stderr
    book = Book(ensemble.runs[-1])
    stopped = wait_until("the end of the chain", lambda: book.last(STOPPED), timeout=200)

    assert "got nowhere" in stopped.because
    assert book.last(SUBMITTED, 2) is not None, "the successor was in the queue all the time"
    wait_until("an empty queue", lambda: not slurm.run(["squeue", "-h"]).strip(), timeout=60)
