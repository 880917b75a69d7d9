"""A worker type that cannot be had has its work done by its fallback, until it is back."""

import asyncio
import functools
import random

import pytest

from scalable_hpc.errors import AllocationsFailing, PartitionRefused
from scalable_hpc.fleet.fallback import Understudies, probing
from scalable_hpc.fleet.ports import Run
from scalable_hpc.fleet.standing import Standing
from scalable_hpc.fleet.supervisor import Supervisor
from scalable_hpc.model.allocations import AllocationState, ExitReason, JobState
from scalable_hpc.model.events import FleetNote
from scalable_hpc.model.fleet import Demand, Limits
from tests.unit.fleet.builders import allocation, hello
from tests.unit.fleet.fakes import FakeBatch, FakeClock

S = AllocationState
CHAIN = {
    "gpu": Limits("gpu", fallbacks=("big", "small"), fallback_after_s=60.0, slots_per_node=4),
    "big": Limits("big", fallbacks=("small",), fallback_after_s=60.0, slots_per_node=4),
    "small": Limits("small", slots_per_node=4, maximum=2),
}


def stuck(reason):
    return "its partition is down" if reason == "PartitionDown" else None


def waits(name="a0001", reason="PartitionDown", **more):
    return allocation(name, S.PENDING, worker_type="gpu", submitted_at=0.0, pending_because=reason, **more)


def look(understudies, gpu=(), now=100.0, trouble=None, big_trouble=None):
    standings = {"gpu": Standing(trouble=trouble), "big": Standing(trouble=big_trouble)}
    return understudies.look({"gpu": list(gpu)}, standings, now)


REFUSED = PartitionRefused("no such partition")


@pytest.mark.parametrize(
    ("gpu", "now", "trouble", "is_away"),
    [
        pytest.param([waits()], 100.0, None, True, id="its partition is down for long"),
        pytest.param([waits()], 30.0, None, False, id="its partition is down since a moment ago"),
        pytest.param([waits(reason="Priority")], 1e6, None, False, id="it waits for its turn"),
        pytest.param(
            [waits(), allocation("a0002", S.STARTING, worker_type="gpu")], 100.0, None, False, id="one starts"
        ),
        pytest.param([waits(), allocation("a0002", worker_type="gpu")], 100.0, None, False, id="one is live"),
        pytest.param([], 0.0, REFUSED, True, id="refused"),
    ],
)
def test_that_only_what_others_must_remove_makes_a_type_go_away(gpu, now, trouble, is_away):
    """A queue is waited out, however long; a partition that is down is not."""
    understudies = Understudies(CHAIN, stuck)

    shifts = look(understudies, gpu, now, trouble)

    assert [shift.worker_type for shift in shifts] == (["gpu"] if is_away else [])
    assert dict(understudies.stand_ins()) == ({"gpu": ("big", "small")} if is_away else {})
    assert all(shift.because for shift in shifts)


def test_that_a_fallback_which_is_away_too_is_passed_over():
    """The next one of the chain takes the work."""
    understudies = Understudies(CHAIN, stuck)

    look(understudies, trouble=REFUSED, big_trouble=REFUSED)

    assert dict(understudies.stand_ins()) == {"gpu": ("small",), "big": ("small",)}


def test_that_a_type_is_back_with_its_first_worker_and_not_before():
    """A better reason in the queue is not yet a worker: the work stays where it is done."""
    understudies = Understudies(CHAIN, stuck)
    look(understudies, [waits()])

    assert look(understudies, [waits(reason="Priority")]) == []
    back = look(understudies, [allocation(worker_type="gpu")])

    assert [(shift.worker_type, shift.is_away) for shift in back] == [("gpu", False)]
    assert understudies.stand_ins() == {}


def test_that_one_allocation_of_a_type_that_is_away_stays_wanted():
    """Else nobody would notice that it can be had again; with nothing left to do it is not wanted either."""
    assert probing(Demand("gpu", 0, 0, diverted=90), "gpu") == Demand("gpu", 1, 0)
    assert probing(Demand("gpu", 0, 0), "gpu") == Demand("gpu", 0, 0)


class Two:
    """A supervisor of two worker types, and a keeper that moves its tasks as it is told."""

    def __init__(self, **more):
        self.clock = FakeClock()
        self.batch = FakeBatch(self.clock)
        self.waiting = 0
        self.is_too_large = False
        """No fallback can take the tasks."""
        self.stand_ins = {}
        self.events = []
        self.failures = []
        limits = {
            "gpu": Limits("gpu", **{"fallbacks": ("cpu",), "fallback_after_s": 60.0, "slots_per_node": 4, **more}),
            "cpu": Limits("cpu", slots_per_node=4, maximum=2),
        }
        run = Run(
            run_id="run",
            demand=self.demand,
            busy=dict,
            record=self.events.append,
            on_allocation_ended=lambda *_: None,
            on_failure=self.failures.append,
            log_tail=lambda name: f"log of {name}",
            stuck=stuck,
            on_stand_ins=lambda told: setattr(self, "stand_ins", dict(told)),
        )
        self.supervisor = Supervisor(
            run, self.batch, self.batch, limits, poll_s=0.5, clock=self.clock, rng=random.Random(0)
        )

    def demand(self):
        if self.stand_ins.get("gpu") and not self.is_too_large:
            return [Demand("gpu", 0, 0, diverted=self.waiting), Demand("cpu", self.waiting, 0)]
        return [Demand("gpu", self.waiting, 0), Demand("cpu", 0, 0)]

    async def __aenter__(self):
        self.loop_task = asyncio.ensure_future(self.supervisor.run())
        return self

    async def __aexit__(self, *_):
        self.loop_task.cancel()
        await asyncio.gather(self.loop_task, return_exceptions=True)
        await self.clock.settle()

    async def want(self, waiting, seconds=2.0):
        self.waiting = waiting
        self.supervisor.poke()
        await self.clock.wind(seconds)

    def open(self, worker_type):
        return [seen for seen in self.supervisor.snapshot() if seen.worker_type == worker_type]

    def notes(self, kind):
        return [event.because for event in self.events if isinstance(event, FleetNote) and event.kind == kind]


def on_the_loop(test):
    @functools.wraps(test)
    def run(**arguments):
        asyncio.run(test(**arguments))

    return run


@on_the_loop
async def test_that_work_goes_to_the_fallback_and_returns():
    """A partition that is down: announced, done by the other type meanwhile; up again: announced, and taken back."""
    async with Two() as fleet:
        await fleet.want(40)
        [asked] = fleet.open("gpu")
        fleet.batch.say(asked.job_id, JobState.PENDING, because="PartitionDown")
        await fleet.clock.wind(70.0)
        helped = fleet.open("cpu")
        probes = fleet.open("gpu")
        fleet.batch.start(asked.job_id)
        fleet.supervisor.receive(
            hello(asked.name, "tcp://g:1", job_id=asked.job_id, worker_type="gpu", deadline=fleet.clock.now() + 3600)
        )
        await fleet.clock.wind(30.0)

        assert [seen.name for seen in probes] == [asked.name]
        assert len(helped) == 2
        assert fleet.open("cpu") == []
    assert fleet.failures == []
    assert ["PartitionDown" in words for words in fleet.notes("fallback")] == [True]
    assert len(fleet.notes("returned")) == 1


@on_the_loop
async def test_that_a_refused_type_is_tried_again_ever_more_seldom():
    """The run does not fail while the fallback can do the work, and the batch system is not pestered."""
    async with Two() as fleet:
        fleet.batch.refuse_types["gpu"] = REFUSED
        await fleet.want(40)
        tried_first = len([1 for event in fleet.events if getattr(event, "worker_type", "") == "gpu"])
        await fleet.clock.wind(3600.0)
        tries = {event.name for event in fleet.events if getattr(event, "worker_type", "") == "gpu"}
        assert len(fleet.open("cpu")) == 2

    assert tried_first > 0
    assert fleet.failures == []
    assert 3 <= len(tries) <= 14


@on_the_loop
async def test_that_a_type_that_is_taken_again_gets_its_work_back():
    """One allocation is tried after a refusal; when its worker comes, the type is back."""
    async with Two() as fleet:
        fleet.batch.refuse_types["gpu"] = REFUSED
        await fleet.want(40)
        fleet.batch.refuse_types.clear()
        await fleet.clock.wind(100.0)
        [probe] = fleet.open("gpu")
        fleet.batch.start(probe.job_id)
        fleet.supervisor.receive(hello(probe.name, "tcp://g:1", job_id=probe.job_id, worker_type="gpu"))
        await fleet.clock.wind(2.0)

        assert fleet.stand_ins == {}
    assert len(fleet.notes("returned")) == 1


@on_the_loop
async def test_that_failing_starts_are_a_reason_too():
    """Three jobs that end before a worker is here: the fallback takes over, and the run does not fail."""
    async with Two() as fleet:
        await fleet.want(40)
        for _ in range(3):
            [asked] = [seen for seen in fleet.open("gpu") if seen.job_id]
            fleet.batch.start(asked.job_id)
            await fleet.clock.wind(2.0)
            fleet.batch.end(asked.job_id, ExitReason.FAILED, "FAILED")
            await fleet.clock.wind(12.0)
        for _ in range(50):
            if fleet.stand_ins:
                break
            await asyncio.sleep(0.02)  # the log's tail is read in a thread
            await fleet.clock.wind(1.0)

        assert fleet.stand_ins == {"gpu": ("cpu",)}
        assert len(fleet.open("cpu")) == 2
    assert fleet.failures == []
    assert "log of a0003" in fleet.notes("failing")[0]


@on_the_loop
async def test_that_the_run_hears_when_nobody_can_do_the_work():
    """Both are refused: that is told once, with the batch system's words."""
    async with Two() as fleet:
        fleet.batch.refuse_types = {"gpu": REFUSED, "cpu": PartitionRefused("cpu is closed too")}
        await fleet.want(40, seconds=5.0)

    assert [error.message for error in fleet.failures] == ["cpu is closed too"]


@on_the_loop
async def test_that_work_which_no_fallback_can_do_fails_with_the_refusal():
    """Tasks that are too large for every fallback do not wait for ever for a type that is refused."""
    async with Two() as fleet:
        fleet.is_too_large = True
        fleet.batch.refuse_types["gpu"] = AllocationsFailing("cannot start")
        await fleet.want(4, seconds=5.0)

    assert [error.message for error in fleet.failures] == ["cannot start"]


@on_the_loop
async def test_that_a_larger_request_that_is_refused_does_not_fail_the_run():
    """It is away with nobody to do its work: its tasks hear that, and the run goes on."""
    async with Two(fallbacks=(), is_grown=True) as fleet:
        fleet.batch.refuse_types["gpu"] = REFUSED
        await fleet.want(4, seconds=5.0)

        assert fleet.stand_ins == {"gpu": ()}
    assert fleet.failures == []
    assert len(fleet.notes("fallback")) == 1
