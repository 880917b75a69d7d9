"""Whatever goes wrong with a task, and whatever its policy says, it comes to an end; and replay agrees."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.lineage import rulings
from scalable_hpc.lineage.codec import decode_event, encode_event
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.model.events import AttemptFailed, AttemptPlaced, Event
from scalable_hpc.model.tasks import AttemptId, Ending, RetryPolicy
from tests.policies import POLICIES
from tests.unit.lineage.support import CONNECTION_RESET, NOW, VALUE_ERROR, evidence, raised, submitted

GIB = 1 << 30
SIZES = (GIB, 16 * GIB)
CHECKPOINTED = raised("scalable_hpc.errors.Checkpointed", checkpoint="")
MEMORY_ERROR = raised("builtins.MemoryError")
ENDINGS = {
    "transient": (Ending.EXCEPTION, {"exception": CONNECTION_RESET}),
    "permanent": (Ending.EXCEPTION, {"exception": VALUE_ERROR}),
    "out of memory": (Ending.EXCEPTION, {"exception": MEMORY_ERROR}),
    "checkpoint": (Ending.EXCEPTION, {"exception": CHECKPOINTED}),
    "timeout": (Ending.TIMEOUT, {}),
    "refused": (Ending.REFUSED, {}),
    "silent": (Ending.WORKER_LOST, {}),
    "node": (Ending.WORKER_LOST, {"allocation_reason": "node_fail"}),
    "killed": (Ending.SLOT_DIED, {"signal": 9, "peak_memory": GIB}),
    "crashed": (Ending.SLOT_DIED, {"signal": 11}),
}


class Life:
    """One task that is placed again whenever it may be."""

    def __init__(self, policy: RetryPolicy, **changes: object) -> None:
        self.ledger = Ledger()
        self.told: list[Event] = []
        self.now = NOW
        self.tell(submitted("t", policy=replace(policy, max_elapsed_s=None), **changes))

    @property
    def record(self):
        return self.ledger.tasks["t"]

    def tell(self, *events: Event) -> None:
        for event in events:
            self.ledger.apply(event)
            self.told.append(event)

    def end(self, name: str) -> None:
        """Place it, and let that attempt end so."""
        record = self.record
        if record.state is TaskState.BACKOFF:
            self.now = max(self.now, record.retry_at)
            self.ledger.release_due(self.now)
        number, memory = record.attempts + 1, max(GIB, record.floor_memory)
        self.tell(AttemptPlaced(self.now, "t", number, "w", "a", memory=memory))
        ending, facts = ENDINGS[name]
        ended = evidence(AttemptId("t", number), ending, self.now, ran_s=1.0, **facts)
        self.tell(*rulings.on_evidence(self.ledger, ended, self.now, random.Random(number), SIZES))

    def failed(self) -> list[AttemptFailed]:
        return [event for event in self.told if isinstance(event, AttemptFailed)]


@settings(max_examples=60)
@given(POLICIES, st.lists(st.sampled_from(sorted(ENDINGS)), min_size=1, max_size=6))
def test_that_every_task_comes_to_an_end(policy, names):
    """Endings of all kinds by turns, for ever: over after as many attempts as all bounds allow together."""
    life = Life(policy, timeout_s=1.0)
    limits = sum(most + 1 for _, most in policy.limits)
    bound = policy.retries + limits + 2 * policy.infrastructure_limit + 10

    for number in range(bound + 1):
        if life.record.is_over:
            break
        life.end(names[number % len(names)])

    assert life.record.state is TaskState.FAILED
    again = Ledger()
    for event in life.told:
        again.apply(decode_event(json.loads(json.dumps(encode_event(event)))))
    assert again.views() == life.ledger.views()


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("transient", "TRANSIENT"),
        ("permanent", "PERMANENT"),
        ("timeout", "RESOURCE"),
        ("node", "INFRASTRUCTURE"),
        ("silent", "UNKNOWN"),
    ],
)
@pytest.mark.parametrize("limit", [0, 3])
def test_that_a_limit_counts_its_verdict_and_no_other(name, verdict, limit):
    """So many are tried again; none of them is taken from the retries, or from the bound of other endings."""
    life = Life(RetryPolicy(retries=1, limits={verdict: limit}), timeout_s=1.0)

    for _ in range(limit):
        life.end(name)

    assert (life.record.charged, life.record.uncharged, life.record.is_over) == (0, 0, False)
    life.end(name)
    assert life.record.is_over


def test_that_timeouts_grow_only_where_the_policy_says_so():
    """With a limit for RESOURCE each attempt has twice the time of the one before; with retries alone the same."""
    grows, stays = Life(RetryPolicy(limits={"RESOURCE": 2}), timeout_s=1.0), Life(RetryPolicy(retries=2), timeout_s=1.0)
    for life in (grows, stays):
        while not life.record.is_over:
            life.end("timeout")

    assert [event.next_timeout_s for event in grows.failed()] == [2.0, 4.0, None]
    assert [event.next_timeout_s for event in stays.failed()] == [None, None, None]
    assert "its timeout of 4 s" in grows.record.error
    assert "with a timeout of 2 s" in grows.failed()[0].because
