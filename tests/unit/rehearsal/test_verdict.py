"""What a rehearsal's journal comes to."""

from __future__ import annotations

import pytest

from scalable_hpc.model.events import AttemptPlaced, RunOpened, TaskGivenUp
from scalable_hpc.rehearsal.cues import Cue, Played
from scalable_hpc.rehearsal.verdict import judge
from scalable_hpc.telemetry.report import build_report
from tests.unit.telemetry.a_run import allocation, failed, receipt, submitted

LOST = Played(Cue("lose_node", 1), 119.0, 1, "a0001")
GOOD = [
    RunOpened(100.0, "20261122T084512Z-ab12cd", "cluster", 1, "login", "0.1.0"),
    *[submitted(100.2, f"t{n}") for n in (1, 2)],
    allocation(110.0, "a0001", "starting", job_id="7", nodes=("here",)),
    *[AttemptPlaced(113.0, f"t{n}", 1, "tcp://w", "a0001") for n in (1, 2)],
    receipt(116.0, "t1", 1),
    failed(120.0, "t2", 1, "worker_lost", "infrastructure", charged=False, ran_s=7.0),
    allocation(128.0, "a0001", "ended", job_id="7", reason="node_fail", raw="NODE_FAIL"),
    AttemptPlaced(129.0, "t2", 2, "tcp://w", "a0002"),
    receipt(131.0, "t2", 2, "a0002"),
]


def verdict(*more, played=(LOST,), left=(), code=0, factor=400.0):
    return judge(build_report([*GOOD, *more]), played, left, factor=factor, nodes={"cpu": 3}, code=code)


def test_that_a_rehearsal_in_which_all_is_done_holds():
    """With what each loss cost, and the bill of the real machine: 18 s times 400 on 3 nodes."""
    found = verdict()

    assert (found.exit_code, found.reasons) == (0, ())
    assert "when 1 were done, a node is lost (a0001): 1 attempts lost and run again, 0 charged" in found.lines
    assert "lost: 1 attempts, 7.0 s of work" in found.lines
    assert any(line.startswith("charged by the real machine: 6 node-hours for 1 allocations") for line in found.lines)
    assert found.lines[-1] == "it holds"


@pytest.mark.parametrize(
    ("more", "facts", "reason"),
    [
        pytest.param((), {"code": 3}, "exit code 3", id="driver"),
        pytest.param((submitted(132.0, "t3"),), {}, "1 tasks were not finished", id="unfinished"),
        pytest.param(
            (submitted(132.0, "t3"), TaskGivenUp(133.0, "t3", "ValueError", "x", "x")),
            {},
            "1 tasks failed",
            id="failed",
        ),
        pytest.param((AttemptPlaced(132.0, "t1", 2, "w", "a0002"),), {}, "although they were done", id="done twice"),
        pytest.param((), {"left": (Cue("oom", 50),)}, "never came to 'an allocation runs out of", id="cue not reached"),
    ],
)
def test_that_whatever_is_not_as_it_should_be_is_why_it_does_not_hold(more, facts, reason):
    """Said in words, and the exit code is 42."""
    found = verdict(*more, **facts)

    assert found.exit_code == 42
    assert reason in "; ".join(found.reasons)


def test_that_a_driver_that_begins_no_run_does_not_hold():
    """There is nothing to sum up."""
    assert judge(None, (), (), factor=1.0, nodes={}, code=1).exit_code == 42
