"""A seeded storm over a graph of tasks: whatever is killed, lost or damaged meanwhile, the results are those of a
serial run, nothing that has a receipt is run again, nobody innocent is charged, and the journal tells all of it.

A longer storm: ``SCALABLE_HPC_CHAOS="SEED [TASKS [SECONDS]]" pytest tests/scenarios/test_chaos.py``.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.lineage.journal import Journal, read_events
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.quick import QuickFold
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.replay import replay
from scalable_hpc.model.events import AttemptFailed, AttemptPlaced, ReceiptTaken, ResultDropped
from scalable_hpc.runs import RunDirectory, list_runs
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.worker.recorder import read_recorder
from tests.processes import processes_naming
from tests.waiting import wait_until

SEED, TASKS, STORM_S = 1, 500, 25.0
STARTED_S = 6.0
"""Jobs that end before their worker came three times in a row are an error of their own, and rightly so."""
QUIET_S = 240.0
"""For what is left when the storm is over; a tenth of it on a free machine."""

DRIVER = """
import json, os, sys, time
from scalable_hpc import ScalableSession, cacheable

GRAPH = json.load(open("graph.json"))

def note(what, number):
    with open("executions.log", "a") as log:
        log.write(f"{what} {number} {os.getpid()}\\n")

@cacheable
def step(number: int, seconds: float, *parents: int) -> int:
    note("start", number)
    time.sleep(seconds)
    value = (number * 31 + sum(parents) * 7) % 1_000_003
    note("end", number)
    return value

def main():
    with ScalableSession.from_yaml("scalable.yaml") as client:
        futures = []
        for number, (seconds, parents) in enumerate(GRAPH):
            before = [futures[parent] for parent in parents]
            futures.append(client.submit(step, number, seconds, *before, retries=0))
        values = client.gather(futures)
    with open("values.part", "w") as file:
        json.dump(values, file)
    os.replace("values.part", "values.json")

if __name__ == "__main__":
    main()
"""


def graph_of(tasks: int, rng: random.Random) -> list[tuple[float, list[int]]]:
    """How long each task takes and which earlier ones it needs: wide, with chains through it."""
    return [
        (
            round(rng.choice((0.01, 0.05, 0.1, 0.4)), 3),
            sorted(rng.sample(range(max(0, number - 40), number), k=min(number, rng.choice((0, 0, 1, 2, 3))))),
        )
        for number in range(tasks)
    ]


def serially(graph: list[tuple[float, list[int]]]) -> list[int]:
    """What a loop on one machine gives."""
    values: list[int] = []
    for number, (_, parents) in enumerate(graph):
        values.append((number * 31 + sum(values[parent] for parent in parents) * 7) % 1_000_003)
    return values


Blow = Callable[["Storm"], bool]
"""Breaks something, and says whether there was anything to break."""


@dataclass
class Storm:
    """Breaks things at random, one after another; what it broke is in ``done``."""

    base: Path
    rng: random.Random
    env: Mapping[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    hit: set[int] = field(default_factory=set)
    """Tasks under which a slot or worker was killed: a second time would convict them, and rightly so."""
    suspects: set[tuple[str, str]] = field(default_factory=set)
    """By run and name: the same of those that had not come to their own code yet, or had left it."""
    driver: subprocess.Popen[str] | None = None
    exits: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start the driver, for the first time or again."""
        with (self.base / "driver.err").open("a") as errors:
            self.driver = subprocess.Popen(
                [sys.executable, "driver.py"],
                cwd=self.base,
                env={**os.environ, **self.env},
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def run(self) -> RunDirectory | None:
        """The newest run."""
        runs = list_runs(self.base / ".scalable" / "runs")
        return runs[-1] if runs else None

    def blow(self, seconds: float, blows: tuple[Blow, ...]) -> None:
        """Break something about once a second for so long, or until everything is done."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.is_over():
            time.sleep(self.rng.uniform(0.3, 1.5))
            blow = self.rng.choice(blows)
            if blow(self):
                self.done[blow.__name__] += 1
            self.see_to_the_driver()

    def see_to_the_driver(self) -> None:
        """Start it again when it was killed; that it ends by itself is an error unless it is done."""
        assert self.driver is not None
        code = self.driver.poll()
        if code is not None and not self.is_over():
            assert code == -signal.SIGKILL, f"the driver ended with {code}: {(self.base / 'driver.err').read_text()}"
            self.start()

    def is_over(self) -> bool:
        """Whether the results are there."""
        return (self.base / "values.json").exists()

    def running(self) -> dict[int, int]:
        """Which task runs in which process."""
        found: dict[int, int] = {}
        with suppress(FileNotFoundError):
            for line in (self.base / "executions.log").read_text().splitlines():
                what, number, pid = line.split()
                if what == "start":
                    found[int(pid)] = int(number)
                else:
                    found.pop(int(pid), None)
        return {pid: number for pid, number in found.items() if psutil.pid_exists(pid)}

    def may_be_hit(self, pids: list[int]) -> bool:
        """Whether none of the tasks in these processes was hit before; they are, from now on."""
        running = self.running()
        tasks = {running[pid] for pid in pids if pid in running}
        if tasks & self.hit:
            return False
        self.hit |= tasks
        return True

    def may_be_suspected(self, run: RunDirectory, victim: psutil.Process) -> bool:
        """Likewise, by what is going to be suspected: all that runs there, says its flight recorder."""
        (allocation,) = re.findall(r"--allocation[= ](\S+)", " ".join(victim.cmdline()))
        found = {
            (run.run_id, attempt.task_id)
            for path in (run.path / "recorders").glob(f"{allocation}-*.rec")
            for attempt in read_recorder(path).running
        }
        if found & self.suspects:
            return False
        self.suspects |= found
        return True


def processes_of(run: RunDirectory, module: str, older_than_s: float = 0.0) -> list[psutil.Process]:
    """The launchers or couriers of a run."""
    found = []
    for pid in processes_naming(str(run.path)):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if module in process.cmdline() and time.time() - process.create_time() >= older_than_s:
                found.append(process)
    return found


def kill_a_slot(storm: Storm) -> bool:
    """One process that runs a task."""
    running = list(storm.running())
    if not running:
        return False
    pid = storm.rng.choice(running)
    if not storm.may_be_hit([pid]):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def _kill_one_with_all_below(storm: Storm, module: str, *, older_than_s: float = 0.0) -> bool:
    run = storm.run()
    found = processes_of(run, module, older_than_s) if run is not None else []
    if not found:
        return False
    victim = storm.rng.choice(found)
    with suppress(psutil.Error, RunDirectoryError):
        if storm.may_be_suspected(run, victim) and storm.may_be_hit([each.pid for each in victim.children(True)]):
            victim.kill()
            return True
    return False


def kill_a_worker(storm: Storm) -> bool:
    """The courier of a node; its launcher starts another."""
    return _kill_one_with_all_below(storm, "scalable_hpc.worker.serve")


def kill_a_launcher(storm: Storm) -> bool:
    """And with it the whole job."""
    return _kill_one_with_all_below(storm, "scalable_hpc.worker", older_than_s=STARTED_S)


def stop_a_worker_for_a_while(storm: Storm) -> bool:
    """A node that hangs and comes back."""
    run = storm.run()
    found = processes_of(run, "scalable_hpc.worker.serve") if run is not None else []
    if not found:
        return False
    with suppress(psutil.Error):
        victim = storm.rng.choice(found)
        victim.suspend()
        time.sleep(storm.rng.uniform(0.5, 2))
        victim.resume()
        return True
    return False


def _a_job(storm: Storm) -> tuple[LocalBackend, str] | None:
    run = storm.run()
    if run is None:
        return None
    born = {path.parent.name: path.stat().st_mtime for path in run.spool.glob("local-*/request.json")}
    jobs = sorted(name for name, at in born.items() if time.time() - at >= STARTED_S)
    return (LocalBackend(run.spool), storm.rng.choice(jobs[-2:])) if jobs else None


def lose_a_node(storm: Storm) -> bool:
    """A power cut."""
    found = _a_job(storm)
    if found is not None:
        found[0].lose_node(found[1])
    return found is not None


def preempt_a_job(storm: Storm) -> bool:
    """Somebody more important wants the node."""
    found = _a_job(storm)
    if found is not None:
        found[0].preempt(found[1])
    return found is not None


def kill_the_driver(storm: Storm) -> bool:
    """And start it again at once."""
    run = storm.run()
    if storm.driver is None or run is None or not run.is_open or storm.rng.random() < 0.5:
        return False
    storm.driver.kill()
    storm.driver.wait()
    return True


def damage_a_record(storm: Storm) -> bool:
    """One byte of a stored result is another: a disk that lies."""
    packs = [path for path in storm.base.glob(".scalable/cache/v1/packs/**/*.pack") if path.stat().st_size]
    if not packs:
        return False
    with storm.rng.choice(packs).open("r+b") as pack:
        at = storm.rng.randrange(pack.seek(0, os.SEEK_END))
        pack.seek(at)
        byte = pack.read(1)
        pack.seek(at)
        pack.write(bytes([byte[0] ^ 0x40]))
    return True


LOCAL_BLOWS = (
    damage_a_record,
    kill_a_slot,
    kill_a_slot,
    kill_a_worker,
    kill_a_launcher,
    stop_a_worker_for_a_while,
    lose_a_node,
    preempt_a_job,
    kill_the_driver,
)


COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
MOODY = """#!/usr/bin/env bash
# {name}, in the mood that a file says: fails, hangs for a while, or does as it is told and says nothing of it.
case "$(cat {mood} 2>/dev/null)" in
  fails) echo "{name}: error: Unable to contact slurm controller (connect failure)" >&2; exit 1 ;;
  hangs) sleep 5 ;;
  lies) {real} "$@" >/dev/null; exit 0 ;;
esac
exec {real} "$@"
"""


def make_moody(base: Path) -> dict[str, str]:
    """Put a moody command in front of each of Slurm's, and return what the manifest is to call."""
    calls = {}
    for name in COMMANDS:
        path = base / "moody" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(MOODY.format(name=name, mood=base / "mood", real=shutil.which(name)))
        path.chmod(0o755)
        calls[name] = str(path)
    return calls


def _in_a_mood(storm: Storm, mood: str) -> bool:
    (storm.base / "mood").write_text(mood)
    time.sleep(storm.rng.uniform(1, 4))
    (storm.base / "mood").unlink()
    return True


def commands_fail(storm: Storm) -> bool:
    """No controller answers."""
    return _in_a_mood(storm, "fails")


def commands_hang(storm: Storm) -> bool:
    """Each takes five seconds longer."""
    return _in_a_mood(storm, "hangs")


def commands_lie(storm: Storm) -> bool:
    """They do what they are told, and print nothing."""
    return _in_a_mood(storm, "lies")


def slurm_blows(slurm: Any) -> tuple[Blow, ...]:
    """What real Slurm can do to a run."""

    def a_job(storm: Storm, state: str) -> str | None:
        listed = slurm.run(["squeue", "-h", "-t", state, "-o", "%i %M"]).split("\n")
        old = [line.split()[0] for line in listed if line and not line.endswith((" 0:00", " 0:01", " 0:02", " 0:03"))]
        return storm.rng.choice(old) if old else None

    def cancel_a_job(storm: Storm) -> bool:
        """An operator's hand."""
        job = a_job(storm, "RUNNING")
        return job is not None and slurm.attempt(["scancel", job]).returncode == 0

    def requeue_a_job(storm: Storm) -> bool:
        """It waits again, under its old id."""
        job = a_job(storm, "RUNNING")
        return job is not None and slurm.attempt(["scontrol", "requeue", job]).returncode == 0

    def crash_a_node(storm: Storm) -> bool:
        """And give it back a while later."""
        if storm.done["crash_a_node"] >= 2:
            return False
        name = slurm.node_names[storm.done["crash_a_node"]]
        slurm.node("crash", name)
        time.sleep(storm.rng.uniform(1, 3))
        return True

    return (
        cancel_a_job, requeue_a_job, crash_a_node, commands_fail, commands_hang, commands_lie, damage_a_record,
        kill_the_driver,
    )  # fmt: skip


@pytest.fixture
def wanted() -> tuple[int, int, float]:
    """Seed, number of tasks and seconds of the storm."""
    said = os.environ.get("SCALABLE_HPC_CHAOS", "").split()
    return (
        int(said[0]) if said else SEED,
        int(said[1]) if len(said) > 1 else TASKS,
        float(said[2]) if len(said) > 2 else STORM_S,
    )


def lay_out(base: Path, target: Mapping[str, object], graph: object) -> None:
    manifest = {
        "version": 1,
        "project": {"name": "storm"},
        "targets": {"here": dict(target)},
        "components": {"model": {"cpus": 4, "memory": "400M"}},
        "tasks": {"step": {"component": "model"}},
    }
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    (base / "graph.json").write_text(json.dumps(graph))
    (base / "driver.py").write_text(textwrap.dedent(DRIVER))


def weather(storm: Storm, seconds: float, blows: tuple[Blow, ...]) -> None:
    """Blow, then let what is left be done."""
    storm.start()
    try:
        wait_until("the first task to run", (storm.base / "executions.log").exists, timeout=90)
        storm.blow(seconds, blows)

        def over() -> bool:
            storm.see_to_the_driver()
            return storm.is_over()

        wait_until("the results", over, timeout=QUIET_S)
        assert storm.driver is not None
        storm.driver.wait(120)
    finally:
        if storm.driver is not None and storm.driver.poll() is None:
            storm.driver.kill()
            storm.driver.wait()


def journals(storm: Storm) -> Iterator[RunDirectory]:
    yield from list_runs(storm.base / ".scalable" / "runs")


def check(storm: Storm, graph: list[tuple[float, list[int]]]) -> None:
    """The laws."""
    told = f"after {dict(storm.done)} in {storm.base}"
    assert json.loads((storm.base / "values.json").read_text()) == serially(graph), told
    for run in journals(storm):
        events = list(read_events(run.journal))
        report = build_report(events)
        assert report.tasks.failed == 0, (told, report.failures)
        assert [event.because for event in events if isinstance(event, AttemptFailed) and event.charged] == [], told
        assert report.upkeep.done_twice == 0, told
        assert report.tasks.submitted + report.tasks.hits <= len(graph), (told, "each call counts once")
        done: set[str] = set()
        for event in events:
            if isinstance(event, ReceiptTaken):
                done.add(event.task_id)
            elif isinstance(event, ResultDropped):
                done.discard(event.task_id)  # it was damaged
            elif isinstance(event, AttemptPlaced):
                assert event.task_id not in done, (told, event)
        slow, quick = replay(events), Ledger()
        Journal(run.journal, run.run_id, into=QuickFold(quick)).close()
        assert {task: view.state for task, view in slow.views().items()} == {
            task: view.state for task, view in quick.views().items()
        }
        assert slow.count(TaskState.SENT) == 0 or not report.is_closed


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_that_a_storm_changes_no_result(tmp_path, wanted):
    """On Local: slots, workers, launchers, nodes and drivers are killed, stopped and preempted, in no order."""
    seed, tasks, seconds = wanted
    rng = random.Random(seed)
    graph = graph_of(tasks, rng)
    target = {
        "provider": "local",
        "capacity": {"cpus": 8},
        "allocations": {"min": 1, "max": 2, "walltime": "00:05:00"},
    }
    lay_out(tmp_path, target, graph)
    storm = Storm(tmp_path, rng)

    weather(storm, seconds, LOCAL_BLOWS)

    check(storm, graph)
    assert sum(storm.done.values()) >= 3, storm.done


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(900)
@pytest.mark.skipif("SCALABLE_HPC_CHAOS" not in os.environ, reason="a storm on Slurm takes minutes: by option only")
def test_that_a_storm_on_slurm_changes_no_result(slurm, tmp_path, wanted):
    """Nodes crash, jobs are cancelled and requeued, commands fail, hang and lie, the driver is killed."""
    seed, tasks, seconds = wanted
    rng = random.Random(seed)
    graph = graph_of(tasks, rng)
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "allocations": {"min": 1, "max": 2, "walltime": "00:10:00"},
        "commands": make_moody(tmp_path),
    }
    lay_out(tmp_path, target, graph)
    storm = Storm(tmp_path, rng, slurm.env)

    weather(storm, seconds, slurm_blows(slurm))

    check(storm, graph)
    assert sum(storm.done.values()) >= 3, storm.done
