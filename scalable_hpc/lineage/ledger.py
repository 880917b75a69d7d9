"""The state of every task of a run, as the fold of the run's events.

Rule 1: pure. ``apply`` is the only way to change a ledger, live and in replay; only the passing of time
(``release_due``) is not an event, since it loses nothing to be told again.
Rule 2: an event that cannot follow on what is known is an error and changes nothing.
Rule 3: a task that is over stays as it is: first receipt wins, late ones are noted in the journal only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scalable_hpc.lineage.book import TaskBook, let_go_of_call
from scalable_hpc.lineage.hosts import HostBook
from scalable_hpc.lineage.learned import Learned
from scalable_hpc.lineage.lessons import (
    acquits,
    casts_suspicion,
    one_more,
    place_to_avoid,
    proven_run_time_s,
    was_handed_back,
)
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.model import events
from scalable_hpc.model.hits import HitCount
from scalable_hpc.model.tasks import Locator, Verdict

_AVOIDED = 3
"""Places that a task remembers to avoid: more would leave a small fleet nowhere to go."""


class Ledger(TaskBook):
    """Every task of a run, what is ready, and what was learned."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = Learned()
        self.hosts = HostBook()
        self.hits = HitCount()
        """Calls answered from the store."""
        self.opened: events.RunOpened | None = None
        self.closed: events.RunClosed | None = None
        self.quarantined: dict[tuple[str, str], str] = {}
        """Store and key of calls that were convicted under an earlier driver, and the tasks that they were."""
        self._convicted: dict[tuple[str, str], str] = {}
        """The same of this driver's."""
        self._folds: Mapping[type, Callable[[Any], None]] = {
            events.RunOpened: self._run_opened,
            events.RunClosed: self._run_closed,
            events.TaskSubmitted: self._submitted,
            events.TasksHit: self._hit,
            events.AttemptPlaced: self._placed,
            events.AttemptRejoined: self._rejoined,
            events.ReceiptTaken: self._receipt,
            events.AttemptFailed: self._attempt_failed,
            events.AttemptExplained: self._explained,
            events.AllocationChanged: self.hosts.allocation_changed,
            events.HostSuspected: self.hosts.suspected,
            events.HostsTrusted: self.hosts.trusted,
            events.ResultDropped: self._dropped,
            events.TaskRecalled: self._recalled,
            events.TaskGivenUp: self._given_up,
            events.TaskRevived: self._revived,
            events.TaskCancelled: self._cancelled,
        }

    def apply(self, event: events.Event) -> None:
        """Fold one event in; those that are not about tasks change nothing here.

        Raises:
            ValueError: it cannot follow on what is known.
        """
        fold = self._folds.get(type(event))
        if fold is not None:
            fold(event)

    def submit(self, event: events.TaskSubmitted, order: int) -> None:
        """Fold a submission in that came as the ``order``-th of all, though it is told later.

        Raises:
            ValueError: a task of that name was submitted before.
        """
        self._submitted(event, order)

    def turned_out_lost(self, event: events.ResultDropped, order: int) -> None:
        """Fold in that the result of a call is lost that was answered from a store, told as the ``order``-th of all.

        Raises:
            ValueError: the call is not told.
        """
        self._dropped(event, order)

    def enter_done(self, record: TaskRecord, ran_s: float | None, *, cold: bool, peak_memory: int, node: str) -> None:
        """Enter a task of which only its end is told: submitted, placed, done; nothing was waiting for it.

        Args:
            record: as these events leave it.
            ran_s: seconds that it ran; None: its result was found.
            cold: its slot ran the function for the first time.
            peak_memory: bytes that it held at most.
            node: where it ran.
        """
        record.name, record.store = self._share(record.name), self._share(record.store)
        self.tasks[record.task_id] = record
        self._counts[record.state] += 1
        self._ties.lead(record.store, record.key, record.task_id)
        if ran_s is not None:
            self.learned.completed(record.name, ran_s, cold=cold, peak_memory=peak_memory)
            if node:
                self.hosts.did_well(node)

    def _run_opened(self, event: events.RunOpened) -> None:
        self.opened, self.closed = event, None
        self.hits.begin_driver()
        self.quarantined.update(self._convicted)
        self._convicted.clear()

    def _run_closed(self, event: events.RunClosed) -> None:
        self.closed = event

    def _hit(self, event: events.TasksHit) -> None:
        self.hits.add(event)

    def _submitted(self, event: events.TaskSubmitted, order: int | None = None) -> None:
        if event.task_id in self.tasks:
            raise ValueError(f"task {event.task_id!r} was submitted before")
        record = self._enter(event, order)
        self._enrol(record)
        leader = self.leader(record.store, record.key)
        if leader is not None and not leader.is_over and (leader.refresh or not record.refresh):
            self._attach(record, leader)
            return
        record.may_be_known = leader is not None
        self._ties.lead(record.store, record.key, record.task_id)
        self._settle(record)

    def _placed(self, event: events.AttemptPlaced) -> None:
        record = self._known(event.task_id)
        if record.state not in (TaskState.READY, TaskState.BACKOFF) or event.attempt != record.attempts + 1:
            raise ValueError(f"attempt {event.attempt} of {event.task_id!r} cannot be placed: {record.state.value}")
        self._move(record, TaskState.SENT)
        record.attempts = event.attempt
        record.may_be_known = True
        record.first_placed_at = event.at if record.first_placed_at is None else record.first_placed_at
        record.worker = self._share(event.worker)
        record.allocation = self._share(event.allocation)
        record.memory = event.memory

    def _rejoined(self, event: events.AttemptRejoined) -> None:
        record = self._known(event.task_id)
        if not record.may_rejoin(event.attempt):
            raise ValueError(f"attempt {event.attempt} of {event.task_id!r} cannot rejoin: {record.state.value}")
        if record.state is not TaskState.SENT:
            self._move(record, TaskState.SENT)
        record.worker = self._share(event.worker)
        record.allocation = self._share(event.allocation)

    def _receipt(self, event: events.ReceiptTaken) -> None:
        self.hosts.delivered(event)
        record = self._known(event.task_id)
        if event.late or (record.is_over and record.held_by is None):
            return
        was_held, record.held_by = record.held_by is not None, event.held_by
        if not was_held:
            if not event.reused:
                took_s = event.ended_at - event.started_at
                self.learned.completed(record.name, took_s, cold=event.cold, peak_memory=event.peak_memory)
            self._end(record, TaskState.DONE)
        record.renews = False
        store, is_held = event.store or record.store, event.held_by is not None
        record.result = Locator(store, record.key, event.digest, event.size, held=is_held)
        if is_held:
            self.held[record.task_id] = None
            dependents = self._ties.dependents(record.task_id)
        else:
            self.held.pop(record.task_id, None)
            let_go_of_call(record)
            dependents = tuple(self._ties.pop_dependents(record.task_id))
        for dependent in (self.tasks[dependent_id] for dependent_id in dependents):
            dependent.pending -= not was_held
            if dependent.state in (TaskState.WAITING, TaskState.READY):
                self._settle(dependent)

    def _dropped(self, event: events.ResultDropped, order: int | None = None) -> None:
        """Take a result away that a worker held, or that is damaged; who needs it waits again."""
        if event.call is not None and event.task_id not in self.tasks:
            self._enter_as_done(event.call, order)  # it had been answered from a store
            self.hits.became_task(event.call.name)
        record = self._known(event.task_id)
        if event.call is not None and record.state is TaskState.DONE and record.held_by is None:
            self._regain_call(record, event.call)
        elif record.held_by is not None:
            del self.held[record.task_id]
        else:
            return
        record.held_by = record.result = None
        self._move(record, TaskState.LET_GO)
        for dependent in (self.tasks[found] for found in self.dependents(record.task_id)):
            dependent.pending += 1
            if dependent.state is TaskState.READY:
                self._settle(dependent)

    def _regain_call(self, record: TaskRecord, call: events.TaskSubmitted) -> None:
        """Remember what a task that is done was called with, and who needs its result; looks at every task."""
        record.renews = True
        self._tell_again(record, call)
        for other in self.tasks.values():
            if other.ancestors and not other.is_over and any(above == record.task_id for above, _ in other.ancestors):
                self._ties.depend(other.task_id, record.task_id)

    def _recalled(self, event: events.TaskRecalled) -> None:
        """Let a task be run again whose result was dropped."""
        record = self._known(event.task_id)
        if record.state is not TaskState.LET_GO:
            return
        record.recalls += 1
        self._begin_again(record)

    def _attempt_failed(self, event: events.AttemptFailed) -> None:
        record = self._known(event.task_id)
        if record.state is not TaskState.SENT or event.attempt != record.attempts:
            raise ValueError(f"attempt {event.attempt} of {event.task_id!r} cannot end: {record.state.value}")
        self._count_ending(record, event)
        self.hosts.attempt_failed(event)
        self._count_deaths(record, event)
        record.floor_memory = max(record.floor_memory, event.next_memory or 0)
        record.timeout_s = event.next_timeout_s or record.timeout_s
        if was_handed_back(event):
            record.checkpoints = record.handed_back = True
            mark = event.checkpoint or ""
            record.idle_legs = record.idle_legs + 1 if mark == record.checkpoint else 0
            record.checkpoint = mark
        ran_s, place = proven_run_time_s(event), place_to_avoid(event)
        if ran_s is not None:
            record.bound_s = max(record.bound_s, ran_s)
            self.learned.cut_off(record.name, ran_s)
        if place is not None:
            record.avoid = (*record.avoid, self._share(place))[-_AVOIDED:]
        if event.decision == "give_up":
            record.error = f"{event.error_type}: {event.error}" if event.error_type else event.because
            self._end(record, TaskState.FAILED)
        elif event.decision == "wait" and event.retry_at is not None:
            self._back_off(record, event.retry_at)
        else:
            self._settle(record)

    def _count_deaths(self, record: TaskRecord, event: events.AttemptFailed) -> None:
        is_killer = event.verdict == Verdict.KILLER.value
        if casts_suspicion(event):
            record.suspicions += 1
        elif is_killer:
            record.deaths += 1
        if acquits(event):
            record.suspicions = 0
        if is_killer and event.decision == "give_up":
            record.is_quarantined = True
            self._convicted[record.store, record.key] = record.task_id

    def _explained(self, event: events.AttemptExplained) -> None:
        """Make a suspect of a task, or stop suspecting it, wherever it waits; one that runs is not called back."""
        self.hosts.explained(event)
        record = self._known(event.task_id)
        if event.suspect is None or record.is_over:
            return
        self._suspect(record, +1 if event.suspect else -1)

    def _count_ending(self, record: TaskRecord, event: events.AttemptFailed) -> None:
        if not record.policy.limits or record.policy.limit_of(Verdict(event.verdict)) is None:
            record.charged += event.charged
            record.uncharged += not event.charged and event.verdict != Verdict.EXPECTED.value
        elif event.verdict != Verdict.EXPECTED.value or was_handed_back(event):
            record.limited = self._share(one_more(record.limited, event.verdict))

    def _given_up(self, event: events.TaskGivenUp) -> None:
        record = self._known(event.task_id)
        if not record.is_over or record.state is TaskState.LET_GO:
            self._end(record, TaskState.FAILED)
        if record.state is TaskState.FAILED:
            record.error = f"{event.error_type}: {event.error}"

    def _revived(self, event: events.TaskRevived) -> None:
        record = self._known(event.task_id)
        if record.state is not TaskState.FAILED and (record.state is not TaskState.CANCELLED or event.call is None):
            raise ValueError(f"{event.task_id!r} cannot be revived: {record.state.value}")
        if event.call is not None:
            self._tell_again(record, event.call)
        for known in (self.quarantined, self._convicted):
            known.pop((record.store, record.key), None)
        record.is_quarantined = False
        record.charged = record.uncharged = record.deaths = record.suspicions = 0
        record.limited, record.first_placed_at, record.error = (), None, ""
        self._begin_again(record)

    def _cancelled(self, event: events.TaskCancelled) -> None:
        record = self._known(event.task_id)
        if not record.is_over:
            self._end(record, TaskState.CANCELLED)
            self._promote_followers(record)
