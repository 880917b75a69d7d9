"""Years of cluster life around the planner: whatever happens, in whatever order, its laws hold."""

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scalable_hpc.model.allocations import ExitReason, JobState
from scalable_hpc.model.fleet import Limits
from tests.unit.fleet.simulated import World

REASONS = [
    ExitReason.NODE_FAIL,
    ExitReason.CANCELLED,
    ExitReason.PREEMPTED,
    ExitReason.FAILED,
    ExitReason.OUT_OF_MEMORY,
]


class ClusterLife(RuleBasedStateMachine):
    """Work comes, jobs wait, run, expire, fail, vanish and come back, the batch system falls silent."""

    @initialize(
        maximum=st.integers(1, 4),
        minimum=st.integers(0, 2),
        slots=st.integers(1, 4),
        walltime=st.sampled_from([60, 600, 7200]),
        known=st.booleans(),
        shortens=st.booleans(),
    )
    def begin(self, maximum, minimum, slots, walltime, known, shortens):
        """A target with its limits."""
        runtime = walltime / 6
        self.world = World(
            Limits(
                "cpu",
                minimum=min(minimum, maximum),
                maximum=maximum,
                slots_per_node=slots,
                walltime_s=walltime,
                margin_s=2.0,
                shortens=shortens,
            ),
            need_s=runtime if known else None,
            runtime_s=runtime,
        )

    @rule(count=st.integers(1, 40))
    def work_comes(self, count):
        """Tasks are submitted."""
        self.world.add_tasks(count)

    @rule(ticks=st.integers(1, 12), seconds=st.sampled_from([0.5, 5.0, 60.0, 1800.0]))
    def time_passes(self, ticks, seconds):
        """Seconds or hours."""
        for _ in range(ticks):
            self.world.tick(seconds)

    @rule(nth=st.integers(0, 9), reason=st.sampled_from(REASONS))
    def a_job_ends(self, nth, reason):
        """A node dies, an operator cancels, a preemptor comes: any open job, pending or running."""
        if jobs := self.world.open_jobs():
            self.world.end_job(jobs[nth % len(jobs)], reason)

    @rule(nth=st.integers(0, 9))
    def a_worker_is_lost(self, nth):
        """A worker dies while its job runs on; its launcher may bring it back."""
        if jobs := self.world.running_jobs():
            self.world.lose_worker(jobs[nth % len(jobs)])

    @rule(nth=st.integers(0, 9))
    def a_job_is_requeued(self, nth):
        """The batch system takes the nodes away and lets the same job wait again."""
        if jobs := self.world.running_jobs():
            self.world.requeue(jobs[nth % len(jobs)])

    @rule(nth=st.integers(0, 9))
    def a_worker_asks_to_be_drained(self, nth):
        """A warning signal comes early."""
        if jobs := [job for job in self.world.running_jobs() if job.worker]:
            self.world.ask_to_drain(jobs[nth % len(jobs)])

    @rule(nth=st.integers(0, 9), extra=st.sampled_from([60.0, 3600.0]))
    def an_admin_extends_a_walltime(self, nth, extra):
        """The end moves."""
        if jobs := self.world.running_jobs():
            jobs[nth % len(jobs)].walltime_s += extra

    @rule(wait=st.sampled_from([0.0, 5.0, 300.0, 20_000.0]))
    def the_queue_changes(self, wait):
        """Short and long queues."""
        self.world.queue_wait_s = wait

    @rule(silent=st.booleans())
    def the_batch_system_falls_silent_or_answers(self, silent):
        """For any length."""
        self.world.is_silent = silent

    @rule(bad=st.booleans())
    def the_site_breaks_or_is_repaired(self, bad):
        """Jobs that start now end before their worker registers."""
        self.world.starts_badly = bad

    @rule(forgets=st.booleans())
    def accounting_goes_or_comes(self, forgets):
        """Without it, ended jobs are soon not known at all."""
        self.world.forgets_ended = forgets

    @invariant()
    def the_laws_hold(self):
        """No live allocation forgotten, no task lost or done twice."""
        if hasattr(self, "world"):
            self.world.check_always()

    def teardown(self):
        """Once the faults stop, all work is done and the fleet goes to zero."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.is_silent = world.starts_badly = world.forgets_ended = False
        world.queue_wait_s = 5.0
        step = world.limits.walltime_s / 20
        for _ in range(8000):
            if not world.demand() and not world.open_jobs() and not world.roster.open():
                break
            world.tick(step)
        world.check_always()
        assert len(world.done) == world.submitted, "demand was not served"
        assert not world.open_jobs(), "the fleet did not go to zero"
        assert not world.roster.open(), "an allocation that is over is still believed in"


TestClusterLife = ClusterLife.TestCase
TestClusterLife.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_that_a_year_of_a_busy_cluster_leaves_nothing_behind():
    """Work keeps coming, one job in twenty dies every two hours, the queue swings between none and a day."""
    chance = random.Random(2026)
    world = World(
        Limits("cpu", maximum=6, slots_per_node=4, walltime_s=6 * 3600, margin_s=60.0), need_s=3000.0, runtime_s=3000.0
    )
    for hour in range(0, 24 * 365, 2):
        if hour % 24 == 0:
            world.add_tasks(chance.randrange(300))
            world.queue_wait_s = chance.choice([0.0, 600.0, 86_400.0])
        world.is_silent = chance.random() < 0.02
        for job in world.open_jobs():
            if chance.random() < 0.05:
                world.end_job(job, chance.choice(REASONS))
        world.tick(7200.0)
    world.check_always()
    world.queue_wait_s, world.is_silent = 0.0, False
    for _ in range(3000):
        world.tick(600.0)

    assert len(world.done) == world.submitted > 10_000
    assert world.open_jobs() == []
    assert world.most_open <= 12


def test_that_work_never_stops_when_successors_are_asked_for_in_time():
    """With a queue of ten minutes and a walltime of an hour, the slots are never all gone once the queue is known."""
    world = World(
        Limits("cpu", maximum=2, slots_per_node=4, walltime_s=3600, lead_s=120.0), need_s=60.0, runtime_s=60.0
    )
    world.queue_wait_s = 600.0
    world.add_tasks(8 * 60 * 24)
    gaps = 0
    for second in range(0, 20 * 3600, 10):
        world.tick(10.0)
        if second > 2 * 3600 and not [job for job in world.running_jobs() if job.worker]:
            gaps += 1

    assert gaps == 0
    assert world.most_open <= 4
    assert world.overran == 0


def test_that_asking_for_less_time_neither_loses_work_nor_delays_it():
    """A day of ensembles of all sizes: the shortened requests do as much, in no more node-hours, and nothing is cut."""
    outcomes = []
    for shortens in (False, True):
        chance = random.Random(7)
        allowed = Limits("cpu", maximum=4, slots_per_node=4, walltime_s=4 * 3600, shortens=shortens)
        world = World(allowed, need_s=300.0, runtime_s=300.0, queue_wait_s=60.0)
        for _ in range(24):
            world.add_tasks(chance.randrange(1, 60))
            for _ in range(60):
                world.tick(60.0)
        for _ in range(600):
            world.tick(60.0)
        outcomes.append(world)

    usual, shortened = outcomes
    assert len(shortened.done) == len(usual.done) == shortened.submitted
    assert shortened.overran == 0
    assert {job.reason for job in shortened.jobs.values()} == {ExitReason.CANCELLED}
    asked = [job.walltime_s for job in shortened.jobs.values()]
    assert sum(asked) < 0.5 * sum(job.walltime_s for job in usual.jobs.values())
    assert len(asked) <= 1.2 * len(usual.jobs)


def test_that_one_minute_walltimes_carry_more_work_than_one_allocation():
    """Tasks of twenty seconds on one-minute allocations: all done, none cut off, successors before the end."""
    world = World(
        Limits("cpu", maximum=2, slots_per_node=4, walltime_s=60, margin_s=5.0, lead_s=120.0),
        need_s=20.0,
        runtime_s=20.0,
        queue_wait_s=1.0,
    )
    world.add_tasks(48)
    for _ in range(600):
        world.tick(0.5)
        if len(world.done) == 48:
            break

    assert len(world.done) == 48
    assert len(world.jobs) >= 3
    assert world.overran == 0
    assert all(job.reason in (None, ExitReason.CANCELLED) for job in world.jobs.values())
    assert any(
        job.submitted_at < other.ends_at and other.state is JobState.ENDED
        for job in world.jobs.values()
        for other in world.jobs.values()
        if other.started_at < job.submitted_at
    )
