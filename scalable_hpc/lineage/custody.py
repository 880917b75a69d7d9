"""Who wants results that only workers hold, and what workers are asked to do with them.

Rule 1: live only, and on the loop: what must outlive the driver is told as events.
Rule 2: a held result is let go when its future is gone and no task that is not over needs it; not before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from scalable_hpc.lineage import holdings, rulings
from scalable_hpc.lineage.causes import as_told
from scalable_hpc.lineage.inbox import OnDone
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.lineage.submissions import submission_of
from scalable_hpc.lineage.turn import Turn
from scalable_hpc.model.events import TaskSubmitted
from scalable_hpc.model.messages import HeldGone
from scalable_hpc.model.tasks import Receipt, TaskSpec

DAMAGED = "its stored result is damaged or gone, wherever it lay"
ASK_AGAIN_S = 30.0
"""A worker that was asked to store a result and says nothing is asked again: the request may have been lost."""


class Custody:
    """Looks after the results that workers hold."""

    def __init__(self, ledger: Ledger, payloads: PayloadPack) -> None:
        self._ledger = ledger
        self._payloads = payloads
        self._futures: set[str] = set()
        """Tasks of such results whose futures are alive."""
        self._readers: dict[str, list[OnDone]] = {}
        """Who waits for a value to be stored, so that it can be read."""
        self._asked: dict[str, tuple[str, float]] = {}
        """Which worker was asked to store a result, and when."""
        self._forgotten: deque[str] = deque()

    def begin(self, task_id: str) -> None:
        """Note that a future waits for a result that will be held."""
        self._futures.add(task_id)

    def forget(self, task_id: str) -> None:
        """Note that a future is gone; from any thread, also from within the garbage collector."""
        self._forgotten.append(task_id)

    def is_wanted(self, task_id: str) -> bool:
        """Whether somebody waits for its value now."""
        return task_id in self._readers

    def read(self, task_id: str, on_done: OnDone) -> None:
        """Have a result stored, computed again if need be, and tell where it lies."""
        self._readers.setdefault(task_id, []).append(on_done)

    def pop_readers(self) -> Iterator[tuple[str, OnDone]]:
        """Yield everybody who still waits for a value, with its task, and forget them."""
        while self._readers:
            task_id, several = self._readers.popitem()
            yield from ((task_id, on_done) for on_done in several)

    def lose_worker(self, address: str, because: str, turn: Turn) -> None:
        """Take away what a worker held, and have run again what is needed of it."""
        lost = holdings.held_by(self._ledger, address)
        self.lose(lost, f"the worker that held its result is gone: {because}", turn)

    def lose(self, lost: list[str], because: str, turn: Turn) -> None:
        """Take results away, and have run again what is needed of them."""
        if lost:
            for task_id in lost:
                self._asked.pop(task_id, None)
            turn.tell(holdings.drop(self._ledger, lost, because, turn.now))
            needed = holdings.needed(self._ledger, lost, self.is_wanted)
            turn.tell(holdings.recall(self._ledger, list(needed), because, turn.now))

    def spoil(self, wanted_by: TaskRecord, call: TaskSubmitted, turn: Turn) -> None:
        """Have a stored result made again that a task needs, and that is damaged or gone wherever it lay.

        Another result of a call that is not pure would not be the first: then the task fails.
        """
        task_id = call.task_id
        if not call.pure:
            error = (
                f"{wanted_by.task_id!r} was not run: the result of {task_id!r} is damaged or gone, and another one"
                " would not be the first (pure=False): submit that call again"
            )
            turn.tell(rulings.give_up(self._ledger, wanted_by, "AncestorFailed", error, error, turn.now))
            return
        turn.tell(holdings.spoil(self._ledger, call, DAMAGED, turn.now))
        turn.tell(holdings.recall_for(self._ledger, wanted_by, turn.now))

    def call_of(self, spec: TaskSpec, turn: Turn) -> TaskSubmitted:
        """Return a call as it is told again; one that was answered from a store replaces nothing that is sound."""
        return submission_of(replace(spec, refresh=False), self._payloads, turn.now)

    def renew(self, spec: TaskSpec, digest: str, turn: Turn) -> None:
        """Hear from somebody who has read a stored result that it is damaged; another one may be there by now.

        It may be that of a call that was answered from a store, and never submitted.
        """
        record = self._ledger.tasks.get(spec.task_id)
        if record is None or (record.result is not None and record.result.digest == digest):
            turn.tell(holdings.spoil(self._ledger, self.call_of(spec, turn), DAMAGED, turn.now))

    def recall_for_all(self, turn: Turn) -> None:
        """Have run again what open tasks need that an earlier driver had let go, or lost."""
        left = holdings.let_go(self._ledger)
        needed = list(holdings.needed(self._ledger, left, self.is_wanted)) if left else []
        turn.tell(holdings.recall(self._ledger, needed, "a task that is not over needs its result", turn.now))

    def gone(self, message: HeldGone, turn: Turn) -> None:
        """Hear that a worker does not have results that it was asked for."""
        tasks = self._ledger.tasks
        lost = [task for task in holdings.held_by(self._ledger, message.address) if tasks[task].key in message.keys]
        self.lose(lost, f"its result cannot be had any more: {message.because}", turn)

    def received(self, receipt: Receipt, *, is_known: bool, turn: Turn) -> None:
        """See to a result that a worker holds: nobody may have it if that worker is gone, or if it came too late."""
        record = self._ledger.tasks.get(receipt.attempt.task_id)
        if not receipt.result.held or record is None:
            self._asked.pop(receipt.attempt.task_id, None)
            return
        if record.held_by != receipt.worker:
            turn.frees.setdefault(receipt.worker, []).append(receipt.result.key)
        elif not is_known:
            self.lose([record.task_id], "the worker that held its result is gone", turn)

    def ask_for_ancestors(self, record: TaskRecord, turn: Turn) -> None:
        """Have stored what a task needs and others hold, so that it can run anywhere."""
        for task_id, _ in record.ancestors:
            if task_id in self._ledger.held:
                self._ask(task_id, turn)

    def look_after(self, turn: Turn) -> bool:
        """Answer who waits for values, and let go of what nobody needs; at the end of a turn's decisions.

        Return whether tasks are to be run again for it.
        """
        has_recalled = False
        for task_id in list(self._readers):
            has_recalled |= self._ledger.tasks[task_id].state is TaskState.LET_GO
            self._answer(task_id, turn)
        loosened = dict.fromkeys((*turn.loosened, *self._take_forgotten()))
        unneeded = [task_id for task_id in loosened if task_id in self._ledger.held and not self._is_needed(task_id)]
        for task_id in unneeded:
            record = self._ledger.tasks[task_id]
            turn.frees.setdefault(record.held_by or "", []).append(record.key)
        turn.tell(holdings.drop(self._ledger, unneeded, "nobody needs its result any more", turn.now))
        return has_recalled

    def _take_forgotten(self) -> Iterable[str]:
        while self._forgotten:
            task_id = self._forgotten.popleft()
            self._futures.discard(task_id)
            yield task_id

    def _is_needed(self, task_id: str) -> bool:
        return task_id in self._futures or self.is_wanted(task_id) or bool(self._ledger.dependents(task_id))

    def _answer(self, task_id: str, turn: Turn) -> None:
        record = self._ledger.tasks[task_id]
        if record.state is TaskState.LET_GO:
            turn.tell(holdings.recall(self._ledger, [task_id], "its value is asked for", turn.now))
        elif record.held_by is not None:
            self._ask(task_id, turn)
        elif record.is_over:
            outcome = Outcome(task_id, result=record.result)
            if record.state is not TaskState.DONE:
                outcome = Outcome(task_id, exception=as_told(record.error), cancelled=not record.error)
            for on_done in self._readers.pop(task_id):
                turn.answer(on_done, outcome)

    def _ask(self, task_id: str, turn: Turn) -> None:
        record = self._ledger.tasks[task_id]
        holder, asked_at = self._asked.get(task_id, ("", 0.0))
        if record.held_by is not None and (holder != record.held_by or turn.now - asked_at > ASK_AGAIN_S):
            self._asked[task_id] = record.held_by, turn.now
            turn.persists.setdefault(record.held_by, []).append(record.key)
