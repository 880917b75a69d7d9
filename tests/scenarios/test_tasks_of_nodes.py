"""Tasks that have several nodes each: they see them and no others, and a node that is lost costs those that had it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ensembles import AttemptFailed, Ensemble, ReceiptTaken, allocations_of, make_ensemble, of_kind, reasons_of
from tests.standins.pbs_settings import Node
from tests.waiting import wait_until

LOOK = """
import json, os, subprocess
from pathlib import Path
from scalable_hpc import ScalableSession, context

SAY = ["bash", "-c", "hostname"]


def said(*words):
    found = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return sorted(found.stdout.split()) or found.stderr


def look(number):
    here = context()
    forms = {{"--nodes=2": ("--nodes=2",), "none": (), "--nodes=1": ("--nodes=1", "-n2"),
             "per node": ("--nodes=2", "--ntasks-per-node=2")}}
    seen = {{name: said("srun", *words, *SAY) for name, words in forms.items()}}
    seen["launch"] = said(*here.launch(), *SAY)
    seen["one rank"] = said(*here.launch(ranks=1), *SAY)
    if {mpi!r}:
        seen["mpiexec"] = said(*here.launch("mpiexec.openmpi"), {mpi!r})
    Path({base!r}, f"done-{{number}}").touch()
    while len(list(Path({base!r}).glob("done-*"))) < {count}:  # both slots at once
        pass
    return here.hosts, here.cpus, seen


if __name__ == "__main__":
    with ScalableSession.from_yaml({manifest!r}) as client:
        print(json.dumps([future.result() for future in client.map(look, range({count}))]))
"""

MPI_PROGRAM = """
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **words) {
  char host[64];
  int rank, sum = 0;
  MPI_Init(&count, &words);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  gethostname(host, sizeof host);
  printf("%s:%d\\n", host, sum);
  return MPI_Finalize();
}
"""


def mpi_program(directory: Path) -> str:
    """Return a program of Open MPI's that adds up its ranks' numbers; empty where this machine has no Open MPI."""
    if shutil.which("mpicc.openmpi") is None or shutil.which("mpiexec.openmpi") is None:
        return ""
    source, program = directory / "sum.c", directory / "sum"
    source.write_text(MPI_PROGRAM)
    subprocess.run(["mpicc.openmpi", str(source), "-o", str(program)], check=True)
    return str(program)


def make(base: Path, target: dict[str, object], text: str, *, nodes: int = 2, **facts: object) -> Ensemble:
    """Write a manifest whose tasks have several nodes each, and a driver."""
    ensemble = make_ensemble(base, target=target, count=1, seconds=0, cpus=2)
    manifest = json.loads((base / "scalable.yaml").read_text())
    manifest["components"]["model"]["nodes"] = nodes
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    ensemble.driver.write_text(text.format(manifest=str(base / "scalable.yaml"), base=str(base), **facts))
    return ensemble


def on(slurm, nodes: int = 4, **more: object) -> dict[str, object]:
    """A target with one allocation of some nodes."""
    allocations = {"max": 1, "nodes": nodes, "walltime": "00:10:00"}
    return {"provider": "slurm", "queue": "batch", "interface": slurm.interface, "allocations": allocations, **more}


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_that_tasks_of_two_nodes_start_programs_on_theirs_and_no_others(slurm, tmp_path):
    """Two at a time in an allocation of four nodes; srun, mpiexec and launch() find the same two hosts."""
    program = mpi_program(tmp_path)
    ensemble = make(tmp_path, on(slurm, poll=1), LOOK, count=2, mpi=program)
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    ended = ensemble.run(env={**slurm.env, **allowed}, timeout=100)
    assert ended.returncode == 0, ended.stderr

    found = json.loads(ended.stdout)
    assert sorted(host for hosts, _, _ in found for host in hosts) == sorted(slurm.node_names)
    for (first, second), cpus, seen in found:
        assert cpus == 2
        assert seen["--nodes=2"] == seen["none"] == [first, second]
        assert seen["per node"] == seen["launch"] == [first, first, second, second]
        assert seen["one rank"] == [first]
        assert len(seen["--nodes=1"]) == 2
        assert set(seen["--nodes=1"]) <= {first, second}
        assert seen.get("mpiexec") == ([f"{host}:6" for host in seen["launch"]] if program else None)


WORK = """
import subprocess, time
from pathlib import Path
from scalable_hpc import ScalableSession, context

BASE = Path({base!r})


def work(number):
    here = context()
    with open(BASE / "executions.log", "a") as log:
        log.write(f"start {{number}} {{','.join(here.hosts)}}\\n")
    run = [*here.launch(), "sleep", "3"] if {launches} else ["sleep", "3"]
    subprocess.run(run, check=True, capture_output=True)
    lost = BASE / "lost"
    while not {launches} and lost.exists() and lost.read_text() in here.hosts:
        time.sleep(0.1)  # it would never notice
    with open(BASE / "executions.log", "a") as log:
        log.write(f"end {{number}} {{','.join(here.hosts)}}\\n")
    return here.hosts


if __name__ == "__main__":
    with ScalableSession.from_yaml({manifest!r}) as client:
        batch = client.collect(client.map(work, range(5), retries=0))
        print(batch.summary())
        batch.raise_if_failed()
"""


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("launches", [True, False], ids=["its program ends", "the batch system tells"])
def test_that_a_lost_node_costs_the_tasks_that_have_it_and_no_others(slurm, tmp_path, launches):
    """The attempt is repeated in the other slot, uncharged, though it may have failed by itself; that slot goes on."""
    ensemble = make(tmp_path, on(slurm, poll=1), WORK, launches=launches)
    driver = ensemble.start(env=slurm.env)
    try:
        wait_until("both slots at work", lambda: len(ensemble.counted("start")) >= 2, timeout=60)
        lines = [line.split() for line in ensemble.executions.read_text().splitlines()]
        hosts = {int(number): hosts.split(",") for what, number, hosts in lines if what == "start"}
        job_id = allocations_of(ensemble.events())["a0001"][-1].job_id
        batch_host = slurm.run(["squeue", "-h", "-O", "BatchHost", "-j", job_id]).strip()
        [(number, (leader, lost))] = [(n, both) for n, both in hosts.items() if batch_host not in both]
        (tmp_path / "lost").write_text(lost)
        slurm.node("crash", lost)
        out, err = driver.communicate(timeout=100)
    finally:
        driver.kill()
    assert driver.returncode == 0, f"{out}\n{err}"

    events = ensemble.events()
    failed = of_kind(events, AttemptFailed)
    assert [event.charged for event in failed] == [False]
    assert {event.node for event in failed} == {lost}
    assert set(reasons_of(events).values()) == {"node_fail"}
    assert ensemble.counted("start")[number] == 2
    assert sum(ensemble.counted("start").values()) == 6, "no other was disturbed"
    after = next(event.at for event in failed)
    receipts = [event for event in of_kind(events, ReceiptTaken) if event.at > after]
    assert leader not in {event.node for event in receipts}, "the slot was withdrawn"
    assert list(allocations_of(events)) == ["a0001"]


CUT = """
import subprocess
from scalable_hpc import ScalableSession, context


def run(seconds):
    subprocess.run([*context().launch(), "sleep", str(seconds)], check=True)
    return seconds


if __name__ == "__main__":
    with ScalableSession.from_yaml({manifest!r}) as client:
        cut = client.submit(run, 600, timeout=4)
        print(type(cut.exception()).__name__, flush=True)
        input()
"""


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(100)
def test_that_ranks_on_all_nodes_end_with_a_task_that_is_killed(slurm, tmp_path):
    """They would run on beside those of the next one: srun is killed with the task and tells Slurm nothing."""
    ensemble = make(tmp_path, on(slurm, nodes=2, poll=1), CUT)
    driver = subprocess.Popen(
        [sys.executable, str(ensemble.driver)],
        env={**os.environ, **slurm.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def steps():
        return [name for name in slurm.run(["squeue", "-h", "-s", "-o", "%j"]).split() if name == "env"]

    try:
        wait_until("ranks", steps, timeout=60)
        assert driver.stdout.readline() == "TaskTimeout\n"
        wait_until("their end", lambda: not steps(), timeout=30)
        assert slurm.run(["squeue", "-h", "-o", "%T"]).split() == ["RUNNING"], "the worker goes on"
        driver.communicate("done\n", timeout=60)
    finally:
        driver.kill()


NODE_FILE = """
import json, os
from pathlib import Path
from scalable_hpc import ScalableSession, context


def look(number):
    here = context()
    Path({base!r}, f"done-{{number}}").touch()
    while len(list(Path({base!r}).glob("done-*"))) < 2:  # both slots at once
        pass
    return here.hosts, here.launch(), Path(os.environ["PBS_NODEFILE"]).read_text().split()


if __name__ == "__main__":
    with ScalableSession.from_yaml({manifest!r}) as client:
        print(json.dumps([future.result() for future in client.map(look, range(2))]))
"""


@pytest.mark.pbs
@pytest.mark.slow
@pytest.mark.timeout(100)
def test_that_on_pbs_a_task_has_a_node_file_of_its_own(pbs, tmp_path):
    """Two at a time in a job of four nodes; mpiexec reads two nodes of its own, with a line for each cpu."""
    pbs.configure(nodes={f"node{number}": Node() for number in range(1, 5)})
    target = {"provider": "pbs", "interface": "lo", "poll": 1}
    ensemble = make(tmp_path, {**target, "allocations": {"max": 1, "nodes": 4, "walltime": "00:10:00"}}, NODE_FILE)
    ended = ensemble.run(timeout=80)
    assert ended.returncode == 0, ended.stderr

    found = json.loads(ended.stdout)
    assert sorted(hosts for hosts, *_ in found) == [["node1", "node2"], ["node3", "node4"]]
    for hosts, words, lines in found:
        assert words[:3] == ["mpiexec", "-n", "4"]
        assert lines == [host for host in hosts for _ in range(2)]


def test_that_on_this_machine_a_task_has_names_for_its_nodes(tmp_path):
    """As many as it would have, its programs all here, so that what is written for a cluster can be tried."""
    target = {"provider": "local", "capacity": {"cpus": 8}, "allocations": {"max": 1}}
    text = LOOK.replace('seen = {{name: said("srun", *words, *SAY) for name, words in forms.items()}}', "seen = {{}}")
    text = text.replace("said(*here.launch(", "(here.launch(").replace("), *SAY)", "))")
    ensemble = make(tmp_path, target, text, count=1, mpi="", nodes=3)
    ended = ensemble.run(timeout=60)
    assert ended.returncode == 0, ended.stderr

    [(hosts, cpus, seen)] = json.loads(ended.stdout)
    assert len(set(hosts)) == 3
    assert cpus == 2
    assert seen["launch"][:3] == ["mpiexec", "-n", "6"]
    assert seen["one rank"][:3] == ["mpiexec", "-n", "1"]
