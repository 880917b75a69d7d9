"""Short ways to build the fleet's plain data in tests."""

from scalable_hpc.fleet.known import Known
from scalable_hpc.model.allocations import AllocationState, ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.fleet import AllocationView, Limits
from scalable_hpc.model.messages import WorkerHello


def allocation(name="a0001", state=AllocationState.LIVE, **more):
    facts = {
        "worker_type": "cpu",
        "slots": 4,
        "walltime_s": 3600,
        "submitted_at": 0.0,
        "job_id": f"job-{name}",
        "because": "asked for",
    }
    if state in (AllocationState.LIVE, AllocationState.DRAINING):
        facts |= {"started_at": 10.0, "ends_at": 3610.0, "live_slots": 4, "reached_live": True}
    return AllocationView(name=name, state=state, **(facts | more))


def limits(**more):
    return Limits("cpu", **({"maximum": 4, "slots_per_node": 4, "lead_s": 120.0, "idle_s": 15.0} | more))


def hello(allocation_name="a0001", address="tcp://10.0.0.1:1", slots=4, deadline=None, **more):
    facts = {
        "name": allocation_name,
        "job_id": "17",
        "node": "node01",
        "pid": 1,
        "worker_type": "cpu",
        "cpus": slots,
        "memory": None,
        "gpus": 0,
        "started_at": 0.0,
        "recorder": "",
        "version": "1",
    }
    return WorkerHello(address=address, allocation=allocation_name, slots=slots, deadline=deadline, **(facts | more))


def seen(state, raw=None, job_id="17", **more):
    if state is JobState.ENDED:
        more.setdefault("ending", JobEnding(ExitReason.NODE_FAIL, "NODE_FAIL"))
    return JobObservation(job_id=job_id, state=state, raw=raw or state.name, **more)


def fresh(name="a0001", **more):
    return Known(allocation(name, AllocationState.SUBMITTING, **({"job_id": None} | more)))
