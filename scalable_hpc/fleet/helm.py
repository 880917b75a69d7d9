"""Where the fleet's news come in and its orders go out: folds, plans, acts, journals; never waits.

Rule 1: every change of an allocation's state passes ``_changed``, is journalled there with the batch system's own
    words, and has its fixed consequences there.
Rule 2: nothing here is ``async``: whatever takes time is a deed of ``actions``.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping
from functools import partial

from scalable_hpc.errors import BatchSilent, SubmissionDeferred, SubmissionError
from scalable_hpc.fleet import view
from scalable_hpc.fleet.actions import Actions
from scalable_hpc.fleet.arrays import Arrays
from scalable_hpc.fleet.budget import Balance
from scalable_hpc.fleet.fallback import probing
from scalable_hpc.fleet.held_back import HeldBack
from scalable_hpc.fleet.known import Known, Word
from scalable_hpc.fleet.plan import plan
from scalable_hpc.fleet.ports import Allocator, Batch, Clock, Run
from scalable_hpc.fleet.purse import Purse
from scalable_hpc.fleet.reception import Reception
from scalable_hpc.fleet.relief import Relief
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.fleet.standing import Change
from scalable_hpc.fleet.told import as_event
from scalable_hpc.fleet.trouble import Trouble
from scalable_hpc.fleet.watch import Answer
from scalable_hpc.model.allocations import AllocationRequest, AllocationState, ExitReason, JobEnding, JobObservation
from scalable_hpc.model.events import FleetNote, HostsTrusted
from scalable_hpc.model.fleet import Cancel, Demand, Drain, Limits, Pause, Retire, Submit
from scalable_hpc.model.messages import WorkerDraining, WorkerGone, WorkerHello

logger = logging.getLogger(__name__)

WORD_PATIENCE_S = 30.0
"""How long a lost allocation is left alone for the batch system to say why, when nothing else keeps it: to cancel it
would overwrite the reason. Slurm pings a node that went silent within seconds, but may take minutes to give it up."""


class Helm:
    """Holds the roster, takes news of it, and gives the orders that the plan asks for."""

    def __init__(
        self,
        run: Run,
        limits: Mapping[str, Limits],
        allocator: Allocator,
        batch: Batch,
        clock: Clock,
        rng: random.Random,
        on_news: Callable[[], None],
    ) -> None:
        self._run = run
        self._limits = limits
        self._clock = clock
        self._on_news = on_news
        self._closing_because: str | None = None
        self._is_patient = True
        self._is_winding_down = False
        self.held_back = HeldBack()
        self._requests: dict[str, AllocationRequest] = {}
        self._arrays = Arrays()
        self.roster = Roster(run.run_id, run.first_number, run.spent_node_s)
        self._purse = Purse(self.roster, limits, self.note)
        self.actions = Actions(allocator, batch, clock, self)
        self._trouble = Trouble(run, self.roster, clock, rng, limits)
        self._relief = Relief(run, self.roster, limits, clock)
        self._reception = Reception(run, self.roster, limits, clock, self._changed)
        self._reception.inherit()

    def note(self, kind: str, because: str) -> None:
        """Journal something that is not about one allocation's state."""
        self._run.record(FleetNote(self._clock.now(), kind, because))

    def decide(self, *, is_silent: bool) -> None:
        """Plan every worker type and act on it; while the batch system is silent nothing is opened."""
        if not is_silent:
            closing = [known for known in self.roster.open() if known.view.state is AllocationState.CLOSING]
            self.actions.repeat_closes(closing, self._clock.now())
        if self._closing_because is not None:
            self._close_all(self._closing_because)
            return
        if not is_silent:
            self._relief.look()
        wanted = {each.worker_type: each for each in self._run.demand()}
        busy = self._run.busy()
        self._relief.give_up(wanted)
        for worker_type in sorted({*self._limits, *wanted, *self.roster.worker_types()}):
            self._decide_on(worker_type, wanted.get(worker_type), busy, is_silent=is_silent)
        self._heed_budget(wanted)

    def balance(self) -> Balance | None:
        """Return how much of the run's budget is used and bound; None: it has none."""
        whole = self._run.budget_node_s
        return None if whole is None else self.roster.balance(whole, self._clock.now())

    def wind_down(self) -> None:
        """From now on open nothing; what runs may finish."""
        self._is_winding_down = True

    def close(self, because: str, *, patient: bool) -> None:
        """From now on open nothing and give everything back; a patient close first hears why allocations were lost."""
        self._closing_because, self._is_patient = because, patient
        owed = [known.view.name for known in self.roster.open() if self._is_owed_a_word(known)]
        if owed:
            names = ", ".join(owed)
            words = f"waits {WORD_PATIENCE_S:.0f} s at most for the batch system to say what became of {names}"
            logger.warning("The session ends, and %s", words)
            self.note("waits", words)
        self.actions.stop_opening()

    def opened(self, name: str, job_id: str) -> None:
        """Hear that the batch system took an allocation (from ``actions``)."""
        self._trouble.submission_taken()
        self._arrays.taken(self.roster[name].view.worker_type)
        self._tell(name, partial(view.submitted, job_id=job_id, now=self._clock.now()))

    def not_opened(self, name: str, error: BaseException) -> None:
        """Hear that the batch system did not take an allocation, or did not say (from ``actions``)."""
        now = self._clock.now()
        if isinstance(error, BatchSilent):
            self.note("silent", f"no answer to the submission of {name}, looks for its job: {error.message}")
            self._tell(name, partial(view.answer_lost, now=now))
            return
        request = self._requests[name]
        if isinstance(error, SubmissionDeferred):
            self._arrays.put_off(request)
        if isinstance(error, SubmissionError) and (hosts := request.excluded_nodes):
            # Perhaps there is no other node to be had: once more with all of them, before it is taken for a refusal.
            self._run.record(HostsTrusted(now, hosts, f"{name} was refused while they were excluded: {error.message}"))
            error = SubmissionDeferred(f"refused without {', '.join(hosts)}: {error.message}")
        ending = JobEnding(ExitReason.LAUNCH_FAILED, f"not submitted: {error}", ended_at=now)
        self._tell(name, partial(view.not_submitted, ending=ending, now=now))
        is_told_before = request.array and name != request.array[0]  # one refusal, told once for each of an array
        if self._closing_because is None and not is_told_before:
            self._trouble.submission_failed(self.roster[name].view, error)

    def hear_worker(self, message: WorkerHello | WorkerDraining | WorkerGone) -> None:
        """Fold in that a worker came, asks to be drained, or left."""
        now = self._clock.now()
        if isinstance(message, WorkerHello):
            words = self._reception.welcome(message)
            if words:
                self.note("stray", words)
                self.actions.cancel_stray(message.allocation, message.job_id, words)
        elif isinstance(message, WorkerDraining):
            self._changed(self.roster.worker_drains(message, now))
        else:
            self._changed(self.roster.worker_left(message.address, now))

    def hear_batch(self, answer: Answer) -> None:
        """Fold in what the batch system says of every job."""
        now = self._clock.now()
        if answer.found is not None:
            self._reception.look_for_lost(answer)
        for known in self.roster.open():
            seen = answer.by_id.get(known.view.job_id or "")
            if seen is not None:
                self._changed(self.roster.observe(seen, known.view.name, now))
                self._check_that_it_can_run(self.roster[known.view.name], seen)

    def _heed_budget(self, wanted: Mapping[str, Demand]) -> None:
        balance = self.balance()
        spent = None if balance is None or self._is_winding_down else self._purse.heed(balance, wanted)
        if spent is not None:
            self._run.on_failure(spent)

    def _decide_on(self, worker_type: str, wanted: Demand | None, busy: Mapping[str, int], *, is_silent: bool) -> None:
        """Plan one worker type and act on the plan; types are apart so that one that fails pauses no other."""
        wanted = probing(wanted, worker_type)
        if wanted is None or wanted.waiting + wanted.assigned == 0:
            self._trouble.forgive(worker_type)
        now = self._clock.now()
        paused = math.inf if is_silent else self._trouble.paused_until()
        balance = self.balance()
        left = None if balance is None else balance.left_node_s
        seen = self.roster.draw_view(
            worker_type,
            busy=busy,
            now=now,
            closing=self._is_winding_down,
            paused_until=paused,
            node_s_left=left,
            most_jobs=self._run.most_jobs,
            calls=0 if wanted is None else wanted.calls,
        )
        limits = {worker_type: self._limits[worker_type]} if worker_type in self._limits else {}
        self.held_back.note(worker_type, seen, wanted, limits.get(worker_type), now)
        actions = plan(seen, [wanted] if wanted is not None else [], limits, now)
        for action in actions:
            if not isinstance(action, Submit):
                self._act(worker_type, action)
        asked = [self._enrol(action, limits[worker_type]) for action in actions if isinstance(action, Submit)]
        for together in self._arrays.bundle(asked, limits[worker_type].array) if asked else ():
            self._requests.update((request.name, request) for request in together)
            self.actions.open(*together)

    def _enrol(self, action: Submit, limits: Limits) -> AllocationRequest:
        request = self.roster.enrol(action, limits, self._clock.now(), self._run.excluded_nodes())
        self._changed(Change(None, self.roster[request.name]))
        return request

    def _act(self, worker_type: str, action: Drain | Retire | Cancel | Pause) -> None:
        now = self._clock.now()
        if isinstance(action, Drain):
            self._tell(action.name, partial(view.drain_decided, because=action.because, now=now))
            self.actions.drain(action.name, action.because)
        elif isinstance(action, Pause):
            self._trouble.pause(worker_type, action.until, action.because)
        elif not self.actions.is_draining(action.name) and not self._is_owed_a_word(self.roster[action.name]):
            # While a drain has not taken effect an attempt may still be placed there: the next plan looks again.
            self._close(action.name, action.because)

    def _close_all(self, because: str) -> None:
        for known in self.roster.open():
            exists = known.view.job_id is not None or bool(known.workers)
            if exists and not known.close_because and not self._is_owed_a_word(known):
                self._close(known.view.name, because)

    def _is_owed_a_word(self, known: Known) -> bool:
        """Whether attempts were lost with its worker a moment ago, and the batch system has not said why."""
        alone_since, name = known.view.alone_since, known.view.name
        is_recent = alone_since is not None and self._clock.now() - alone_since < WORD_PATIENCE_S
        return self._is_patient and is_recent and name in self._run.unexplained()

    def _close(self, name: str, because: str) -> None:
        self._tell(name, partial(view.close_decided, because=because, now=self._clock.now()))
        self.actions.close(self.roster[name], because)

    def _check_that_it_can_run(self, known: Known, seen: JobObservation) -> None:
        if known.word is not Word.WAITING or known.close_because or known.ending is not None:
            return
        why = self._run.never_runs(seen.because or seen.raw)
        if why is not None:
            self._trouble.will_never_run(known.view, seen.because or seen.raw, why)
            self._close(known.view.name, f"it will never run: {why}")

    def _tell(self, name: str, fold: Callable[[Known], Known]) -> None:
        self._changed(self.roster.tell(name, fold, self._clock.now()))

    def _changed(self, change: Change | None) -> None:
        if change is None:
            return
        if change.lost_nodes:
            self._tell_of_lost(change.after, change.lost_nodes)
        if change.is_new_reason or change.is_new_state:
            self._run.record(as_event(change.after, self._clock.now()))
        if change.is_new_state:
            self._follow(change)
            self._on_news()

    def _tell_of_lost(self, known: Known, nodes: tuple[str, ...]) -> None:
        """Journal that an allocation goes on without some nodes, and say so to whoever had work there."""
        name, left = known.view.name, len(known.granted)
        words = f"the batch system took {', '.join(nodes)} out of {name} (job {known.view.job_id})"
        self.note("nodes_lost", f"{words}: it goes on with {left} of {left + len(known.lost)} nodes")
        raw = f"lost by job {known.view.job_id}, which goes on without it"
        self._run.on_nodes_lost(name, JobEnding(ExitReason.NODE_FAIL, raw, ended_at=self._clock.now(), nodes=nodes))

    def _follow(self, change: Change) -> None:
        """Do what a new state asks for, whatever the plan says."""
        known = change.after
        ending, name = known.ending, known.view.name
        if change.has_ended and ending is not None:
            if not known.is_disowned:
                self.actions.forget(name, known.view.because)
            if known.view.job_id is not None:
                self._run.on_allocation_ended(name, ending)
        elif known.interrupted is not None and (change.before is None or change.before.interrupted is None):
            self._run.on_requeued(name, known.interrupted)
        elif known.view.state is AllocationState.CLOSING and not known.close_because and known.workers:
            self.actions.drain(name, known.view.because)
