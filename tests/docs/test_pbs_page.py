"""The job of docs/pbs.md is submitted to the stand-ins of PBS, as a reader would do it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scalable_hpc.lineage.journal import read_events
from scalable_hpc.runs import list_runs
from tests.ensembles import AttemptFailed, ReceiptTaken, of_kind
from tests.pages import ROOT, Page
from tests.standins.pbs_settings import Node
from tests.waiting import wait_until

OURS = {
    "interface: ib0\n": "interface: lo\n    poll: 1\n",
    "interface: ib0}": "interface: lo, poll: 1}",
    "cpus: 32, memory: 100G, slots: 8": "cpus: 2, memory: 400M, slots: 2",
    "ncpus=32:mem=110gb": "ncpus=2:mem=500mb",
}
"""What a reader would change for this machine."""


def lay_out(directory: Path, changes: dict[str, str]) -> None:
    """Write the page's files, with this machine's network, and a virtual environment that is ours."""
    Page(ROOT / "docs" / "pbs.md").lay_out(directory)
    for name in ("scalable.yaml", "inside.yaml", "driver.py", "driver.sh", "inside.sh"):
        text = (directory / name).read_text()
        for theirs, ours in {**OURS, **changes}.items():
            text = text.replace(theirs, ours)
        (directory / name).write_text(text)
    programs = directory / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
    (programs / "python").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    (programs / "scalable-hpc").write_text(f'#!/bin/sh\nexec "{programs}/python" -m scalable_hpc.cli "$@"\n')
    for name in ("python", "scalable-hpc"):
        (programs / name).chmod(0o755)


@pytest.mark.slow
def test_that_the_driver_job_of_the_page_runs_its_ensemble(pbs, tmp_path):
    """The page's driver, in the page's job, asks for the page's allocations; afterwards no job is left."""
    lay_out(tmp_path, {})
    submitted = pbs.run("qsub", "driver.sh", cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    wait_until("the end of all jobs", lambda: pbs.jobs() == [], timeout=120, every=0.5)

    assert (tmp_path / "crop-driver.o1").read_text().splitlines()[-1] == "60 of 60 succeeded"
    assert "Exit_status = 0" in pbs.run("qstat", "-xf", "1").stdout


@pytest.mark.slow
def test_that_the_second_job_of_the_page_goes_on_with_what_the_first_one_left(pbs, tmp_path):
    """The first is warned, by its own script, in the middle; nothing is lost by it, and nothing is run twice."""
    lay_out(tmp_path, {"sleep 23.9h;": "sleep 8; mkdir warned || exit;", "time.sleep(0.2)": "time.sleep(1.0)"})
    for words in ([], ["-W", "depend=afternotok:1"]):
        assert pbs.run("qsub", *words, "driver.sh", cwd=tmp_path).returncode == 0
    wait_until("the end of all jobs", lambda: pbs.jobs() == [], timeout=150, every=0.5)

    first, second = (pbs.run("qstat", "-xf", number).stdout for number in ("1", "2"))
    output = (tmp_path / "crop-driver.o2").read_text()
    assert "Exit_status = 75" in first
    assert "Exit_status = 0" in second, output
    assert output.splitlines()[-1] == "60 of 60 succeeded"
    (run,) = list_runs(tmp_path / ".scalable" / "runs")
    events = list(read_events(run.journal))
    assert [event for event in of_kind(events, AttemptFailed) if event.charged] == []
    assert len([event for event in of_kind(events, ReceiptTaken) if event.node]) == 60


@pytest.mark.slow
def test_that_the_driver_of_the_page_uses_the_nodes_of_its_own_job(pbs, tmp_path):
    """The page's second job: no other job is asked for, and its four nodes do the work."""
    lay_out(tmp_path, {"time.sleep(0.2)": "time.sleep(1.0)"})
    pbs.configure(nodes={f"node{number}": Node() for number in range(1, 5)})
    submitted = pbs.run("qsub", "inside.sh", cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    wait_until("the end of the job", lambda: pbs.jobs() == [], timeout=120, every=0.5)

    assert (tmp_path / "crops.o1").read_text().splitlines()[-1] == "60 of 60 succeeded"
    (run,) = list_runs(tmp_path / ".scalable" / "runs")
    served = {event.node for event in of_kind(list(read_events(run.journal)), ReceiptTaken)}
    assert {"node1", "node2", "node3", "node4"} >= served >= {"node1", "node2"}
    assert pbs.run("qselect", "-x").stdout.split() == ["1.pbshead"]
