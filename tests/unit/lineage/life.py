"""A simulated driver over a simulated cluster: the pure rooms of lineage and faults, with time and luck in our hand.

The driver's side goes through ledger, rulings, window and roster exactly as the keeper does; its journal is a list.
The cluster's side knows the truth: what really runs where, what was published, which messages are still on their way.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace

from scalable_hpc.lineage import rulings, succession
from scalable_hpc.lineage.codec import encode_event
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Allowance, Offer
from scalable_hpc.lineage.quick import QuickFold
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.replay import replay
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.lineage.window import WindowRules, place
from scalable_hpc.model.events import AttemptFailed, AttemptPlaced, Event, ReceiptTaken, TaskSubmitted
from scalable_hpc.model.resources import WorkerType
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Locator, Receipt
from tests.unit.lineage.support import NOW, STORE, hello

MARGIN_S = 5.0
OFFERS = (
    Offer(WorkerType("cpu", cpus=4, slots=4), walltime_s=3600, margin_s=MARGIN_S),
    Offer(WorkerType("big", cpus=8, memory=64 << 30, gpus=1, slots=2), walltime_s=7200, margin_s=MARGIN_S),
)
RULES = WindowRules()
OWN_FAULT = ("exception", "timeout", "second_death")

Mail = Receipt | Evidence


@dataclass
class Node:
    """A worker as it really is."""

    address: str
    node: str
    running: dict[AttemptId, float] = field(default_factory=dict)


def quickly(journal: list[Event]) -> Ledger:
    """Replay a journal from its lines, as a driver does that opens a run."""
    ledger = Ledger()
    fold = QuickFold(ledger)
    for event in journal:
        fold.take(json.dumps(encode_event(event), separators=(",", ":")))
    fold.finish()
    return ledger


class Life:
    """One run's life."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.now = NOW
        self.journal: list[Event] = []
        self.ledger = Ledger()
        self.roster = Roster()
        self.nodes: dict[str, Node] = {}
        self.mail: list[Mail] = []
        self.old_receipts: list[Receipt] = []
        self.published: dict[str, Locator] = {}
        self.received: set[str] = set()
        self.charges: Counter[str] = Counter()
        self.executions: Counter[str] = Counter()
        self._workers = 0

    def tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, AttemptPlaced):
                assert event.task_id not in self.received, "a task with a receipt was sent again"
            self.ledger.apply(event)
            self.journal.append(event)
            if isinstance(event, ReceiptTaken) and not event.late:
                assert event.task_id not in self.received, "two receipts were taken for one task"
                self.received.add(event.task_id)

    def submit(self, event: TaskSubmitted) -> None:
        self.tell([event])
        self.tell(rulings.on_submitted(self.ledger, self.ledger.tasks[event.task_id], self.now))

    def add_worker(self, worker_type: str, walltime_s: float | None) -> None:
        self._workers += 1
        offered = {offer.worker_type.name: offer.worker_type for offer in OFFERS}[worker_type]
        deadline = None if walltime_s is None else self.now + walltime_s
        said = hello(
            self._workers,
            slots=offered.slots,
            deadline=deadline,
            worker_type=worker_type,
            cpus=offered.cpus,
            memory=offered.memory,
            gpus=offered.gpus,
        )
        self.roster.hello(said, self.now)
        self.nodes[said.address] = Node(said.address, said.node)

    def tick(self) -> int:
        """One round of the keeper: place what is ready, look in the store first where that is due, send."""
        self.ledger.release_due(self.now)
        arrivals = {name: self.roster.arrivals(name) for name in ("cpu", "big")}
        allowance = Allowance(OFFERS, self.ledger.learned, arrivals)
        plan = place(self.ledger.ready, self.roster, self.ledger.learned, allowance, self.now, RULES)
        for refusal in plan.refusals:
            error_type, error = refusal.error_type, refusal.error
            self.tell(rulings.give_up(self.ledger, refusal.record, error_type, error, error, self.now))
        bundles: dict[int, list[AttemptId]] = {}
        for placement in plan.placements:
            record, worker = placement.record, placement.worker
            found = self.published.get(record.key)
            if record.ask_first and found is not None:
                self.tell(rulings.on_found(self.ledger, record, found, self.now))
                continue
            assert not worker.draining
            assert record.needs.worker_type in (None, worker.worker_type)
            if placement.need_s is not None:
                assert worker.time_left_s(self.now) - MARGIN_S >= placement.need_s
            number = record.attempts + 1
            placed = AttemptPlaced(self.now, record.task_id, number, worker.address, worker.allocation)
            self.tell([replace(placed, alone=placement.alone)])
            bundles.setdefault(placement.bundle, []).append(record.attempt)
            self.nodes[worker.address].running[record.attempt] = self.now
            if bundles[placement.bundle][0] == record.attempt:
                assert not worker.is_reserved
                assert not (placement.alone and worker.loads)
                several, alone = [record.attempt], placement.alone
                self.roster.assign(worker.address, str(record.attempt), several, record.needs, alone=alone)
            else:
                self.join(worker.address, str(bundles[placement.bundle][0]), record.attempt)
        return len(plan.placements)

    def join(self, address: str, key: str, attempt: AttemptId) -> None:
        """Count an attempt into the bundle that its first member opened."""
        worker = self.roster.get(address)
        attempts = {*worker.loads[key].attempts, attempt}
        needs = worker.loads[key].needs
        worker.drop(key)
        self.roster.assign(address, key, attempts, needs)

    def executing(self) -> list[tuple[Node, AttemptId]]:
        return [(node, attempt) for node in self.nodes.values() for attempt in node.running]

    def finish(self, node: Node, attempt: AttemptId, *, seconds: float = 1.0) -> None:
        """The attempt's result becomes durable, then its receipt is on its way."""
        node.running.pop(attempt)
        receipt = self.publish(attempt, node, seconds)
        self.mail.append(receipt)
        self.old_receipts.append(receipt)

    def publish(self, attempt: AttemptId, node: Node, seconds: float = 1.0) -> Receipt:
        key = self.ledger.tasks[attempt.task_id].key
        self.executions[key] += 1
        result = self.published.setdefault(key, Locator(STORE, key, f"digest of {key} by {attempt}", 1))
        return Receipt(attempt, result, self.now - seconds, self.now, 1, node.node, node.address, "a")

    def end(self, node: Node, attempt: AttemptId, ending: Ending, **facts: object) -> None:
        """The attempt ends without a receipt, and its worker tells."""
        began = node.running.pop(attempt)
        ran_s = None if ending in (Ending.NEVER_STARTED, Ending.REFUSED) else self.now - began
        told = {"worker": node.address, "node": node.node, "ran_s": ran_s, **facts}
        self.mail.append(Evidence(attempt, ending, self.now, **told))  # type: ignore[arg-type]

    def lose(
        self, node: Node, reason: str | None, *, expected: bool = False, receipts_lost: int = 0, worker_end: str = ""
    ) -> None:
        """A worker is gone, some of its attempts with published results whose receipts never left it."""
        del self.nodes[node.address]
        self.roster.remove(node.address)
        for number, (attempt, began) in enumerate(node.running.items()):
            if number < receipts_lost:
                self.publish(attempt, node)
            self.mail.append(
                Evidence(
                    attempt,
                    Ending.WORKER_LOST,
                    self.now,
                    worker=node.address,
                    node=node.node,
                    ran_s=self.now - began,
                    allocation_reason=reason,
                    expected=expected,
                    together=len(node.running),
                    worker_end=worker_end,
                )
            )

    def deliver(self, index: int) -> None:
        mail = self.mail.pop(index)
        if isinstance(mail, Receipt):
            self.roster.accounted(mail.attempt)
            self.tell(rulings.on_receipt(self.ledger, mail, self.now))
            return
        self.roster.accounted(mail.attempt)
        record = self.ledger.tasks[mail.attempt.task_id]
        is_current = record.state is TaskState.SENT and record.attempts == mail.attempt.number
        deaths, suspicions = record.deaths, record.suspicions
        self.tell(rulings.on_evidence(self.ledger, mail, self.now, self.rng))
        if is_current and not mail.expected:
            convicted = mail.ending is Ending.SLOT_DIED and mail.signal == 11 and deaths > 0
            taken_along = mail.ending is Ending.WORKER_LOST and (
                mail.allocation_reason in ("failed", "out_of_memory")
                or (mail.worker_end != "" and mail.allocation_reason in (None, "unknown", "completed"))
            )
            convicted |= taken_along and mail.together == 1 and deaths + suspicions > 0
            if mail.ending in (Ending.EXCEPTION, Ending.TIMEOUT) or convicted:
                self.charges[record.task_id] += 1

    def restart(self) -> None:
        """The driver is killed and its successor reads the journal; workers end, messages to it are lost."""
        self.check_replay()
        self.take_over(self.journal)

    def take_over(self, journal: list[Event]) -> None:
        """Begin as the driver that finds this journal."""
        self.journal = journal
        self.ledger = replay(journal)
        self.received = {e.task_id for e in journal if isinstance(e, ReceiptTaken) and not e.late}
        self.charges = Counter(e.task_id for e in journal if isinstance(e, AttemptFailed) and e.charged)
        self.roster = Roster()
        self.nodes.clear()
        self.mail.clear()
        for events in succession.on_new_driver(self.ledger, self.now, self.rng):
            self.tell(events)

    def check_replay(self) -> None:
        """What the journal tells is what the driver knows."""
        self.ledger.release_due(self.now)
        for again in (replay(self.journal), quickly(self.journal)):
            again.release_due(self.now)
            assert list(again.views().items()) == list(self.ledger.views().items())
            assert again.learned == self.ledger.learned
            assert again.ready.size == self.ledger.ready.size

    def check(self) -> None:
        """No task is lost: whatever is not over has somebody who will move it on."""
        on_the_way = {mail.attempt for mail in self.mail} | {attempt for _, attempt in self.executing()}
        counted: Counter[TaskState] = Counter()
        for record in self.ledger.tasks.values():
            counted[record.state] += 1
            ancestors = [self.ledger.tasks[task_id] for task_id, _ in record.ancestors]
            match record.state:
                case TaskState.SENT:
                    assert record.attempt in on_the_way
                case TaskState.READY:
                    assert record.lane is not None
                case TaskState.BACKOFF:
                    assert record.retry_at is not None
                case TaskState.WAITING:
                    assert any(not ancestor.is_over for ancestor in ancestors)
                case TaskState.ATTACHED:
                    assert not self.ledger.tasks[record.leader].is_over
                case TaskState.DONE:
                    assert record.result is not None
            assert record.charged == self.charges[record.task_id]
        for state in TaskState:
            assert self.ledger.count(state) == counted[state]
        for worker in self.roster:
            assert worker.assigned <= RULES.bound(worker.slots)
            if worker.assigned <= worker.slots:
                assert worker.cpus_used <= worker.cpus_offered
                assert worker.gpus_used <= worker.gpus
                assert worker.memory is None or worker.memory_used <= worker.memory

    def live_on(self) -> None:
        """Let the cluster be kind from now on: everything must come to an end."""
        for _ in range(200):
            while self.mail:
                self.deliver(0)
            if not self.ledger.unfinished:
                return
            for node in list(self.nodes.values()):
                for attempt in list(node.running):
                    self.finish(node, attempt)
            while self.mail:
                self.deliver(0)
            self.now += 120
            for worker_type in ("cpu", "big"):
                if not any(w.worker_type == worker_type and w.deadline is None and not w.draining for w in self.roster):
                    self.add_worker(worker_type, None)
            self.tick()
            self.check()
        raise AssertionError(f"{self.ledger.unfinished} tasks never came to an end")
