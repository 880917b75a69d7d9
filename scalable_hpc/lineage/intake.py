"""What comes in, turned into events: commands from the session, messages from workers, endings from the fleet.

Rule 1: runs within a turn, on the loop; nothing blocks, and nothing is acted on here but the roster.
"""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scalable_hpc.cache.calls import CacheWarning
from scalable_hpc.lineage import rulings, succession
from scalable_hpc.lineage.admission import Admission
from scalable_hpc.lineage.custody import Custody
from scalable_hpc.lineage.explanations import Explanations
from scalable_hpc.lineage.inbox import (
    Cancellation,
    Command,
    Finding,
    Hits,
    Keeping,
    OnDone,
    Reading,
    Renewal,
    Submission,
    Surrender,
)
from scalable_hpc.lineage.inquiry import Departure, Inquiries
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Offer
from scalable_hpc.lineage.parcels import Parcels
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.reunion import Reunions
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.lineage.sizes import candidates, sizes_of
from scalable_hpc.lineage.turn import Told, Turn
from scalable_hpc.model.allocations import JobEnding
from scalable_hpc.model.events import AttemptFailed, CallKept, FleetNote, ResultsDiffer, TasksHit
from scalable_hpc.model.messages import (
    AttemptDone,
    AttemptEnded,
    HeldGone,
    Upward,
    WorkerDraining,
    WorkerGone,
    WorkerHello,
)
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Hit

_DAMAGED = "scalable_hpc.cache.verify.Damaged"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AllocationOver:
    """An allocation ended; said by the fleet."""

    name: str
    ending: JobEnding


@dataclass(frozen=True, slots=True)
class AllocationRequeued:
    """An allocation was interrupted, and its job will run again; said by the fleet."""

    name: str
    ending: JobEnding


@dataclass(frozen=True, slots=True)
class NodesLost:
    """An allocation goes on without some of its nodes; said by the fleet."""

    name: str
    ending: JobEnding
    """What became of these nodes; ``nodes`` names them."""


Message = Upward | AllocationOver | AllocationRequeued | NodesLost


class Intake:
    """Takes in commands and messages."""

    def __init__(
        self,
        ledger: Ledger,
        roster: Roster,
        payloads: PayloadPack,
        parcels: Parcels,
        rng: random.Random,
        inquiries: Inquiries,
        reunions: Reunions,
        offers: Sequence[Offer] = (),
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._parcels = parcels
        self._rng = rng
        self._inquiries = inquiries
        self._reunions = reunions
        self._kinds = tuple(offer.worker_type for offer in offers)
        self._explanations = Explanations()
        self._strayed: set[str] = set()
        """Names of tasks whose results were not what their keys say."""
        self.custody = Custody(ledger, payloads)
        self._admission = Admission(ledger, payloads, self.custody)

    def take_command(self, command: Command, turn: Turn) -> None:
        """Carry out what another thread wants."""
        match command:
            case Submission():
                self._admission.submit(command.spec, command.on_done, turn)
            case Cancellation():
                turn.tell(rulings.cancel(self._ledger, command.task_id, command.because, turn.now))
            case Hits():
                turn.tell([TasksHit(turn.now, command.name, command.count, command.keys)])
            case Reading():
                self.custody.read(command.task_id, command.on_done)
            case Renewal():
                self._parcels.remember(Hit(command.spec, command.above))
                self.custody.renew(command.spec, command.digest, turn)
                self.custody.read(command.spec.task_id, command.on_done)
            case Keeping():
                turn.tell([CallKept(turn.now, self.custody.call_of(command.spec, turn))])
            case Finding():
                self._admission.find(command.spec, command.result, turn)
            case Surrender():
                self._admission.give_everything_up(command.error, turn)

    def take_message(self, message: Message, turn: Turn) -> None:
        """Carry out what a worker, the scheduler's side or the fleet says."""
        match message:
            case WorkerHello():
                self._greet(message, turn)
            case WorkerDraining():
                self._roster.drain(message.address, message.because, message.deadline)
            case WorkerGone():
                self._lose(message.address, message.at, turn, message.because, expected=message.expected)
            case AttemptDone():
                self._receive(message, turn)
            case AttemptEnded():
                self.take_evidence(message.evidence, turn)
            case AllocationRequeued():
                turn.tell(self._explanations.explain(message.name, message.ending, turn.now))
                self._roster.welcome_again(message.name)
            case HeldGone():
                self.custody.gone(message, turn)
            case AllocationOver():
                self._end_allocation(message, turn)
            case NodesLost():
                self._lose_nodes(message, turn)

    def take_evidence(self, evidence: Evidence, turn: Turn) -> None:
        """Judge an attempt that ended without a receipt."""
        self._account(evidence.attempt, turn)
        events = rulings.on_evidence(self._ledger, evidence, turn.now, self._rng, self._sizes(evidence.attempt))
        raised = evidence.exception if evidence.ending is Ending.EXCEPTION else None
        turn.tell(events, Told(exception=raised))
        for event in events:
            if isinstance(event, AttemptFailed):
                turn.tell(self._explanations.await_word(event, turn.now))
        record = self._ledger.tasks.get(evidence.attempt.task_id)
        if evidence.ending is Ending.REFUSED and record is not None:
            self.custody.ask_for_ancestors(record, turn)  # it may be one of them that could not be read
            if evidence.exception is not None and evidence.exception.type_name == _DAMAGED:
                self._parcels.doubt(record)

    def unexplained(self) -> Collection[str]:
        """The allocations whose end would say why attempts were lost."""
        return self._explanations.awaited()

    @property
    def listeners(self) -> dict[str, OnDone]:
        """Who waits for which task."""
        return self._admission.listeners

    def pop_listeners(self) -> Iterator[tuple[str, OnDone]]:
        """Yield everybody who still waits, with the task they wait for, and forget them."""
        while self.listeners:
            yield self.listeners.popitem()
        yield from self.custody.pop_readers()

    def adopt(self, turn: Turn, awaited: Mapping[str, str], *, retry_quarantined: bool = False) -> None:
        """Take up what a driver that ended left open.

        Args:
            turn: the first one.
            awaited: allocations whose workers may come back with what they have in hand, and their worker types.
            retry_quarantined: also what that driver had quarantined.
        """
        if retry_quarantined:
            for event in succession.on_retry_quarantined(self._ledger, turn.now):
                turn.tell([event])
        self._reunions.expect(awaited, turn.now)
        for events in succession.on_new_driver(self._ledger, turn.now, self._rng, awaited):
            turn.tell(events)
        self.custody.lose(list(self._ledger.held), "the driver that knew where its result is held ended", turn)
        self.custody.recall_for_all(turn)

    def give_up_late(self, turn: Turn) -> None:
        """Part with workers of an earlier driver that did not come back in time."""
        for address in self._reunions.overdue(turn.now):
            self._lose(address, turn.now, turn, "its worker did not come back to this driver", expected=True)

    def _sizes(self, attempt: AttemptId) -> tuple[int, ...]:
        """Return the memory of the workers that could run a task, smallest first."""
        record = self._ledger.tasks.get(attempt.task_id)
        return () if record is None else sizes_of(candidates(self._kinds, record.needs))

    def _receive(self, message: AttemptDone, turn: Turn) -> None:
        receipt = message.receipt
        record = self._ledger.tasks.get(receipt.attempt.task_id)
        if message.repeated and record is not None and record.is_over:
            self._account(receipt.attempt, turn)
            return
        if record is not None and not receipt.reused:
            self._roster.delivered(receipt.attempt, record.name)
        self._account(receipt.attempt, turn)
        self._parcels.keep_inline(receipt.result)
        if receipt.stray and record is not None:
            self._tell_of_stray(record.name, receipt.stray, turn)
        events = rulings.on_receipt(self._ledger, receipt, turn.now)
        turn.tell(events, Told(result=receipt.result))
        self._reunions.ended(receipt.attempt.task_id, turn)
        self.custody.received(receipt, is_known=self._roster.get(receipt.worker) is not None, turn=turn)
        for event in events:
            if isinstance(event, ResultsDiffer):
                logger.warning("%s (%s, then %s on %s)", event.because, event.first, event.second, event.second_node)

    def _tell_of_stray(self, name: str, because: str, turn: Turn) -> None:
        """Say once for each name that results are not kept."""
        if name not in self._strayed:
            self._strayed.add(name)
            words = f"{name}: its results serve this run only and are not kept in the cache: {because}"
            turn.tell([FleetNote(turn.now, "uncached", words)])
            with contextlib.suppress(CacheWarning):  # where warnings are errors, this thread is not to end of one
                warnings.warn(words, CacheWarning, stacklevel=1)

    def _greet(self, hello: WorkerHello, turn: Turn) -> None:
        known = self._roster.get(hello.address)
        if known is not None and not known.is_same(hello):
            self._lose(hello.address, turn.now, turn, "another worker has its address now", expected=False)
        is_new = known is None or not known.is_same(hello)
        self._roster.hello(hello, turn.now)
        if is_new:
            self._reunions.welcome(hello, turn)

    def _account(self, attempt: AttemptId, turn: Turn) -> None:
        """Count an attempt out of its worker, and let its bundle go when it was the last one in it."""
        finished = self._roster.accounted(attempt)
        if finished is not None:
            turn.releases.append(finished)

    def _lose(
        self, address: str, at: float, turn: Turn, because: str, *, expected: bool, ending: JobEnding | None = None
    ) -> None:
        worker = self._roster.remove(address)
        if worker is not None:
            turn.releases.extend(worker.loads)
            self.custody.lose_worker(address, because, turn)
            self._inquiries.begin(Departure(worker, at, expected, because, ending))

    def _end_allocation(self, over: AllocationOver, turn: Turn) -> None:
        """Workers of an allocation that ended are gone, whether or not their connections have noticed."""
        self._inquiries.allocation_ended(over.name, over.ending)
        turn.tell(self._explanations.over(over.name, over.ending, turn.now))
        at = turn.now if over.ending.ended_at is None else min(turn.now, over.ending.ended_at)
        for worker in self._roster.of_allocation(over.name):
            self._lose(worker.address, at, turn, "its allocation ended", expected=False, ending=over.ending)

    def _lose_nodes(self, lost: NodesLost, turn: Turn) -> None:
        """Workers with one of these nodes are of no use, whether or not they have noticed; the others go on."""
        turn.tell(self._explanations.explain(lost.name, lost.ending, turn.now, nodes=lost.ending.nodes))
        for worker, host in self._roster.on_nodes(lost.name, lost.ending.nodes):
            if host != worker.node:  # what it has in hand is of no use without that one
                turn.dismissals[worker.address] = f"{host}, a node of its tasks, was lost"
                worker.node = host
            self._lose(worker.address, turn.now, turn, "its node was lost", expected=False, ending=lost.ending)
