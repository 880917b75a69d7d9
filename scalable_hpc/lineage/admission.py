"""Calls that come in: made tasks, taken up as tasks of an earlier driver, or turned away.

Rule 1: runs within a turn, on the loop.
"""

from __future__ import annotations

from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage import holdings, rulings, succession
from scalable_hpc.lineage.custody import Custody
from scalable_hpc.lineage.inbox import OnDone
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.outcome import Outcome, same_error
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.record import OVER, TaskRecord, TaskState
from scalable_hpc.lineage.submissions import submission_of
from scalable_hpc.lineage.turn import Told, Turn
from scalable_hpc.model.events import TaskGivenUp, TaskRevived
from scalable_hpc.model.tasks import Locator, TaskSpec


class Admission:
    """Lets calls in, and knows who waits for them."""

    def __init__(self, ledger: Ledger, payloads: PayloadPack, custody: Custody) -> None:
        self._ledger = ledger
        self._payloads = payloads
        self._custody = custody
        self._surrender: ScalableError | None = None
        self.listeners: dict[str, OnDone] = {}
        """Who waits for which task."""

    def submit(self, spec: TaskSpec, on_done: OnDone, turn: Turn) -> None:
        """Have a call run, or take up the task that it was under an earlier driver."""
        record = self._ledger.tasks.get(spec.task_id)
        if spec.task_id in self.listeners or (record is not None and not spec.is_resumed):
            error = ValueError(f"a task of that name was submitted before: {spec.task_id!r}")
            turn.answer(on_done, Outcome(spec.task_id, error=error))
            return
        if record is not None and record.state in (TaskState.DONE, TaskState.LET_GO):
            self._answer(record, spec, on_done, turn)
            return
        self.listeners[spec.task_id] = on_done
        call = submission_of(spec, self._payloads, turn.now)
        turn.tell([call] if record is None else succession.on_submitted_again(self._ledger, call, turn.now))
        record = self._ledger.tasks[spec.task_id]
        turn.tell(rulings.on_submitted(self._ledger, record, turn.now))
        turn.tell(holdings.recall_for(self._ledger, record, turn.now))
        if not spec.persist:
            self._custody.begin(spec.task_id)
        if self._surrender is not None and not record.is_over:
            self._give_up(spec.task_id, self._surrender, turn)

    def find(self, spec: TaskSpec, found: Locator, turn: Turn) -> None:
        """Hear that a call was answered from a store which is a task of an earlier driver that has no result yet."""
        record = self._ledger.tasks[spec.task_id]
        if record.state in (TaskState.FAILED, TaskState.CANCELLED):
            call = submission_of(spec, self._payloads, turn.now)
            turn.tell([TaskRevived(turn.now, spec.task_id, "its call was submitted again, and has a result", call)])
        if not record.is_over:
            turn.tell(rulings.on_found(self._ledger, record, found, turn.now), Told(result=found))

    def _answer(self, record: TaskRecord, spec: TaskSpec, on_done: OnDone, turn: Turn) -> None:
        """Tell a call that was submitted again what its task has; what was held is made again if somebody wants it."""
        if not spec.persist:
            self._custody.begin(spec.task_id)
        result = record.result or Locator(record.store, record.key, "", 0, held=True)
        turn.answer(on_done, Outcome(spec.task_id, result=result, attempts=record.attempts))

    def give_everything_up(self, error: ScalableError, turn: Turn) -> None:
        """Fail every task that is not over: nothing can be run any more, now or later."""
        self._surrender = error
        for record in list(self._ledger.in_state(*(state for state in TaskState if state not in OVER))):
            self._give_up(record.task_id, error, turn)

    def _give_up(self, task_id: str, error: ScalableError, turn: Turn) -> None:
        error_type, text = same_error(error)
        turn.tell([TaskGivenUp(turn.now, task_id, error_type, text, "nothing can be run any more")], Told(error=error))
