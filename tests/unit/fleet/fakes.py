"""A clock that tests wind, a batch system that does what it is told, and a run that keeps what it hears."""

import asyncio
import random

from scalable_hpc.errors import BatchSilent
from scalable_hpc.fleet.ports import Run
from scalable_hpc.fleet.supervisor import Supervisor
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.events import AllocationChanged, FleetNote
from scalable_hpc.model.fleet import Demand, Limits
from scalable_hpc.model.messages import WorkerGone
from tests.unit.fleet.builders import hello

TURNS = 30
"""Turns of the loop after each moment: the longest chain of callbacks here is shorter."""


class FakeClock:
    """Time that passes only when it is wound."""

    def __init__(self, now=1000.0):
        self._now = now
        self._sleepers = []

    def now(self):
        return self._now

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + seconds, woken))
        await woken

    async def wind(self, seconds):
        """Let so many seconds pass, waking every sleeper in its order."""
        until = self._now + seconds
        await self.settle()
        while due := [each for each in self._sleepers if each[0] <= until and not each[1].done()]:
            first = min(due, key=lambda each: each[0])
            self._sleepers = [each for each in self._sleepers if each is not first and not each[1].done()]
            self._now = max(self._now, first[0])
            first[1].set_result(None)
            await self.settle()
        self._now = until

    async def settle(self):
        for _ in range(TURNS):
            await asyncio.sleep(0)


class FakeBatch:
    """Allocator and batch system in one: what it opens it also observes."""

    def __init__(self, clock):
        self.clock = clock
        self.jobs = {}
        self.opened = {}
        self.arrays = []
        """The names of each submission of several allocations."""
        self.closed = []
        self.drained = []
        self.cancelled = []
        self.asked_at = []
        self.asked_for = []
        self.is_silent = False
        self.refuse_with = None
        self.refuse_types = {}
        """Worker type to the error that its submissions end with."""
        self.obeys = True
        self.hold_opens = None
        self.hold_drains = None
        self.query_takes_s = 0.0
        self.opening = 0
        self.most_opening = 0

    async def open(self, request):
        self.opening += 1
        self.most_opening = max(self.most_opening, self.opening)
        try:
            if self.hold_opens is not None:
                await self.hold_opens.wait()
            if self.refuse_with is not None:
                raise self.refuse_with
            if request.worker_type in self.refuse_types:
                raise self.refuse_types[request.worker_type]
        finally:
            self.opening -= 1
        self.opened[request.name] = self.take(request.name)
        return self.opened[request.name]

    async def open_array(self, requests):
        self.arrays.append(tuple(each.name for each in requests))
        if self.refuse_with is not None:
            raise self.refuse_with
        for each in requests:
            self.opened[each.name] = self.take(each.name)
        return [self.opened[each.name] for each in requests]

    def take(self, name):
        job_id = str(len(self.jobs) + 1)
        self.jobs[job_id] = JobObservation(job_id, JobState.PENDING, "PENDING", name=f"scalable-run-{name}")
        return job_id

    async def close(self, name, because):
        """As dask-jobqueue does: cancels what it opened itself, and knows of nothing else."""
        self.closed.append(name)
        if self.obeys and name in self.opened:
            await self.cancel([self.opened.pop(name)])

    async def drain(self, name, because):
        self.drained.append(name)
        if self.hold_drains is not None:
            await self.hold_drains.wait()

    async def cancel(self, job_ids):
        self.cancelled.append(tuple(job_ids))
        if self.is_silent:
            raise BatchSilent("no answer")
        if self.obeys:
            for job_id in job_ids:
                if self.jobs[job_id].state is not JobState.ENDED:
                    self.end(job_id, ExitReason.CANCELLED, "CANCELLED by 0")

    async def status(self, job_ids):
        self.asked_at.append(self.clock.now())
        self.asked_for.append(tuple(job_ids))
        if self.query_takes_s:
            await self.clock.sleep(self.query_takes_s)
        if self.is_silent:
            raise BatchSilent("squeue gave no answer within 10 s")
        return {job_id: self.jobs[job_id] for job_id in job_ids}

    async def find(self, run_id):
        if self.is_silent:
            raise BatchSilent("squeue gave no answer within 10 s")
        return [job for job in self.jobs.values() if job.state is not JobState.ENDED]

    def say(self, job_id, state, raw=None, **more):
        name = self.jobs[job_id].name
        self.jobs[job_id] = JobObservation(job_id, state, raw or state.name, name=name, **more)

    def start(self, job_id, walltime=3600.0):
        now = self.clock.now()
        self.say(job_id, JobState.RUNNING, started_at=now, ends_at=now + walltime, nodes=("node01",))

    def end(self, job_id, reason, raw):
        ending = JobEnding(reason, raw, ended_at=self.clock.now())
        self.say(job_id, JobState.ENDED, raw, ending=ending)


class Harness:
    """A supervisor among fakes."""

    def __init__(
        self,
        *,
        poll_s=0.5,
        never_runs=lambda _: None,
        log_tail=lambda name: f"log of {name}",
        budget_node_s=None,
        most_jobs=None,
        stuck=lambda _: None,
        **limits,
    ):
        self.clock = FakeClock()
        self.batch = FakeBatch(self.clock)
        self.waiting = 0
        self.assigned = {}
        self.events = []
        self.ended = []
        self.failures = []
        self.unexplained = set()
        self.excluded = ()
        self.failed = asyncio.Event()
        facts = {"maximum": 2, "slots_per_node": 4, "walltime_s": 3600} | limits
        run = Run(
            run_id="run",
            demand=lambda: [Demand("cpu", self.waiting, sum(self.assigned.values()))],
            busy=lambda: self.assigned,
            record=self.events.append,
            on_allocation_ended=lambda name, ending: self.ended.append((name, ending.reason)),
            on_failure=self._fail,
            log_tail=log_tail,
            never_runs=never_runs,
            unexplained=lambda: self.unexplained,
            excluded_nodes=lambda: self.excluded,
            budget_node_s=budget_node_s,
            most_jobs=most_jobs,
            stuck=stuck,
        )
        self.supervisor = Supervisor(
            run,
            self.batch,
            self.batch,
            {"cpu": Limits("cpu", **facts)},
            poll_s=poll_s,
            clock=self.clock,
            rng=random.Random(0),
        )

    def _fail(self, error):
        self.failures.append(error)
        self.failed.set()

    async def __aenter__(self):
        self.loop_task = asyncio.ensure_future(self.supervisor.run())
        return self

    async def __aexit__(self, *_):
        self.loop_task.cancel()
        await asyncio.gather(self.loop_task, return_exceptions=True)
        await self.clock.settle()

    async def want(self, waiting, seconds=1.0):
        self.waiting = waiting
        self.supervisor.poke()
        await self.clock.wind(seconds)

    async def go_live(self, name, job_id, walltime=3600.0):
        """Its job runs and its worker registers."""
        self.batch.start(job_id, walltime)
        self.supervisor.receive(hello(name, f"tcp://{name}:1", job_id=job_id, deadline=self.clock.now() + walltime))
        await self.clock.wind(1.0)

    def lose(self, name):
        gone = WorkerGone(f"tcp://{name}:1", self.clock.now(), expected=False, because="connection closed")
        self.supervisor.receive(gone)

    def states(self, name):
        """The journalled life of an allocation."""
        return [event.state for event in self.events if isinstance(event, AllocationChanged) and event.name == name]

    def names(self):
        return [seen.name for seen in self.supervisor.snapshot()]

    def notes(self):
        return [event.kind for event in self.events if isinstance(event, FleetNote)]
