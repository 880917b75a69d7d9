"""A week of a large ensemble under the very planner of the fleet, in simulated time, beside two simpler policies.

    python benchmarks/fleet_simulation.py [--scenarios 1000000] [--nodes 2000] [--seed 0] [--plot FILE.svg] [--quick]

The planner is that of a run: ``Roster``, ``view``, ``plan`` and ``Learned`` are imported, nothing is copied. Played
are the batch system, the workers and the clock. Asked for are at most ``nodes / 4`` jobs of four nodes for 24 hours
each, one scenario a node at a time; run times are log-normal with a mean of 18 minutes. A node fails with 1 % a day,
and its job goes on without it.

How long a job waits is drawn from a log-normal distribution through published waits of jobs of that walltime:
``WAITS_S``. The n-th job that a policy submits has the same luck (its wait beside the usual one, its nodes' failures)
under every policy. The planner plays twice: once as it is, asking for less time where less is left to do, and once
with ``shorten: false``. What that is worth shows in ensembles of some hours whose run times are known when they begin:
they are played beside, on a tenth of the nodes.

Both other policies do not know when a job ends, as plain Dask workers do not:

- *keep N jobs*: as many jobs as allowed, a new one when one has ended, all of them until everything is done;
- *adaptive*: as Dask's ``Adaptive``: jobs for as many tasks as there are, idle ones are given back.

What a job was in the middle of at its walltime is lost and done again. Useful are the node-hours of scenarios that were
completed. Prints a Markdown table, then what the planner's decisions cost as the fleet grows; ``--plot`` draws that.
Exits with 1 if less than 95 % of the node-hours were useful, or if the cost of an event grows with the fleet.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path

from scalable_hpc.fleet import view
from scalable_hpc.fleet.plan import plan
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.lineage.learned import FEW, Learned
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.fleet import Demand, Drain, Limits, Pause, Submit
from scalable_hpc.model.messages import WorkerHello

WAITS_S = {
    0.5: (252.2, 667.3, 506.8, 971.1, 679.2, 2254.2, 2367.4, 11261.1),
    2.0: (1461.3, 450.7, 33575.3, 6754.7, 12177.4, 36407.4, 9895.0, 17387.1),
    6.0: (1054.0, 751.2, 11707.5, 9448.2, 4393.3, 3573.6, 30594.0, 10668.0),
    12.0: (6269.9, 9003.9, 23233.2, 87560.0, 221887.4, 4105.6, 11473.3, 58522.5),
    24.0: (9430.9, 41336.7, 26426.6, 43157.6, 6628.5, 81656.6, 37795.8, 49935.1),
}
"""Walltime (hours) to mean waits (seconds) of such jobs on 1, 2, 4, ... 128 nodes of a machine of CSCS, as published in
github.com/ferchault/mlscheduling, data/waittimes.txt (commit bc98ad5, rows "cscs"), read 2026-11-22. Between two
walltimes the logarithms are interpolated. The spread of single jobs within a class is not in that table; ``SPREAD``
stands for it, and is assumed."""
SPREAD = 1.0
"""Added (in variance) to the logarithms' own: single waits vary more than means of classes do."""
MUST_BE_USEFUL = 0.95
MAY_GROW = 2.0
"""Times that the cost of an event may be higher for the largest fleet than for the smallest; noise is below that."""
NODES_EACH = 4
WALLTIME_S = 24 * 3600
RUN_TIME_S, SIGMA = 1080.0, 0.5
FAILURES_A_DAY = 0.01
BOOT_S = 30.0
"""From the job's start to its workers."""
TICK_S = 60.0
"""Between two plans. A real supervisor plans when there is news, at least every second, and rests ten times as long as
a plan took."""
DAY_S = 86400.0
NAME = "run_simulation"


@dataclass(slots=True, eq=False)
class Job:
    """One batch job of the played machine."""

    name: str
    job_id: str
    walltime_s: int
    luck: random.Random
    """Of this job alone."""
    started_at: float | None = None
    is_live: bool = False
    is_over: bool = False
    is_closed_to_new: bool = False
    running: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Node to its scenario and when that began."""
    free: set[int] = field(default_factory=set)

    @property
    def ends_at(self) -> float:
        """When its walltime is over."""
        return (self.started_at or 0.0) + self.walltime_s


class World:
    """The machine, the workers and the scenarios; what a policy does is done here."""

    def __init__(self, scenarios: int, nodes: int, seed: int) -> None:
        self.seed = seed
        rng, mu = random.Random(seed), math.log(RUN_TIME_S) - SIGMA**2 / 2
        self.run_s = [rng.lognormvariate(mu, SIGMA) for _ in range(scenarios)]
        self.waiting = list(range(scenarios))
        self.most_jobs = max(1, nodes // NODES_EACH)
        self.now = 0.0
        self.jobs: dict[str, Job] = {}
        """Those that wait or run."""
        self.busy: dict[str, int] = {}
        self.assigned = self.done = self.cut_off = self.events = self.submitted = self.asked_s = 0
        self.useful_s = self.allocated_s = 0.0
        self.most_nodes = self.nodes_now = 0
        self.need_s: float | None = None
        self.knows_time = False
        self.on_done: Callable[[float], None] = lambda _: None
        self.on_start: Callable[[Job], None] = lambda _: None
        self.on_live: Callable[[Job], None] = lambda _: None
        self.on_node_lost: Callable[[Job, int], None] = lambda *_: None
        self.on_end: Callable[[Job, ExitReason], None] = lambda *_: None
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    @property
    def is_over(self) -> bool:
        """Whether every scenario is done and every job gone."""
        return not self.waiting and not self.assigned and not self.jobs

    def run(self, decide: Callable[[], None], until_s: float) -> None:
        """Let time pass until all is done."""
        next_plan = 0.0
        while not self.is_over and self.now < until_s:
            if self._heap and self._heap[0][0] <= next_plan:
                self.now, _, act = heapq.heappop(self._heap)
                act()
            else:
                self.now = next_plan
                decide()
                next_plan += TICK_S

    def submit(self, name: str, walltime_s: int = WALLTIME_S) -> Job:
        """Put a job into the queue."""
        self.submitted += 1
        self.asked_s += walltime_s
        luck = random.Random(f"{self.seed}/{self.submitted}")
        job = self.jobs[name] = Job(name, str(self.submitted), walltime_s, luck)
        self.busy[name] = 0
        self._in(luck.lognormvariate(*wait_of(walltime_s)), partial(self._start, job))
        return job

    def end(self, job: Job, reason: ExitReason) -> None:
        """End a job; what it was in the middle of waits again."""
        if job.is_over:
            return
        job.is_over = True
        del self.jobs[job.name], self.busy[job.name]
        if job.started_at is not None:
            self.allocated_s += NODES_EACH * (self.now - job.started_at)
            self.nodes_now -= NODES_EACH
        self.cut_off += len(job.running)
        for node in list(job.running):
            self._lose(job, node)
        self.events += 1
        self.on_end(job, reason)

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now + seconds, self._number, act))

    def _start(self, job: Job) -> None:
        if job.is_over:
            return
        job.started_at = self.now
        self.nodes_now += NODES_EACH
        self.most_nodes = max(self.most_nodes, self.nodes_now)
        self._in(BOOT_S, partial(self._go_live, job))
        self._in(job.walltime_s, partial(self.end, job, ExitReason.TIMEOUT))
        for node in range(NODES_EACH):
            fails_in = job.luck.expovariate(FAILURES_A_DAY / DAY_S)
            if fails_in < job.walltime_s:
                self._in(fails_in, partial(self._fail_node, job, node))
        self.events += 1
        self.on_start(job)

    def _go_live(self, job: Job) -> None:
        if job.is_over:
            return
        job.is_live, job.free = True, set(range(NODES_EACH))
        self.events += 1
        self.on_live(job)
        self.fill(job)

    def _fail_node(self, job: Job, node: int) -> None:
        if job.is_over or not job.is_live:
            return
        job.free.discard(node)
        if node in job.running:
            self._lose(job, node)
        self.events += 1
        self.on_node_lost(job, node)

    def _lose(self, job: Job, node: int) -> None:
        scenario, _ = job.running.pop(node)
        self.waiting.append(scenario)
        self.assigned -= 1
        if job.name in self.busy:
            self.busy[job.name] -= 1

    def fill(self, job: Job) -> None:
        """Begin scenarios on a job's free nodes, where there is time for them, if the policy knows of time."""
        if job.is_closed_to_new or (self.knows_time and self.now + (self.need_s or 0.0) > job.ends_at - 5.0):
            return
        while job.free and self.waiting:
            node, scenario = job.free.pop(), self.waiting.pop()
            job.running[node] = scenario, self.now
            self.assigned += 1
            self.busy[job.name] += 1
            self._in(self.run_s[scenario], partial(self._complete, job, node, scenario))

    def _complete(self, job: Job, node: int, scenario: int) -> None:
        if job.running.get(node, (None, 0.0))[0] != scenario:
            return  # lost meanwhile
        del job.running[node]
        job.free.add(node)
        self.assigned -= 1
        self.busy[job.name] -= 1
        self.done += 1
        self.events += 1
        self.useful_s += self.run_s[scenario]
        self.on_done(self.run_s[scenario])
        self.fill(job)


class Planner:
    """The fleet's own planner, told of the world as a supervisor tells it."""

    name = "this library"
    shortens = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.limits = Limits(
            NAME,
            maximum=world.most_jobs,
            nodes=NODES_EACH,
            walltime_s=WALLTIME_S,
            max_pending=2 * world.most_jobs,
            shortens=self.shortens,
        )
        self.roster = Roster("simulated")
        self.learned = Learned()
        self.took_s = 0.0
        world.knows_time = True
        world.on_done, world.on_live = self._done, self._live
        world.on_start = lambda job: self._observe(job, JobState.RUNNING)
        world.on_node_lost = lambda job, node: self._timed(self.roster.worker_left, _address(job, node), world.now)
        world.on_end = self._ended

    def decide(self) -> None:
        """Plan, and do it."""
        world, began = self.world, time.process_time()
        world.need_s = self.learned.need(NAME).warm_s
        demand = self._demand()
        seen = self.roster.draw_view(NAME, busy=world.busy, now=world.now, closing=False, paused_until=None)
        actions = plan(seen, [demand] if world.waiting or world.assigned else [], {NAME: self.limits}, world.now)
        self.took_s += time.process_time() - began
        for action in actions:
            if isinstance(action, Submit):
                request = self.roster.enrol(action, self.limits, world.now)
                job = world.submit(request.name, request.walltime_s)
                self._tell(job, partial(view.submitted, job_id=job.job_id, now=world.now))
            elif isinstance(action, Drain):
                world.jobs[action.name].is_closed_to_new = True
                decided = partial(view.drain_decided, because=action.because, now=world.now)
                self._tell(world.jobs[action.name], decided)
            elif not isinstance(action, Pause):
                self._tell(world.jobs[action.name], partial(view.close_decided, because=action.because, now=world.now))
                world.end(world.jobs[action.name], ExitReason.CANCELLED)
        for job in list(world.jobs.values()):
            if job.free:
                world.fill(job)

    def _demand(self) -> Demand:
        """What a keeper says of its tasks, all of one name."""
        waiting, assigned, mean_s = len(self.world.waiting), self.world.assigned, self.learned.mean_s(NAME)
        if mean_s is None or not waiting or self.learned.count(NAME) <= FEW:
            return Demand(NAME, waiting, assigned, self.world.need_s, mean_s)
        longest_s = max(self.world.need_s or 0.0, self.learned.longest_s(NAME) or 0.0)
        work_s = (waiting + assigned) * mean_s
        return Demand(NAME, waiting, assigned, self.world.need_s, mean_s, longest_s=longest_s, work_s=work_s)

    def _done(self, seconds: float) -> None:
        self.learned.completed(NAME, seconds)

    def _live(self, job: Job) -> None:
        for node in range(NODES_EACH):
            hello = WorkerHello(
                address=_address(job, node),
                allocation=job.name,
                slots=1,
                deadline=job.ends_at,
                name=job.name,
                job_id=job.job_id,
                node=f"{job.name}-{node}",
                pid=1,
                worker_type=NAME,
                cpus=1,
                memory=None,
                gpus=0,
                started_at=self.world.now,
                recorder="",
                version="1",
            )
            self._timed(self.roster.worker_came, hello, self.world.now)

    def _ended(self, job: Job, reason: ExitReason) -> None:
        for node in range(NODES_EACH):
            self._timed(self.roster.worker_left, _address(job, node), self.world.now)
        self._observe(job, JobState.ENDED, JobEnding(reason, reason.name, ended_at=self.world.now))

    def _observe(self, job: Job, state: JobState, ending: JobEnding | None = None) -> None:
        runs = state is JobState.RUNNING
        seen = JobObservation(
            job.job_id,
            state,
            state.name,
            started_at=job.started_at if runs else None,
            ends_at=job.ends_at if runs else None,
            ending=ending,
        )
        self._timed(self.roster.observe, seen, job.name, self.world.now)

    def _tell(self, job: Job, fold: Callable[[view.Known], view.Known]) -> None:
        self._timed(self.roster.tell, job.name, fold, self.world.now)

    def _timed(self, call: Callable[..., object], *arguments: object) -> None:
        began = time.process_time()
        call(*arguments)
        self.took_s += time.process_time() - began


class WholeWalltimes(Planner):
    """The same, which never asks for less than the whole walltime."""

    name = "this library, `shorten: false`"
    shortens = False


class Taught(Planner):
    """Has run such scenarios before."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        for seconds in world.run_s[:200]:
            self.learned.completed(NAME, seconds)


class TaughtWholeWalltimes(Taught):
    """The same, which never asks for less than the whole walltime."""

    shortens = False


class KeepJobs:
    """As many jobs as allowed, a new one when one has ended."""

    name = "keep N jobs"
    took_s = 0.0

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = (f"j{number}" for number in range(sys.maxsize))

    def decide(self) -> None:
        """Fill up; give everything back at the end."""
        world = self.world
        if not world.waiting and not world.assigned:
            for job in list(world.jobs.values()):
                world.end(job, ExitReason.CANCELLED)
        elif world.waiting:
            for _ in range(world.most_jobs - len(world.jobs)):
                world.submit(next(self.names))
        for job in list(world.jobs.values()):
            if job.free:
                world.fill(job)


class AsAdaptive(KeepJobs):
    """As many jobs as there are tasks for, within what is allowed; what is idle is given back."""

    name = "adaptive"

    def decide(self) -> None:
        """Scale to the tasks that are left."""
        world = self.world
        wanted = min(world.most_jobs, math.ceil((len(world.waiting) + world.assigned) / NODES_EACH))
        for _ in range(wanted - len(world.jobs)):
            world.submit(next(self.names))
        spare = sorted(world.jobs.values(), key=lambda job: job.is_live)
        for job in [job for job in spare if not job.running][: max(0, len(world.jobs) - wanted)]:
            world.end(job, ExitReason.CANCELLED)
        for job in list(world.jobs.values()):
            if job.free:
                world.fill(job)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of an ensemble."""

    policy: str
    nodes: int
    days: float
    useful: float
    """Share of the allocated node-hours."""
    allocated_h: float
    cut_off: int
    """Scenarios that were lost in the middle: by a walltime, a node, or with their job."""
    jobs: int
    asked_h: float
    """Walltime of a job, in the mean, as it was asked for."""
    most_nodes: int
    left: int
    events: int
    fleet_s: float
    """What the decisions took, in seconds of a processor."""

    @property
    def event_us(self) -> float:
        """What the planner costs for each event, in microseconds."""
        return 1e6 * self.fleet_s / max(1, self.events)


POLICIES: tuple[type[Planner | KeepJobs], ...] = (Planner, WholeWalltimes, KeepJobs, AsAdaptive)


@cache
def wait_of(walltime_s: int) -> tuple[float, float]:
    """Return mean and standard deviation of the logarithm of the wait (seconds) of jobs of a walltime."""
    hours = min(max(walltime_s / 3600, min(WAITS_S)), max(WAITS_S))
    below = max(each for each in WAITS_S if each <= hours)
    above = min(each for each in WAITS_S if each >= hours)
    share = 0.0 if above == below else math.log(hours / below) / math.log(above / below)
    lows, highs = ([math.log(wait) for wait in WAITS_S[each]] for each in (below, above))
    logarithms = [low + share * (high - low) for low, high in zip(lows, highs, strict=True)]
    return statistics.fmean(logarithms), math.sqrt(statistics.variance(logarithms) + SPREAD)


def simulate(policy: type[Planner | KeepJobs], scenarios: int, nodes: int, seed: int = 0) -> Outcome:
    """Run an ensemble to its end, three weeks at most."""
    world = World(scenarios, nodes, seed)
    acting = policy(world)
    world.run(acting.decide, 21 * DAY_S)
    allocated_s = world.allocated_s + sum(
        NODES_EACH * (world.now - job.started_at) for job in world.jobs.values() if job.started_at is not None
    )
    return Outcome(
        policy.name,
        nodes,
        world.now / DAY_S,
        world.useful_s / allocated_s if allocated_s else 0.0,
        allocated_s / 3600,
        world.cut_off,
        world.submitted,
        world.asked_s / 3600 / max(1, world.submitted),
        world.most_nodes,
        len(world.waiting) + world.assigned,
        world.events,
        acting.took_s,
    )


def asked_for_less(nodes: int, seed: int, plays: int = 6) -> Iterator[str]:
    """Yield a row for each size of ensemble: what asking for less time is worth, in the mean of some plays."""
    for each in (2, 10, 50):
        for policy in (TaughtWholeWalltimes, Taught):
            played = [simulate(policy, each * nodes, nodes, seed + nth) for nth in range(plays)]
            hours, asked_h, useful, allocated_h = (
                statistics.fmean(values)
                for values in zip(
                    *((24 * one.days, one.asked_h, one.useful, one.allocated_h) for one in played), strict=True
                )
            )
            yield (
                f"| {each * nodes:,} | {asked_h:.1f} h | {hours:.1f} | {useful:.1%} | {allocated_h:,.0f} |"
                f" {sum(one.cut_off for one in played):,} |"
            )


def smaller(scenarios: int, nodes: int, seed: int) -> Iterator[Outcome]:
    """Yield what the planner makes of fleets of a sixteenth of the nodes up to half, with as many scenarios a node."""
    for divisor in (16, 8, 4, 2):
        yield simulate(Planner, scenarios // divisor, nodes // divisor, seed)


def draw(outcomes: list[Outcome], file: Path) -> None:
    """Draw what an event costs against the size of the fleet."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot([each.nodes for each in outcomes], [each.event_us for each in outcomes], "o-")
    axes.set(
        xlabel="nodes",
        ylabel="planner, µs an event",
        ylim=(0, 1.3 * max(each.event_us for each in outcomes)),
        xscale="log",
        title="What a decision costs",
    )
    axes.set_xticks([each.nodes for each in outcomes], [str(each.nodes) for each in outcomes])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _row(each: Outcome) -> str:
    left = f", {each.left:,} not done" if each.left else ""
    return (
        f"| {each.policy} | {each.days:.2f}{left} | {each.useful:.2%} | {each.allocated_h:,.0f} | {each.cut_off:,} |"
        f" {each.jobs:,} | {each.asked_h:.1f} h | {each.most_nodes:,} |"
    )


def main() -> int:
    """Print both tables; 1 if a figure is worse than it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--scenarios", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="file for the picture, .svg or .png")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of it")
    said = parser.parse_args()
    scale = 50 if said.quick else 1
    scenarios, nodes = said.scenarios // scale, said.nodes // scale
    mu, sigma = wait_of(WALLTIME_S)
    print(
        f"{scenarios:,} scenarios on {nodes:,} nodes; a job of 24 h waits {math.exp(mu) / 3600:.1f} h (median), ",
        end="",
    )
    print(f"{math.exp(mu + 1.2816 * sigma) / 3600:.0f} h (one of ten)\n")
    print("| policy | days | useful node-hours | allocated node-hours | cut off | jobs | asked for | nodes at most |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    outcomes = []
    for policy in POLICIES:
        outcomes.append(simulate(policy, scenarios, nodes, said.seed))
        print(_row(outcomes[-1]), flush=True)
    ours = outcomes[0]
    print("\n| scenarios | asked for | hours | useful node-hours | allocated node-hours | cut off |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in asked_for_less(max(NODES_EACH, nodes // 10), said.seed):
        print(row, flush=True)
    print("\n| nodes | events | planner, s in all | µs an event | of the driver's time |")
    print("| --- | --- | --- | --- | --- |")
    sizes = []
    for each in chain(smaller(scenarios, nodes, said.seed), [ours]):
        sizes.append(each)
        share = each.fleet_s / (each.days * DAY_S)
        print(
            f"| {each.nodes:,} | {each.events:,} | {each.fleet_s:.1f} | {each.event_us:.1f} | {share:.5%} |", flush=True
        )
    if said.plot is not None:
        draw(sizes, said.plot)
    is_flat = sizes[-1].event_us <= MAY_GROW * sizes[0].event_us
    is_useful = ours.useful >= MUST_BE_USEFUL and not ours.left
    print(
        f"\nuseful: {'yes' if is_useful else 'NO'}, at least {MUST_BE_USEFUL:.0%}; flat: {'yes' if is_flat else 'NO'}"
    )
    return 0 if is_useful and is_flat else 1


def _address(job: Job, node: int) -> str:
    return f"tcp://{job.name}:{node}"


if __name__ == "__main__":
    sys.exit(main())
