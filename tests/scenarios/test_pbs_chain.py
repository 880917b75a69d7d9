"""A driver that is a chain of batch jobs, on PBS: its stand-ins, and with ``--pbs`` a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scalable_hpc.chain.book import BEGAN, DONE, STOPPED, SUBMITTED, Book
from tests.ensembles import AttemptFailed, Ensemble, ReceiptTaken, allocations_of, of_kind
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
    with ScalableSession.from_yaml(str(HERE / "scalable.yaml")) as client:
        batch = client.collect(client.map(scenario, range({LINKS * EACH}), retries=0))
    print("complete", len(batch.ok), flush=True)
"""


def begin_chain(base: Path, target: dict, walltime: str) -> Ensemble:
    """Submit a driver some of whose scenarios end in its first link, some in its second, some in its third."""
    manifest = {
        "version": 1,
        "project": {"name": "ensemble"},
        "targets": {"here": {**target, "allocations": {"min": 0, "max": 1, "walltime": "00:30:00"}}},
        "components": {"model": {"cpus": 2, "memory": "400M"}},
        "tasks": {"scenario": {"component": "model"}},
    }
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    (base / "driver.py").write_text(DRIVER)
    command = [sys.executable, "-m", "scalable_hpc.cli", "submit", "driver.py", "--memory", "500M"]
    submitted = subprocess.run(
        [*command, "--walltime", walltime], cwd=base, capture_output=True, text=True, timeout=60, check=False
    )
    assert submitted.returncode == 0, submitted.stderr
    ensemble = Ensemble(base, LINKS * EACH)
    assert submitted.stdout.strip() == ensemble.runs[-1].run_id
    return ensemble


def check_that_it_completes(ensemble: Ensemble, timeout: float, links: int = LINKS) -> None:
    """Over so many links, each scenario once, with one allocation that each takes over from the one before."""
    run = ensemble.runs[-1]
    book = Book(run)
    last = wait_until("the end", lambda: book.last(DONE) or book.last(STOPPED), timeout=timeout, every=0.5)

    logs = "".join(path.read_text() for path in sorted(run.logs.glob("driver-*.log")))
    assert last.what == DONE, logs
    assert f"complete {ensemble.count}" in logs
    assert book.last(BEGAN).link >= links, logs
    once = dict.fromkeys(range(ensemble.count), 1)
    assert ensemble.counted("start") == ensemble.counted("end") == once
    events = ensemble.events()
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []
    assert len([event for event in of_kind(events, ReceiptTaken) if event.node]) == ensemble.count
    assert len(allocations_of(events)) == 1, "each link should take over the allocation of the one before"
    assert not run.is_chained


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_that_a_driver_goes_on_over_three_pbs_jobs_to_the_end(pbs, tmp_path):
    """PBS sends no warning: each link looks at the clock by itself, and its successor waits for it, held."""
    pbs.configure(kill_delay_s=10)
    ensemble = begin_chain(tmp_path, {"provider": "pbs", "queue": "workq", "interface": "lo", "poll": 1}, "00:00:24")
    book = Book(ensemble.runs[-1])
    successor = wait_until("a successor in the queue", lambda: book.last(SUBMITTED, 2), timeout=30)
    seen = pbs.run("qstat", "-f", str(successor.job_id)).stdout
    assert f"depend = afterany:{book.last(SUBMITTED, 1).job_id}@pbshead" in seen
    assert "job_state = H" in seen

    check_that_it_completes(ensemble, timeout=200)
    log = (ensemble.runs[-1].logs / "driver-001.log").read_text()
    assert "s before the end of its job (qstat)" in log, "a link should ask PBS when its job ends"
    wait_until("an empty queue", lambda: pbs.jobs() == [], timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_that_a_driver_whose_job_is_requeued_goes_on_under_the_same_id(pbs, tmp_path):
    """Twice, as after a node's loss or a preemption: the same link, and the allocation that it had."""
    ensemble = begin_chain(tmp_path, {"provider": "pbs", "queue": "workq", "interface": "lo", "poll": 1}, "00:10:00")
    job_id = str(Book(ensemble.runs[-1]).last(SUBMITTED, 1).job_id)
    for ended in (EACH, 2 * EACH):
        wait_until(f"{ended} ends", lambda ended=ended: len(ensemble.counted("end")) >= ended, timeout=80)
        pbs.control("rerun", job_id)

    check_that_it_completes(ensemble, timeout=80, links=1)
    assert "run_count = 3" in pbs.run("qstat", "-xf", job_id).stdout
    wait_until("an empty queue", lambda: pbs.jobs() == [], timeout=30)


@pytest.mark.real_pbs
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_that_a_driver_goes_on_over_three_jobs_of_this_machines_pbs(real_pbs, tmp_path):
    """The same; its nodes must have qsub and qstat on PATH, as a login there has."""
    ensemble = begin_chain(tmp_path, {**real_pbs.target, "poll": 5}, "00:02:00")

    check_that_it_completes(ensemble, timeout=3400)
