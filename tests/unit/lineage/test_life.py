"""Years of a run's life: workers come and go, nodes and receipts get lost, drivers die; nothing else does."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scalable_hpc.lineage import rulings
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Ending, RetryPolicy
from tests.unit.lineage.life import Life
from tests.unit.lineage.support import CONNECTION_RESET, VALUE_ERROR, key_of, raised, submitted

NEEDS = [
    Needs(),
    Needs(worker_type="cpu"),
    Needs(cpus=4),
    Needs(gpus=1),
    Needs(memory=40 << 30),
    Needs(cpus=100),
    Needs(worker_type="big", cpus=2),
]
REASONS = [None, "unknown", "node_fail", "timeout", "preempted", "cancelled", "completed", "failed", "out_of_memory"]
EXCEPTIONS = [CONNECTION_RESET, VALUE_ERROR, raised("numpy.linalg.LinAlgError", "builtins.ValueError")]


class RunLife(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.submitted: list[str] = []

    @rule(
        count=st.integers(1, 12),
        needs=st.sampled_from(NEEDS),
        retries=st.integers(0, 2),
        expected=st.sampled_from([None, None, 10.0, 3000.0, 5000.0, 1e6]),
        name=st.sampled_from(["tiny", "long", "other"]),
        priority=st.integers(0, 1),
        data=st.data(),
    )
    def submit(self, count, needs, retries, expected, name, priority, data):
        for _ in range(count):
            ancestors = data.draw(st.lists(st.sampled_from(self.submitted), max_size=2)) if self.submitted else []
            twin = data.draw(st.sampled_from([None, *self.submitted[-3:]]))
            task_id = f"t{len(self.submitted)}"
            self.life.submit(
                submitted(
                    task_id,
                    *ancestors,
                    at=self.life.now,
                    key=self.life.ledger.tasks[twin].key if twin else key_of(task_id),
                    needs=needs,
                    policy=RetryPolicy(retries=retries, infrastructure_limit=6),
                    expected_runtime_s=expected,
                    name=name,
                    priority=priority,
                )
            )
            self.submitted.append(task_id)

    @rule(worker_type=st.sampled_from(["cpu", "big"]), walltime=st.sampled_from([None, 4.0, 60.0, 3500.0]))
    def worker_comes(self, worker_type, walltime):
        if len(self.life.nodes) < 4:
            self.life.add_worker(worker_type, walltime)

    @rule()
    def tick(self):
        self.life.tick()

    @rule(seconds=st.sampled_from([0.5, 30.0, 4000.0]))
    def time_passes(self, seconds):
        self.life.now += seconds

    @precondition(lambda self: self.life.executing())
    @rule(data=st.data(), seconds=st.sampled_from([0.001, 0.5, 100.0]))
    def some_finish(self, data, seconds):
        for node, attempt in self._some(data):
            self.life.finish(node, attempt, seconds=seconds)

    @precondition(lambda self: self.life.executing())
    @rule(data=st.data())
    def some_raise(self, data):
        for node, attempt in self._some(data):
            self.life.end(node, attempt, Ending.EXCEPTION, exception=data.draw(st.sampled_from(EXCEPTIONS)))

    @precondition(lambda self: self.life.executing())
    @rule(
        data=st.data(),
        ending=st.sampled_from([Ending.TIMEOUT, Ending.SLOT_DIED, Ending.NEVER_STARTED, Ending.REFUSED]),
        signal=st.sampled_from([11, 15]),
    )
    def some_end(self, data, ending, signal):
        for node, attempt in self._some(data):
            self.life.end(node, attempt, ending, signal=signal)

    @precondition(lambda self: self.life.nodes)
    @rule(
        data=st.data(),
        reason=st.sampled_from(REASONS),
        expected=st.booleans(),
        receipts_lost=st.integers(0, 3),
        worker_end=st.sampled_from(["", "SIGKILL"]),
    )
    def worker_is_lost(self, data, reason, expected, receipts_lost, worker_end):
        node = data.draw(st.sampled_from(sorted(self.life.nodes.values(), key=lambda node: node.address)))
        self.life.lose(node, reason, expected=expected, receipts_lost=receipts_lost, worker_end=worker_end)

    @precondition(lambda self: self.life.nodes)
    @rule(data=st.data())
    def worker_drains(self, data):
        self.life.roster.drain(data.draw(st.sampled_from(sorted(self.life.nodes))), "its walltime is near")

    @precondition(lambda self: self.life.mail)
    @rule(data=st.data())
    def mail_arrives_in_any_order(self, data):
        for _ in range(data.draw(st.integers(1, len(self.life.mail)))):
            self.life.deliver(data.draw(st.integers(0, len(self.life.mail) - 1)))

    @precondition(lambda self: self.life.old_receipts)
    @rule(data=st.data())
    def an_old_receipt_arrives_again(self, data):
        self.life.mail.append(data.draw(st.sampled_from(self.life.old_receipts)))

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data):
        task_id = data.draw(st.sampled_from(self.submitted))
        self.life.tell(rulings.cancel(self.life.ledger, task_id, "not wanted", self.life.now))

    @rule()
    def driver_is_killed(self):
        self.life.restart()

    @invariant()
    def nothing_is_lost_or_charged_wrongly(self):
        self.life.check()

    def teardown(self):
        self.life.check_replay()
        self.life.live_on()
        self.life.check_replay()

    def _some(self, data):
        executing = self.life.executing()
        count = data.draw(st.integers(1, len(executing)))
        start = data.draw(st.integers(0, len(executing) - count))
        return executing[start : start + count]


RunLife.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_that_no_life_loses_a_task = pytest.mark.timeout(900)(RunLife.TestCase)  # a failure is made short in minutes


@pytest.mark.parametrize("seed", range(3))
def test_that_a_thousand_tasks_outlive_months_of_bad_luck(seed):
    """Short walltimes, lost nodes and receipts, killed drivers: every task ends, and each result is made once.

    No fault here is a task's own, so all are done, nothing is charged, and what was executed twice was never
    published by its first attempt.
    """
    life = Life(seed)
    luck = random.Random(seed)
    policy = RetryPolicy(retries=0, infrastructure_limit=10_000)
    for number in range(1000):
        life.submit(submitted(f"t{number}", at=life.now, policy=policy, name=f"name{number % 3}"))
    steps = 0
    while life.ledger.unfinished:
        steps += 1
        assert steps < 5000
        while len(life.nodes) < 6:
            life.add_worker(luck.choice(["cpu", "big"]), luck.uniform(30, 3600))
        life.tick()
        life.now += luck.uniform(1, 60)
        for node, attempt in life.executing():
            if luck.random() < 0.5:
                life.finish(node, attempt, seconds=luck.uniform(1, 50))
        for node in list(life.nodes.values()):
            worker = life.roster.get(node.address)
            if worker.time_left_s(life.now) <= 0:
                life.lose(node, "timeout", expected=False, receipts_lost=luck.randrange(2))
            elif luck.random() < 0.02:
                life.lose(node, luck.choice(REASONS), expected=luck.random() < 0.3, receipts_lost=luck.randrange(3))
        while life.mail and luck.random() < 0.95:
            life.deliver(luck.randrange(len(life.mail)))
        if luck.random() < 0.01:
            life.restart()
        if steps % 20 == 0:
            life.check()
    life.check_replay()

    assert life.ledger.count(TaskState.DONE) == 1000
    assert not +life.charges
    assert set(life.executions.values()) == {1}


def test_that_replay_of_half_a_journal_is_a_life_to_go_on_with():
    """Wherever a journal ends, what it tells is a consistent state, and the run can be finished from there."""
    whole = Life(5)
    for number in range(30):
        ancestors = [f"t{number - 10}"] if number >= 10 else []
        whole.submit(submitted(f"t{number}", *ancestors, at=whole.now, policy=RetryPolicy(retries=1)))
    whole.add_worker("cpu", 3000)
    for _ in range(12):
        whole.tick()
        for number, (node, attempt) in enumerate(whole.executing()):
            if number % 3:
                whole.finish(node, attempt)
            else:
                whole.end(node, attempt, Ending.EXCEPTION, exception=CONNECTION_RESET)
        while whole.mail:
            whole.deliver(0)
        whole.now += 10
    for size in range(0, len(whole.journal) + 1, 5):
        half = Life(size)
        half.now = whole.now
        half.published = dict(whole.published)
        half.take_over(whole.journal[:size])
        half.live_on()

        assert not half.ledger.unfinished
