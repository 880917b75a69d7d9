"""Functions that give another result each time: the first one counts, also for a driver that is started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import ResultsDiffer
from scalable_hpc.runs import list_runs
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.text import render_report
from tests.waiting import wait_until

MANIFEST = """\
version: 1
project: {name: impure}
targets:
  here:
    provider: local
    capacity: {cpus: 2}
    allocations: {max: 1, walltime: "00:20:00"}
components:
  model: {cpus: 2}
tasks:
  noisy: {verify_pure: 1.0}
"""

DRIVER = """\
import json, os, random, sys, time
from pathlib import Path
from scalable_hpc import ScalableSession, cacheable

def mark(name):
    with open("executions", "a") as file:
        print(name, file=file, flush=True)

@cacheable
def draw(site: int) -> float:
    mark(f"draw {site}")
    return random.random()

def plus(value, seconds):
    mark("plus")
    time.sleep(seconds)
    return value + 1

def noisy(number):
    return random.random() if number % 2 else number

with ScalableSession.from_yaml("scalable.yaml") as client:
    draws = [client.submit(draw, site, pure=False) for site in (1, 1, 2)]
    values = client.gather(draws)
    sums = [client.submit(plus, future, 0) for future in draws]
    totals = client.gather(sums)
    if sys.argv[1] == "first":
        Path("said").write_text(json.dumps([values, totals]))
        client.submit(plus, draws[0], 60).result()
    noise = client.map(noisy, range(4))
    print(json.dumps([values, totals, client.gather(noise)]))
"""


def drive(place, *arguments, run=None):
    environment = {**os.environ, **({"SCALABLE_HPC_RUN": run} if run else {})}
    return subprocess.Popen(
        [sys.executable, "driver.py", *arguments],
        cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A driver is killed when its draws are done; the script is started again on its run."""
    place = tmp_path_factory.mktemp("impure")
    (place / "scalable.yaml").write_text(MANIFEST)
    (place / "driver.py").write_text(textwrap.dedent(DRIVER))
    first = drive(place, "first")
    wait_until("the first driver to be told", (place / "said").exists, timeout=60)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (run,) = list_runs(place / ".scalable" / "runs")
    second = drive(place, "again", run=run.run_id)
    said, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    return place, run, json.loads((place / "said").read_text()), json.loads(said), errors


def test_that_equal_calls_of_an_impure_function_are_tasks_of_their_own(lived):
    """Two draws for one site are two draws, and nothing of them is in the shared cache."""
    place, _, (values, _), _, _ = lived

    assert len(set(values)) == 3
    assert not list((place / ".scalable" / "cache").rglob("*.pack"))


def test_that_a_script_that_is_started_again_on_its_run_gets_the_first_results(lived):
    """And computes none of them again, nor what was made of them."""
    place, _, first, (*again, _), _ = lived
    executions = (place / "executions").read_text().split("\n")

    assert again == first
    assert [executions.count(name) for name in ("draw 1", "draw 2")] == [2, 1]
    assert executions.count("plus") <= 5  # three, and the long one that was under way: once more by the second driver


def test_that_a_function_that_is_not_pure_is_found_out(lived):
    """Each call computed once more, both digests told, the first result kept."""
    _, run, _, (_, _, noise), errors = lived
    differing = [event for event in read_events(run.journal) if isinstance(event, ResultsDiffer)]
    report = build_report(read_events(run.journal))
    text = render_report(report)

    assert noise[0::2] == [0, 2]
    assert len(differing) == 2
    assert all(event.first != event.second for event in differing)
    assert report.verified == 4
    assert "4 calls, 2 differing" in text
    assert "noisy(1): " + differing[0].first[:16] in text
    assert differing[0].second[:16] in text
    assert "gave another result" in errors
    assert report.tasks.failed == 0
