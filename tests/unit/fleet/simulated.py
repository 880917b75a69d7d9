"""A cluster in a dict: a batch system with queue waits, walltimes and failures, workers, and a keeper with tasks.

It drives the real ``roster``, ``view`` and ``plan``; only the two outer worlds are played. One ``tick`` is: the batch
system moves, Dask tells of workers, the batch system is asked (unless it is silent), the keeper places, the plan acts.
"""

from dataclasses import dataclass, field
from functools import partial

from scalable_hpc.fleet import view
from scalable_hpc.fleet.plan import plan
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.model.allocations import AllocationState, ExitReason, JobEnding, JobObservation, JobState
from scalable_hpc.model.fleet import Cancel, Demand, Drain, Pause, Retire, Submit
from scalable_hpc.model.messages import WorkerDraining
from tests.unit.fleet.builders import hello

S = AllocationState


@dataclass
class Job:
    name: str
    job_id: str
    submitted_at: float
    starts_at: float
    walltime_s: float
    boots_in_s: float
    starts_badly: bool
    state: JobState = JobState.PENDING
    started_at: float = 0.0
    worker: str | None = None
    worker_due_at: float = 0.0
    reason: ExitReason | None = None
    ended_at: float = 0.0
    restarts: int = 0

    @property
    def ends_at(self):
        return self.started_at + self.walltime_s


@dataclass
class Attempt:
    task: int
    name: str
    worker: str
    ends_at: float


@dataclass
class World:
    limits: object
    need_s: float | None = None
    """What the keeper believes of runtimes; None: nothing is known."""
    runtime_s: float = 20.0
    now: float = 0.0
    queue_wait_s: float = 5.0
    boot_s: float = 2.0
    is_silent: bool = False
    starts_badly: bool = False
    forgets_ended: bool = False
    """A batch system that does not know a job any more once it is over."""
    jobs: dict = field(default_factory=dict)
    waiting: list = field(default_factory=list)
    attempts: list = field(default_factory=list)
    done: dict = field(default_factory=dict)
    budget_node_s: float | None = None
    plans: int = 0
    most_open: int = 0
    overran: int = 0

    def __post_init__(self):
        self.roster = Roster("sim")
        self.submitted = 0
        self.addresses = 0
        self.not_ended = {}

    # ---- the world around the fleet ----

    def add_tasks(self, count):
        first = self.submitted
        self.submitted += count
        self.waiting.extend(range(first, first + count))

    def running_jobs(self):
        return [job for job in self.open_jobs() if job.state is JobState.RUNNING]

    def open_jobs(self):
        return list(self.not_ended.values())

    def end_job(self, job, reason):
        """The batch system's side of an end; its worker goes with it, and so do its attempts."""
        job.state, job.reason, job.ended_at = JobState.ENDED, reason, self.now
        self.not_ended.pop(job.name, None)
        self.lose_worker(job)

    def lose_worker(self, job):
        if job.worker is not None:
            address, job.worker = job.worker, None
            self.roster.worker_left(address, self.now)
            lost = [attempt for attempt in self.attempts if attempt.worker == address]
            self.attempts = [attempt for attempt in self.attempts if attempt.worker != address]
            self.waiting.extend(attempt.task for attempt in lost)

    def requeue(self, job):
        self.lose_worker(job)
        job.state, job.starts_at, job.restarts = JobState.PENDING, self.now + self.queue_wait_s, job.restarts + 1

    # ---- one step of time ----

    def tick(self, seconds):
        self.now += seconds
        self._finish_attempts()
        for job in list(self.open_jobs()):
            self._move(job)
        if not self.is_silent:
            self._poll()
        self._place()
        self._plan()
        self.most_open = max(self.most_open, len(self.open_jobs()))

    def _move(self, job):
        if job.state is JobState.PENDING and self.now >= job.starts_at:
            job.state, job.started_at = JobState.RUNNING, self.now
            job.worker_due_at = self.now + job.boots_in_s
        if job.state is JobState.RUNNING and job.starts_badly and self.now > job.started_at:
            self.end_job(job, ExitReason.FAILED)
        elif job.state is JobState.RUNNING and self.now >= job.ends_at:
            self.overran += sum(attempt.worker == job.worker for attempt in self.attempts)
            self.end_job(job, ExitReason.TIMEOUT)
        elif job.state is JobState.RUNNING and job.worker is None and self.now >= job.worker_due_at:
            self._register(job)

    def _register(self, job):
        self.addresses += 1
        job.worker = f"tcp://sim:{self.addresses}"
        known = self.roster[job.name]
        if known.ending is not None:
            self.end_job(job, ExitReason.CANCELLED)  # a stray: the helm cancels its job
            return
        slots = self.limits.nodes * self.limits.slots_per_node
        self.roster.worker_came(hello(job.name, job.worker, slots, job.ends_at, job_id=job.job_id), self.now)

    def _poll(self):
        for known in self.roster.open():
            job = self.jobs.get(known.view.name)
            if job is not None and known.view.job_id is not None:
                self.roster.observe(self._seen(job), job.name, self.now)

    def _seen(self, job):
        if job.state is JobState.ENDED and self.forgets_ended:
            return JobObservation(job.job_id, JobState.UNKNOWN, "Invalid job id specified")
        running = job.state is JobState.RUNNING
        return JobObservation(
            job.job_id,
            job.state,
            job.state.name,
            name=f"scalable-sim-{job.name}",
            started_at=job.started_at if running else None,
            ends_at=job.ends_at if running else None,
            ending=JobEnding(job.reason, job.reason.name) if job.state is JobState.ENDED else None,
            restarts=job.restarts,
        )

    def _finish_attempts(self):
        over = [each for each in self.attempts if each.ends_at <= min(self.now, self.jobs[each.name].ends_at)]
        ids = {id(each) for each in over}
        self.attempts = [each for each in self.attempts if id(each) not in ids]
        for attempt in over:
            self.done[attempt.task] = self.done.get(attempt.task, 0) + 1

    def _place(self):
        busy = self.busy()
        for known in self.roster.open():
            seen = known.view
            free = seen.live_slots - busy.get(seen.name, 0)
            room = (seen.ends_at or self.now + 1e9) - self.limits.margin_s - self.now
            if seen.state is S.LIVE and known.workers and room > (self.need_s or 0.0):
                for _ in range(min(free, len(self.waiting))):
                    attempt = Attempt(self.waiting.pop(0), seen.name, known.workers[0][0], self.now + self.runtime_s)
                    self.attempts.append(attempt)

    def busy(self):
        counts = {}
        for attempt in self.attempts:
            counts[attempt.name] = counts.get(attempt.name, 0) + 1
        return counts

    # ---- the fleet ----

    def demand(self):
        if not (self.waiting or self.attempts):
            return []
        waiting, running = len(self.waiting), len(self.attempts)
        longest_s, work_s = None, 0.0
        if self.need_s is not None and waiting:
            longest_s, work_s = self.need_s, self.need_s * (waiting + running)
        return [Demand("cpu", waiting, running, self.need_s, self.need_s, longest_s=longest_s, work_s=work_s)]

    def _plan(self):
        demand = self.demand()
        standing = self.roster.standing("cpu")
        if not demand:
            standing.failures, standing.paused_until = (), None
        paused = float("inf") if self.is_silent else None
        left = None
        if self.budget_node_s is not None:
            left = self.roster.balance(self.budget_node_s, self.now).left_node_s
        seen = self.roster.draw_view(
            "cpu", busy=self.busy(), now=self.now, closing=False, paused_until=paused, node_s_left=left
        )
        actions = plan(seen, demand, {"cpu": self.limits}, self.now)
        self.check(seen, demand, actions)
        self.plans += 1
        for action in actions:
            self._act(action)

    def _act(self, action):
        if isinstance(action, Submit):
            request = self.roster.enrol(action, self.limits, self.now)
            job = Job(
                request.name,
                str(len(self.jobs) + 1),
                self.now,
                self.now + self.queue_wait_s,
                action.walltime_s,
                self.boot_s,
                self.starts_badly,
            )
            self.jobs[request.name] = self.not_ended[request.name] = job
            self.roster.tell(request.name, partial(view.submitted, job_id=job.job_id, now=self.now), self.now)
        elif isinstance(action, Drain):
            self.roster.tell(action.name, partial(view.drain_decided, because=action.because, now=self.now), self.now)
        elif isinstance(action, Pause):
            # Nobody fixes the site here: where the run would be told, the simulation tries again later.
            self.roster.standing("cpu").paused_until = min(action.until, self.now + 600.0)
            if action.until == float("inf"):
                self.roster.standing("cpu").failures = ()
        else:
            self.roster.tell(action.name, partial(view.close_decided, because=action.because, now=self.now), self.now)
            job = self.jobs[action.name]
            if job.state is not JobState.ENDED:
                self.end_job(job, ExitReason.CANCELLED)

    def ask_to_drain(self, job):
        self.roster.worker_drains(WorkerDraining(job.worker, "SIGUSR1", None), self.now)

    # ---- the laws ----

    def check(self, seen, demand, actions):
        by_name = {each.name: each for each in seen.allocations}
        acted = [action.name for action in actions if hasattr(action, "name")]
        assert len(acted) == len(set(acted)), "two actions on one allocation"
        for action in actions:
            assert action.because
            if isinstance(action, Cancel):
                assert by_name[action.name].state is S.PENDING
            elif isinstance(action, Drain):
                assert by_name[action.name].state is S.LIVE
            elif isinstance(action, Retire):
                target = by_name[action.name]
                assert target.state in (S.STARTING, S.LIVE, S.DRAINING)
                assert target.busy == 0 or self.now >= target.ends_at, "a busy one was retired before its time"
        self._check_numbers(by_name, demand, actions)

    def _check_numbers(self, by_name, demand, actions):
        submits = [action for action in actions if isinstance(action, Submit)]
        if not submits:
            return
        assert demand, "something was asked for without any work"
        gone = {action.name for action in actions if isinstance(action, Cancel | Drain | Retire)}
        work = demand[0].waiting + demand[0].assigned
        slots = self.limits.nodes * self.limits.slots_per_node
        staying = [
            each
            for each in by_name.values()
            if each.state in (S.SUBMITTING, S.PENDING, S.STARTING, S.LIVE)
            and each.name not in gone
            and not each.drain_asked
            and not self._may_overlap(each)
        ]
        alive = [each for each in staying if each.live_slots or not each.reached_live]
        assert len(staying) + len(submits) <= self.limits.maximum, "more than allowed"
        assert len(alive) + len(submits) <= max(-(-work // slots), self.limits.minimum), "more than wanted"
        assert len(self.open_jobs()) + len(submits) <= 2 * self.limits.maximum, "more than one successor each"

    def _may_overlap(self, each):
        return each.ends_at is not None and self.now >= each.ends_at - 0.75 * each.walltime_s

    def check_always(self):
        known = {each.view.name for each in self.roster.open()}
        for job in self.open_jobs():
            assert job.name in known or job.worker is None, f"{job.name} lives and is forgotten"
        assert not [task for task, times in self.done.items() if times > 1], "a task was done twice"
        assert sorted([*self.waiting, *(a.task for a in self.attempts), *self.done]) == list(range(self.submitted))
        if self.need_s is not None:
            assert self.overran == 0, "an attempt was placed where it had not enough time"
