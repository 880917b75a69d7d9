"""Workers that come back: after a link that broke for a moment, or to the driver that takes a dead one's place.

Such a worker says what it still has in hand, and that is not sent again. What it had been given and does not know any
more is tried again at once, at nobody's charge; its store is asked first.

Rule 1: waiting is bounded: a worker of an earlier driver that does not come back in time is given up.
Rule 2: an attempt that was given up and sent elsewhere meanwhile may still win: first publisher wins, the other one is
stopped then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from scalable_hpc.lineage import rulings
from scalable_hpc.lineage.inquiry import Inquiries
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.roster import Roster, Worker
from scalable_hpc.lineage.turn import Turn
from scalable_hpc.model.messages import AttemptEnded, Holding, WorkerHello
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence

REJOIN_PATIENCE_S = 60.0
"""A worker without a driver looks for one twice a second; the rest is for a parallel file system to show it the file,
and for a node to be busy."""


class Reunions:
    """Workers that are awaited, and what they bring with them."""

    def __init__(
        self, ledger: Ledger, roster: Roster, inquiries: Inquiries, deliver: Callable[[AttemptEnded], None]
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._inquiries = inquiries
        self._deliver = deliver
        self._awaited: dict[str, float] = {}
        """Until when a worker of an earlier driver is waited for, by its address there."""
        self._overtaken: dict[str, list[AttemptId]] = {}
        """Attempts in hand of tasks that were sent again meanwhile, by task."""

    def expect(self, allocations: Mapping[str, str], now: float) -> None:
        """Wait for the workers that an earlier driver had sent attempts to.

        Args:
            allocations: those that may live, with their worker types.
            now: seconds since the epoch.
        """
        for record in list(self._ledger.in_state(TaskState.SENT)):
            if record.worker is None or record.allocation is None or record.allocation not in allocations:
                continue
            self._roster.expect(record.worker, record.allocation, allocations[record.allocation])
            self._awaited[record.worker] = now + REJOIN_PATIENCE_S
            key, alone = f"scalable-{record.attempt}", record.suspicions > 0
            self._roster.assign(record.worker, key, [record.attempt], record.in_hand, alone=alone)

    def next_due(self) -> float | None:
        """When the patience with somebody ends (seconds since the epoch)."""
        return min(self._awaited.values(), default=None)

    def overdue(self, now: float) -> list[str]:
        """Give up waiting for those who are late, and return their addresses."""
        late = [address for address, until in self._awaited.items() if until <= now]
        for address in late:
            del self._awaited[address]
        return late

    def welcome(self, hello: WorkerHello, turn: Turn) -> None:
        """Take up what a worker has in hand that has just said hello and is in the roster."""
        before = list(self._before(hello))
        held = {attempt for holding in hello.holding for attempt in holding.attempts}
        for holding in hello.holding:
            self._take_up(hello, holding, turn)
        for worker in before:
            for load in worker.loads.values():
                for attempt in sorted(load.attempts - held, key=str):
                    self._deliver(AttemptEnded(_forgotten(attempt, hello, turn.now)))

    def ended(self, task_id: str, turn: Turn) -> None:
        """Stop the other attempts of a task that has its result."""
        for attempt in self._overtaken.pop(task_id, ()):
            address = self._roster.place_of(attempt)
            if address is not None:
                turn.cancels.setdefault(address, []).append(attempt)

    def _before(self, hello: WorkerHello) -> Iterable[Worker]:
        """Yield what this worker was before it came back, with what it had in hand then."""
        for address in hello.former or self._stand_in_of(hello):
            self._awaited.pop(address, None)
            worker = self._roster.remove(address) or self._inquiries.recall(address)
            if worker is not None:
                yield worker

    def _stand_in_of(self, hello: WorkerHello) -> list[str]:
        """Return the address of the one awaited worker of an allocation of one node: its courier was replaced."""
        there = [
            address
            for address in self._awaited
            if (worker := self._roster.get(address)) is not None and worker.allocation == hello.allocation
        ]
        return there if len(there) == 1 and hello.name == hello.allocation else []

    def _take_up(self, hello: WorkerHello, holding: Holding, turn: Turn) -> None:
        records = {attempt: self._ledger.tasks.get(attempt.task_id) for attempt in holding.attempts}
        needs = next((record.in_hand for record in records.values() if record is not None), Needs())
        alone = any(record is not None and record.suspicions > 0 for record in records.values())
        self._roster.assign(hello.address, holding.key, holding.attempts, needs, alone=alone)
        for attempt, record in records.items():
            if record is None or record.is_over:
                turn.cancels.setdefault(hello.address, []).append(attempt)
            elif attempt.number < record.attempts:
                self._overtaken.setdefault(attempt.task_id, []).append(attempt)
            turn.tell(rulings.on_rejoined(self._ledger, attempt, hello.address, hello.allocation, turn.now))


def _forgotten(attempt: AttemptId, hello: WorkerHello, now: float) -> Evidence:
    return Evidence(
        attempt,
        Ending.WORKER_LOST,
        now,
        worker=hello.address,
        allocation=hello.allocation,
        node=hello.node,
        expected=True,
        log_tail="its worker came back without it",
    )
