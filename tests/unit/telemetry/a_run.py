"""The events of a small run with one of everything: faults, retries, failures, hits, a second driver."""

from scalable_hpc.model.events import (
    AllocationChanged,
    AttemptExplained,
    AttemptFailed,
    AttemptPlaced,
    FleetNote,
    ReceiptTaken,
    RunClosed,
    RunOpened,
    TaskCancelled,
    TaskGivenUp,
    TasksHit,
    TaskSubmitted,
)
from scalable_hpc.model.tasks import Payload

NOTHING = Payload("0" * 64, 0)


def submitted(at, task_id, label=None):
    return TaskSubmitted(at, task_id, "run_simulation", "k" * 64, "/store", NOTHING, NOTHING, label=label or task_id)


def receipt(at, task_id, attempt, allocation="a0001", took=2.0, **more):
    return ReceiptTaken(at, task_id, attempt, "d" * 64, 10, at - took, at, 1000, "node01", allocation, **more)


def failed(at, task_id, attempt, ending="exception", verdict="transient", *, charged=True, **more):
    facts = {"decision": "again", "because": "so it is judged", "worker": "a0001", "allocation": "a0001"}
    return AttemptFailed(at, task_id, attempt, ending, verdict, charged, **(facts | more))


def allocation(at, name, state, **more):
    return AllocationChanged(at, name, state, more.pop("because", f"it is {state}"), worker_type="cpu", **more)


def first_driver():
    """One allocation is lost with its node: task 2 was running there, task 3 had not begun; task 4 fails for good."""
    return [
        RunOpened(100.0, "20261122T084512Z-ab12cd", "slurm", 1, "login", "0.1.0"),
        TasksHit(100.1, "run_simulation", 40),
        *[submitted(100.2, f"t{n}") for n in (1, 2, 3)],
        submitted(100.2, "t4", "run_simulation(scenario_id=13)"),
        allocation(101.0, "a0001", "submitting"),
        allocation(102.0, "a0001", "pending", job_id="7"),
        allocation(110.0, "a0001", "starting", job_id="7", nodes=("node01", "node02")),
        allocation(112.0, "a0001", "live", job_id="7", nodes=("node01", "node02")),
        *[AttemptPlaced(113.0, f"t{n}", 1, "tcp://w", "a0001") for n in (1, 2, 3, 4)],
        receipt(116.0, "t1", 1),
        failed(116.5, "t4", 1, node="node01", error_type="builtins.ValueError", error="invalid input data", ran_s=1.0),
        AttemptPlaced(117.0, "t4", 2, "tcp://w", "a0001"),
        failed(118.0, "t4", 2, node="node01", error_type="builtins.ValueError", error="invalid input data", ran_s=0.1),
        TaskGivenUp(118.0, "t4", "builtins.ValueError", "invalid input data", "its 1 retry is used up"),
        failed(120.0, "t2", 1, "worker_lost", "infrastructure", charged=False, node="node01"),
        failed(120.0, "t3", 1, "never_started", "infrastructure", charged=False),
        FleetNote(121.0, "pause", "1 allocation in a row ended before any worker registered"),
        allocation(134.0, "a0001", "ended", job_id="7", reason="node_fail", raw="NODE_FAIL"),
        AttemptExplained(134.0, "t2", 1, "a0001", "node_fail", "its node is down"),
    ]


def second_driver():
    """Finishes what is left; one result was found in the store, one task is cancelled."""
    return [
        RunOpened(200.0, "20261122T084512Z-ab12cd", "slurm", 2, "login", "0.1.0"),
        submitted(200.1, "t5"),
        TaskCancelled(201.0, "t5", "by its owner"),
        allocation(201.0, "a0002", "submitting"),
        allocation(202.0, "a0002", "live", job_id="8", nodes=("node03",)),
        AttemptPlaced(203.0, "t2", 2, "tcp://x", "a0002"),
        AttemptPlaced(203.0, "t3", 2, "tcp://x", "a0002"),
        receipt(204.0, "t2", 2, "a0002", reused=True),
        receipt(206.0, "t3", 2, "a0002"),
        receipt(206.5, "t2", 1, "a0001", late=True),
        allocation(238.0, "a0002", "ended", job_id="8", reason="completed", raw="COMPLETED"),
        RunClosed(240.0, "the session ended"),
    ]
