"""Waiting for a retry: no worker, no slot and no thread does it."""

from __future__ import annotations

import threading

from scalable_hpc.model.events import AttemptFailed
from scalable_hpc.model.tasks import RetryPolicy
from tests.unit.lineage.support import attempt, hello, law, spec, stage

TASKS = 50
PATIENT = RetryPolicy(retries=1, base_s=1000, cap_s=1000, jitter=False)


@law
async def test_that_waits_take_neither_slot_nor_thread(run_dir):
    """Fifty tasks wait for their retry; a worker of one slot runs others meanwhile; each wait is in the journal."""
    before = threading.active_count()
    async with stage(run_dir) as on:
        on.keeper.receive(hello(slots=1))
        on.submit(*(spec(f"t{number}", policy=PATIENT) for number in range(TASKS)))
        for number in range(TASKS):
            await on.transport.until_sent(number + 1)
            on.ended(attempt(f"t{number}"))
        on.submit(spec("other"))
        await on.transport.until_sent(TASKS + 1)
        threads = threading.active_count()
        on.done(attempt("other"))
        await on.outcome("other")
        failed = on.events(AttemptFailed)

        assert {event.decision for event in failed} == {"wait"}
        assert {event.retry_at for event in failed} == {on.clock.now + 1000}
        assert all("retry 1 of 1 in 1000.0 s" in event.because for event in failed)
        assert on.keeper.progress().waiting == TASKS
        assert threads - before < 5

        on.clock.now += 1001
        on.keeper.receive(hello(2, slots=TASKS))
        await on.transport.until_sent(2 * TASKS + 1)

    assert len({str(one) for one in on.transport.attempts if one.endswith(".2")}) == TASKS
