"""What a real Slurm does to allocations in the middle of their work, each way once, and what is made of it.

NODE_FAIL and CANCELLED are in ``test_node_loss``.
"""

from __future__ import annotations

import pytest

from scalable_hpc.model.events import HostSuspected
from tests.ensembles import FleetNote, allocations_of, of_kind
from tests.held import holding
from tests.waiting import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]


def test_that_a_walltime_that_ends_costs_nothing(slurm, tmp_path):
    """An administrator shortens the job under its worker: TIMEOUT; the scenario runs again in another allocation."""
    with holding(tmp_path, slurm) as held:
        held.wait_until_begun()
        slurm.run(["scontrol", "update", f"jobid={held.jobs()['a0001']}", "EndTime=now+1second"])
        held.wait_for_reason("timeout", timeout=80)  # Slurm looks at limits twice a minute
        held.wait_until_collected()
        held.leave()

    assert [event.charged for event in held.failed()] == [False]
    assert held.reasons() == {"timeout"}
    assert [event.allocation for event in held.receipts(late=False)] == ["a0002"]


def test_that_a_preempted_job_costs_nothing(slurm, tmp_path):
    """An urgent job takes the node: PREEMPTED."""
    with holding(tmp_path, slurm, queue="preemptcancel") as held:
        held.wait_until_begun()
        node = held.node_of()
        slurm.run(["sbatch", "--parsable", "-p", "urgent", "-w", node, "--exclusive", "--wrap", "sleep 60"])
        held.wait_for_reason("preempted")
        held.wait_until_collected()
        held.leave()

    assert [event.charged for event in held.failed()] == [False]
    assert held.reasons() <= {"preempted", None}
    assert [event.allocation for event in held.receipts(late=False)] == ["a0002"]


def test_that_a_job_that_fills_its_memory_ends_the_guilty_alone(slurm, tmp_path):
    """The kernel takes the slot that holds most, not the worker: its neighbour goes on, the job ends OUT_OF_MEMORY."""
    if slurm.settings.memory_limit != "cgroup":
        pytest.skip("this machine has no memory cgroups to enforce a limit with")
    fill = "held = bytearray(1_500_000_000) if number == 0 else wait_for(HERE / 'go')"
    one_cpu = {"cpus": 1}  # so that the job has 1000 MB, the partition's default
    with holding(tmp_path, slurm, count=2, first=fill, component=one_cpu, exclusive=False) as held:
        held.wait_until_begun(2)
        wait_until("the death is told", held.failed, timeout=40)
        held.let_go()
        held.wait_until_collected()
        held.leave()
        ended = allocations_of(held.events)["a0001"][-1]

    assert {(event.ending, event.signal, event.charged) for event in held.failed()} == {("slot_died", 9, False)}
    assert held.ensemble.counted() == {0: 2, 1: 1}, "the neighbour was disturbed"
    assert ended.reason in ("out_of_memory", "cancelled")


def test_that_a_preempted_job_that_may_be_requeued_goes_on_under_its_id(slurm, tmp_path):
    """Its worker is lost, the same job waits and comes back, and its next worker is the allocation's; no other job."""
    with holding(tmp_path, slurm, queue="preempt", requeue=True) as held:
        held.wait_until_begun()
        job = held.jobs()["a0001"]
        asked = ["sbatch", "--parsable", "-p", "urgent", "-w", held.node_of(), "--exclusive", "--wrap", "sleep 3"]
        slurm.run([*asked, "-N", "1"])
        held.wait_until_collected()
        held.leave()
        [*_, accounted] = slurm.run(["sacct", "-D", "-X", "-n", "-P", "-j", job, "-o", "JobID,State"]).splitlines()
        log = held.ensemble.runs[0].log_of("a0001")

    [life] = allocations_of(held.events).values()
    assert {event.job_id for event in life} == {None, job}
    assert [event.state for event in life].count("live") == 2
    assert [(event.charged, event.allocation) for event in held.failed()] == [(False, "a0001")]
    assert held.reasons() <= {"requeued", "preempted", None}
    assert [event.allocation for event in held.receipts(late=False)] == ["a0001"]
    assert held.ensemble.counted() == {0: 2}
    assert accounted == f"{job}|COMPLETED"
    assert not log.exists(), "a clean end leaves no log"


def test_that_a_prologue_that_fails_is_the_allocations_failure(slurm, tmp_path):
    """Three jobs in a row exit 7 before any worker: every call is told so, with the log; no task is charged."""
    with holding(tmp_path, slurm, setup=["echo the scratch is not mounted", "exit 7"]) as held:
        held.wait_until_collected(90)
        out = held.leave()

    assert "AllocationsFailing" in out
    assert "the scratch is not mounted" in out
    assert held.failed() == []
    reasons = [life[-1].reason for life in allocations_of(held.events).values()]
    assert reasons == ["failed"] * 3
    assert [event.kind for event in of_kind(held.events, FleetNote)].count("pause") == 3


def test_that_new_allocations_keep_away_from_a_node_where_no_worker_starts(slurm, tmp_path):
    """Two failed there while others started elsewhere: the next job is told to stay away, and everybody hears of it."""
    bad = slurm.node_names[0]
    setup = [f'if [ "$SLURMD_NODENAME" = {bad} ]; then echo no scratch here; exit 7; fi']
    allocations = {"min": 2, "max": 2, "walltime": "00:10:00"}
    with holding(tmp_path, slurm, count=4, setup=setup, allocations=allocations) as held:
        held.wait_until_begun(4)
        held.let_go()
        held.wait_until_collected()
        held.leave()
        [suspected] = of_kind(held.events, HostSuspected)
        scripts = {path.stem: path.read_text() for path in held.ensemble.runs[0].scripts.iterdir()}
        report = held.ensemble.report()

    lives = allocations_of(held.events)
    assert [life[-1].nodes for life in lives.values() if life[-1].reason == "failed"] == [(bad,)] * 2
    assert suspected.host == bad
    assert "no worker started (failed)" in suspected.because
    assert f"#SBATCH --exclude={bad}\n" in scripts[max(lives)]
    assert suspected.because in report
    assert held.failed() == []


@pytest.mark.slow
def test_that_a_hung_and_a_partitioned_worker_are_replaced_and_come_too_late(slurm, tmp_path):
    """Noticed within a minute. What they deliver when they are back is noted and changes nothing: first come, first
    served.
    """
    allocations = {"min": 2, "max": 2, "walltime": "00:10:00"}
    with holding(tmp_path, slurm, count=4, allocations=allocations) as held:
        held.wait_until_begun(4)
        began = max(event.at for life in allocations_of(held.events).values() for event in life)
        hung, cut = held.node_of("a0001"), held.node_of("a0002")
        slurm.node("hang", hung)
        slurm.node("partition", cut)
        wait_until("both are lost", lambda: len(held.failed()) == 4, timeout=75)
        noticed = max(event.at for event in held.failed())
        held.wait_until_collected(60)
        results = {event.task_id: event.digest for event in held.receipts(late=False)}
        slurm.node("heal", cut)
        slurm.node("unhang", hung)
        held.let_go()
        wait_until("the first executions end", lambda: sum(held.ensemble.counted("end").values()) >= 6, timeout=30)
        held.leave()

    assert noticed - began < 65
    assert [event.charged for event in held.failed()] == [False] * 4
    assert {event.ending for event in held.failed()} == {"worker_lost"}
    assert {event.task_id: event.digest for event in held.receipts(late=False)} == results
    assert held.ensemble.counted() == dict.fromkeys(range(4), 2)
