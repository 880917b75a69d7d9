"""Several worker types in several partitions of a real Slurm: fallback from one that is down, and a budget."""

from __future__ import annotations

import json

import pytest

from scalable_hpc.model.events import AttemptPlaced, FleetNote, ReceiptTaken
from tests.ensembles import Ensemble, allocations_of, of_kind
from tests.waiting import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(150)]

DRIVER = """
import time
from pathlib import Path
from scalable_hpc import ScalableSession

HERE = Path({base!r})


def scenario(number):
    with open(HERE / "executions.log", "a") as log:
        log.write(f"start {{number}} 0 {{time.time()}}\\n")
    time.sleep({seconds})
    return number


if __name__ == "__main__":
    with ScalableSession.from_yaml(str(HERE / "scalable.yaml")) as client:
        batch = client.collect(client.map(scenario, range({count})))
    print("ok", len(batch.ok), "failed", len(batch.failed))
    print({{type(error).__name__ for error in batch.errors().values()}})
    for error in list(batch.errors().values())[:1]:
        print(error)
    batch.raise_if_failed()
"""


def ensemble(base, slurm, *, count, seconds, components, **target) -> Ensemble:
    manifest = {
        "version": 1,
        "targets": {
            "here": {"provider": "slurm", "partition": "batch", "interface": slurm.interface, "poll": 1, **target}
        },
        "components": components,
        "tasks": {"scenario": {"component": "model", "expected_runtime": seconds}},
    }
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    made = Ensemble(base, count)
    made.driver.write_text(DRIVER.format(base=str(base), seconds=seconds, count=count))
    return made


@pytest.fixture
def partitions(slurm):
    """Changes the state of partitions; they are as they were afterwards."""

    def update(name, state):
        slurm.run(["scontrol", "update", f"PartitionName={name}", f"State={state}"])

    yield update
    update("closed", "DOWN")


def notes(made, kind):
    return [event.because for event in of_kind(made.events(), FleetNote) if event.kind == kind]


def test_that_a_partition_that_is_down_is_worked_around_until_it_is_up(slurm, partitions, tmp_path):
    """What is meant for it runs in a partition of other limits meanwhile; when it is up the rest goes there."""
    made = ensemble(
        tmp_path,
        slurm,
        count=40,
        seconds=1,
        fallback_after="2s",
        allocations={"max": 1, "walltime": "00:10:00"},
        components={
            "model": {"cpus": 4, "partition": "closed", "fallback": "spare"},
            "spare": {"cpus": 2, "partition": "debug", "walltime": "00:04:00", "allocations": {"max": 1}},
        },
    )
    driver = made.start(env=slurm.env)
    try:
        wait_until("the fallback works", lambda: len(made.counted()) >= 6, timeout=40)
        [why] = notes(made, "fallback")
        asked = slurm.run(["squeue", "-h", "-o", "%P %T %l"]).split("\n")
        partitions("closed", "UP")
        out, err = driver.communicate(timeout=80)
    finally:
        driver.kill()
        driver.communicate()

    assert driver.returncode == 0, f"{out}\n{err}"
    assert "ok 40 failed 0" in out
    assert "PartitionDown" in why
    assert "'model' cannot be had, its work goes to 'spare'" in err
    assert (
        "closed PENDING 5:00" in asked
    )  # enough for 40 s of work; still asked for, or nobody would notice that it can be had again
    assert "debug RUNNING 4:00" in asked
    assert len(notes(made, "returned")) == 1
    types = {name: life[0].worker_type for name, life in allocations_of(made.events()).items()}
    done = {types[event.allocation] for event in of_kind(made.events(), ReceiptTaken)}
    assert done == {"model", "spare"}
    assert len(of_kind(made.events(), AttemptPlaced)) == 40


def test_that_a_job_that_cannot_get_its_turn_is_told_of_and_waited_for(slurm, partitions, tmp_path):
    """No fallback: the driver says that the partition is down and what is forecast, and goes on when it is up."""
    made = ensemble(
        tmp_path,
        slurm,
        count=4,
        seconds=0.1,
        fallback_after="1s",
        walltime="00:10:00",
        components={"model": {"cpus": 2, "partition": "closed"}},
    )
    driver = made.start(env=slurm.env)
    try:
        wait_until(
            "it is told of", lambda: made.runs and made.runs[-1].journal.exists() and notes(made, "stuck"), timeout=60
        )
        partitions("closed", "UP")
        out, err = driver.communicate(timeout=60)
    finally:
        driver.kill()
        driver.communicate()

    assert driver.returncode == 0, f"{out}\n{err}"
    assert "ok 4 failed 0" in out
    [why] = notes(made, "stuck")
    assert "its partition is down (PartitionDown); no start is forecast" in why
    assert why in err
    assert list(allocations_of(made.events())) == ["a0001"]


def test_that_a_partition_that_does_not_exist_is_worked_around(slurm, tmp_path):
    """sbatch refuses: the run goes on where it can."""
    made = ensemble(
        tmp_path,
        slurm,
        count=6,
        seconds=0.1,
        walltime="00:05:00",
        components={
            "model": {"cpus": 2, "partition": "nosuch", "fallback": "private"},
            "private": {"cpus": 2, "partition": "private", "fallback": "spare"},
            "spare": {"cpus": 2},
        },
    )

    ended = made.run(env=slurm.env, timeout=60)

    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert "ok 6 failed 0" in ended.stdout
    assert len(notes(made, "fallback")) == 2


def test_that_a_budget_that_is_spent_ends_a_run_with_what_it_has(slurm, tmp_path):
    """One allocation of a minute is paid for: what it finished is there, the rest says what the budget was."""
    made = ensemble(
        tmp_path,
        slurm,
        count=10,
        seconds=15,
        walltime="00:01:00",
        budget={"node_hours": 0.02},
        components={"model": {"cpus": 2}},
    )

    ended = made.run(env=slurm.env, timeout=120)
    jobs = slurm.run(["sacct", "-n", "-P", "-X", "-o", "ElapsedRaw,JobName"]).splitlines()
    charged_s = sum(int(line.split("|")[0]) for line in jobs if made.runs[-1].run_id in line)

    assert ended.returncode == 1, f"{ended.stdout}\n{ended.stderr}"
    assert "{'BudgetSpent'}" in ended.stdout
    assert "of 0.02 node-hours used" in ended.stdout
    done = len({event.task_id for event in of_kind(made.events(), ReceiptTaken)})
    assert f"ok {done} failed {10 - done}" in ended.stdout
    assert done >= 4
    assert len(made.counted()) == done, "an attempt was cut off by the end of the budget"
    assert 0 < charged_s <= 0.02 * 3600
    assert "of a budget of 0.02" in made.report()
    assert "BudgetSpent" in made.report()


def test_that_work_goes_on_while_the_controller_is_silent(slurm, tmp_path):
    """Nothing is lost or done twice meanwhile, and both ends of the silence are in the journal.

    A job that waits has Slurm asked often, so that the silence is soon noticed.
    """
    made = ensemble(
        tmp_path,
        slurm,
        count=160,
        seconds=1,
        fallback_after="1s",
        walltime="00:10:00",
        components={"model": {"cpus": 4, "partition": "closed", "fallback": "spare"}, "spare": {"cpus": 4}},
    )
    driver = made.start(env=slurm.env)
    try:
        wait_until("the work has begun", lambda: len(made.counted()) >= 4, timeout=40)
        slurm.daemon("hang", "slurmctld")
        wait_until("the silence is noted", lambda: notes(made, "silent"), timeout=60)
        before = len(made.counted())
        wait_until("the work goes on", lambda: len(made.counted()) >= before + 4, timeout=20)
        slurm.daemon("unhang", "slurmctld")
        out, err = driver.communicate(timeout=90)
    finally:
        slurm.daemon("unhang", "slurmctld")
        driver.kill()
        driver.communicate()

    assert driver.returncode == 0, f"{out}\n{err}"
    assert "ok 160 failed 0" in out
    assert set(made.counted().values()) == {1}
    assert list(allocations_of(made.events())) == ["a0001", "a0002"]
    assert len(notes(made, "answers")) == 1
