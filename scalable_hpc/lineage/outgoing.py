"""What goes out: tasks placed, their results looked for first where they may exist, and bundles sent.

Rule 1: ``choose`` runs within a turn, before its events are on disk; ``send`` after.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from scalable_hpc.errors import JournalError
from scalable_hpc.faults.evidence import facts_of
from scalable_hpc.lineage import rulings
from scalable_hpc.lineage.custody import Custody
from scalable_hpc.lineage.lanes import LaneKey
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import NOBODY, Allowance, Offer
from scalable_hpc.lineage.parcels import Contents, Found, Parcels, Wanted
from scalable_hpc.lineage.ports import Transport
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.lineage.turn import Told, Turn
from scalable_hpc.lineage.window import Placement, WindowRules, place
from scalable_hpc.model.events import AttemptPlaced, TaskSubmitted
from scalable_hpc.model.messages import Bundle
from scalable_hpc.model.tasks import PUT, Ending, Evidence, Hit

logger = logging.getLogger(__name__)


class Outgoing:
    """Chooses what is sent where, and sends it."""

    def __init__(
        self,
        ledger: Ledger,
        roster: Roster,
        parcels: Parcels,
        custody: Custody,
        transport: Transport,
        offers: Sequence[Offer],
        rules: WindowRules,
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._parcels = parcels
        self._custody = custody
        self._transport = transport
        self._offers = offers
        self._rules = rules
        self.stand_ins: Mapping[str, tuple[str, ...]] = NOBODY
        """Worker types that cannot be had now, and those that may do their work."""
        self.unplaced: Mapping[LaneKey, str] = {}
        """Why the first task of each lane still waits, as of the last turn."""

    def allowance(self) -> Allowance:
        """Return what each task must be given, as far as is known now."""
        lasting = {offer.worker_type.name: offer.walltime_s for offer in self._offers}
        arrivals = {name: self._roster.arrivals(name, walltime_s) for name, walltime_s in lasting.items()}
        return Allowance(self._offers, self._ledger.learned, arrivals, self.stand_ins)

    async def choose(self, turn: Turn, executor: Executor) -> bool:
        """Place what is ready, note the placements in the turn, and return whether another round may place more."""
        ledger = self._ledger
        plan = place(ledger.ready, self._roster, ledger.learned, self.allowance(), turn.now, self._rules)
        self.unplaced = plan.unplaced
        for refusal in plan.refusals:
            error_type, error = refusal.error_type, refusal.error
            turn.tell(rulings.give_up(ledger, refusal.record, error_type, error, error, turn.now))
        for record in plan.stranded:
            self._custody.ask_for_ancestors(record, turn)
        placements = await self._look_first(plan.placements, turn, executor)
        for placement in placements:
            self._note(placement, turn)
        for _, several in itertools.groupby(placements, key=lambda placement: placement.bundle):
            self._assign(list(several))
        turn.placements = placements
        return len(placements) < len(plan.placements)  # results were found: their dependents may be ready now

    def send(self, turn: Turn, contents: Sequence[Contents | JournalError]) -> list[Evidence]:
        """Send the turn's placements; return evidence for those whose payload cannot be read."""
        unreadable = []
        bundles: dict[str, list[Bundle]] = {}
        paired = zip(turn.placements, contents, strict=True)
        for _, group in itertools.groupby(paired, key=lambda pair: pair[0].bundle):
            several = list(group)
            first = several[0][0]
            members = []
            for placement, found in several:
                if isinstance(found, Contents):
                    members.append((placement, found))
                else:
                    unreadable.append(_unreadable(placement, found, turn.now))
            if members:
                bundle = self._parcels.pack(self._parcels.key_of(first.record.attempt), members)
                bundles.setdefault(first.worker.address, []).append(bundle)
        for address, carried in bundles.items():
            self._transport.send(address, carried)
        return unreadable

    def _note(self, placement: Placement, turn: Turn) -> None:
        record, worker = placement.record, placement.worker
        event = AttemptPlaced(
            turn.now,
            record.task_id,
            record.attempts + 1,
            worker.address,
            worker.allocation,
            _rounded(placement.time_left_s),
            _rounded(placement.need_s),
            placement.alone,
            placement.memory,
        )
        turn.tell([event])

    def _assign(self, together: Sequence[Placement]) -> None:
        first = together[0]
        attempts = [placement.record.attempt for placement in together]
        key = self._parcels.key_of(attempts[0])
        self._roster.assign(first.worker.address, key, attempts, first.needs, alone=first.alone)

    async def _look_first(self, placements: list[Placement], turn: Turn, executor: Executor) -> list[Placement]:
        """Ask the stores for results that may be there already, and for those of ancestors that never came here."""
        wanted: list[Wanted] = []
        for placement in placements:
            record = placement.record
            wanted += [(record, record.key)] if record.ask_first else []
            wanted += [(record, key) for key in self._parcels.missing(record)]
        if not wanted:
            return placements
        found = await asyncio.get_running_loop().run_in_executor(executor, self._parcels.find_all, wanted)
        for (record, key), result in zip(wanted, found, strict=True):
            if not record.is_over:
                self._take_found(record, key, result, turn)
        return [placement for placement in placements if placement.record.state is TaskState.READY]

    def _take_found(self, record: TaskRecord, key: str, result: Found, turn: Turn) -> None:
        if isinstance(result, TaskSubmitted):
            self._custody.spoil(record, result, turn)
        elif isinstance(result, Hit):
            self._parcels.remember(result)
            self._custody.spoil(record, self._custody.call_of(result.spec, turn), turn)
        elif key == record.key:
            if result is not None:
                turn.tell(rulings.on_found(self._ledger, record, result, turn.now), Told(result=result))
        elif result is not None:
            self._parcels.found_external(key, result)
        elif record.state is TaskState.READY:  # else what it needs is made again already
            lost = next(task_id for task_id, ancestor_key in record.ancestors if ancestor_key == key)
            error = f"{record.task_id!r} was not run: {_lost(lost)}"
            turn.tell(rulings.give_up(self._ledger, record, "AncestorFailed", error, error, turn.now))


def _lost(task_id: str) -> str:
    if task_id.startswith(PUT):
        return f"what was put as {task_id!r} is damaged or gone, and its value is not at hand any more: put it again"
    return f"the result of {task_id!r} is damaged or gone, or in no store"


def _unreadable(placement: Placement, error: JournalError, now: float) -> Evidence:
    record = placement.record
    return Evidence(record.attempt, Ending.REFUSED, now, exception=facts_of(error), log_tail=error.message)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
