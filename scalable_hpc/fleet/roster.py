"""All allocations of a run and what was learned from them: names, streaks of failed starts, queue waits; pure.

The supervisor tells the roster what it heard and did; the roster answers with the change of the one allocation
that was meant, and draws the planner's view of each worker type. Worker types are planned one by one, so a broken
container image pauses its own type and no other.

Rule 1: names are handed out once and never again.
Rule 2: no I/O, no clock; ``now`` comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from scalable_hpc.fleet import view
from scalable_hpc.fleet.budget import Balance, balance_of, used_node_s
from scalable_hpc.fleet.inheritance import Inherited
from scalable_hpc.fleet.known import Known
from scalable_hpc.fleet.pace import p90
from scalable_hpc.fleet.standing import Change, Standing
from scalable_hpc.model.allocations import (
    AllocationRequest,
    AllocationState,
    ExitReason,
    JobEnding,
    JobObservation,
)
from scalable_hpc.model.fleet import AllocationView, FleetView, Limits, Submit
from scalable_hpc.model.messages import WorkerDraining, WorkerHello

START_PATIENCE_S = 600.0
"""A job that runs this long without a worker has failed to start one: importing Python from a busy parallel file
system takes minutes, not more."""
INHERITED = "opened by an earlier driver of this run"
NOT_THE_SCRIPTS_FAULT = (ExitReason.PREEMPTED, ExitReason.NODE_FAIL, ExitReason.BOOT_FAIL, ExitReason.REQUEUED)
"""Ends before the first worker that say nothing of whether the next allocation would start."""


class Roster:
    """Every allocation of a run by name."""

    def __init__(self, run_id: str, first_number: int = 1, spent_node_s: float = 0.0) -> None:
        """Begin.

        Args:
            run_id: the run's, which is in the names of its jobs.
            first_number: of the first allocation's name.
            spent_node_s: node-seconds that allocations of earlier drivers have used, which have ended.
        """
        self._spent_node_s = spent_node_s
        self._job_name = f"scalable-{run_id}-"
        self._next = first_number
        self._all: dict[str, Known] = {}
        self._open: dict[str, Known] = {}
        self._by_address: dict[str, str] = {}
        self._last_busy: dict[str, float] = {}
        self._standings: dict[str, Standing] = {}
        self._drawn: dict[str, tuple[AllocationView, AllocationView]] = {}

    def __getitem__(self, name: str) -> Known:
        return self._all[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def open(self) -> list[Known]:
        """Every allocation that has not ended, oldest first."""
        return list(self._open.values())

    def job_ids(self) -> list[str]:
        """The batch jobs of the allocations that have not ended."""
        return [known.view.job_id for known in self._open.values() if known.view.job_id is not None]

    def has_lost_answers(self) -> bool:
        """Whether a submission ended without an answer and has not been found since."""
        return any(known.answer_lost_at is not None for known in self._open.values())

    def standing(self, worker_type: str) -> Standing:
        """What was learned of a worker type."""
        return self._standings.setdefault(worker_type, Standing())

    def worker_types(self) -> set[str]:
        """The worker types of allocations that have not ended."""
        return {known.view.worker_type for known in self._open.values()}

    def draw_view(
        self,
        worker_type: str,
        *,
        busy: Mapping[str, int],
        now: float,
        closing: bool,
        paused_until: float | None,
        node_s_left: float | None = None,
        most_jobs: int | None = None,
        calls: int = 0,
    ) -> FleetView:
        """Draw what the planner may see of one worker type.

        Args:
            worker_type: the type to plan for.
            busy: attempts assigned, by allocation.
            now: seconds since the epoch.
            closing: the session is ending.
            paused_until: a pause of the whole fleet, on top of the type's own.
            node_s_left: what is left of the run's budget, in node-seconds; None: there is none.
            most_jobs: what the site takes of this user; None: it has no limit.
            calls: that the run has taken so far.
        """
        standing = self.standing(worker_type)
        standing.calls.hear(calls, now)
        seen: list[AllocationView] = []
        for name, known in self._open.items():
            if known.view.worker_type == worker_type:
                assigned = busy.get(name, 0)
                seen.append(self._draw(known.view, assigned))
                if assigned:
                    self._last_busy[name] = now
        pauses = [until for until in (standing.paused_until, paused_until) if until is not None]
        return FleetView(
            allocations=tuple(seen),
            queue_wait_p90_s=p90(standing.waits),
            start_failures_in_a_row=len(standing.failures),
            paused_until=max(pauses, default=None),
            last_busy_at=self._last_busy,
            closing=closing,
            node_s_left=node_s_left,
            incoming=standing.calls.incoming(now),
            jobs_left=None if most_jobs is None else most_jobs - len(self._open),
        )

    def balance(self, budget_node_s: float, now: float) -> Balance:
        """Return what the run has used of its budget, and what its open allocations may."""
        return balance_of(budget_node_s, self._spent_node_s, (known.view for known in self._open.values()), now)

    def snapshot(self, busy: Mapping[str, int]) -> tuple[AllocationView, ...]:
        """Every allocation that has not ended, oldest first."""
        return tuple(self._draw(known.view, busy.get(name, 0)) for name, known in self._open.items())

    def _draw(self, seen: AllocationView, busy: int) -> AllocationView:
        """The view with its attempts; kept from one plan to the next, since most allocations stay as they are."""
        source, drawn = self._drawn.get(seen.name, (None, seen))
        if source is not seen or drawn.busy != busy:
            drawn = replace(seen, busy=busy)
            self._drawn[seen.name] = (seen, drawn)
        return drawn

    def enrol(
        self, asked: Submit, limits: Limits, now: float, excluded_nodes: tuple[str, ...] = ()
    ) -> AllocationRequest:
        """Give a new allocation its name and enter it as SUBMITTING."""
        self.standing(asked.worker_type).calls.asked()
        name = self._new_name()
        known = _fresh(name, asked.worker_type, limits, asked.because, now)
        self._put(name, _asked_for(known, asked.walltime_s, limits))
        return AllocationRequest(name, asked.worker_type, asked.nodes, asked.walltime_s, asked.because, excluded_nodes)

    def inherit(self, left: Inherited, limits: Limits, now: float) -> None:
        """Enter an allocation that an earlier driver of this run opened; the batch system says what became of it."""
        known = replace(_fresh(left.name, left.worker_type, limits, INHERITED, left.asked_at), is_inherited=True)
        known = replace(_asked_for(known, left.walltime_s or limits.walltime_s, limits), nodes=left.nodes)
        taken = view.answer_lost(known, now) if left.job_id is None else view.submitted(known, left.job_id, now)
        self._put(left.name, taken)

    def adopt(self, hello: WorkerHello, limits: Limits, now: float) -> Change:
        """Enter an allocation that somebody else opened (a driver before us) and whose worker has joined."""
        self._put(hello.allocation, _fresh(hello.allocation, hello.worker_type, limits, "not opened by us", now))
        change = self.worker_came(hello, now)
        return Change(None, change.after)

    def tell(self, name: str, fold: Callable[[Known], Known], now: float) -> Change:
        """Fold something into one allocation (the functions of ``fleet/view``) and keep the books of its type."""
        before = self._all[name]
        after = fold(before)
        change = Change(before, after)
        if after is before:
            return change
        self._put(name, after)
        self._keep_account(before.view, after, now)
        if change.has_ended:
            self._keep_books_of_end(after, now)
        return change

    def observe(self, seen: JobObservation, name: str, now: float) -> Change:
        """Fold in the batch system's word on one allocation, unless the word is on somebody else's job."""
        if self._is_another(seen.name, name):
            return self.tell(name, lambda known: view.disowned(known, seen, now), now)
        return self.tell(name, lambda known: view.observed(known, seen, now), now)

    def worker_came(self, hello: WorkerHello, now: float) -> Change:
        """Fold in a hello; the allocation must be known."""
        before = self._all[hello.allocation].view
        change = self.tell(hello.allocation, lambda known: view.worker_came(known, hello, now), now)
        if change.after.ending is None:
            self._by_address[hello.address] = hello.allocation
            standing = self.standing(change.after.view.worker_type)
            standing.forgive()
            if before.job_id is not None and not before.reached_live and not change.after.is_inherited:
                standing.waits.append(now - change.after.view.submitted_at)
        return change

    def worker_left(self, address: str, now: float) -> Change | None:
        """Fold in that a worker is gone; None when it is nobody's."""
        name = self._by_address.pop(address, None)
        return None if name is None else self.tell(name, lambda known: view.worker_left(known, address, now), now)

    def worker_drains(self, message: WorkerDraining, now: float) -> Change | None:
        """Fold in a worker's wish to be drained; None when it is nobody's, or that of one worker for itself."""
        name = None if message.alone else self._by_address.get(message.address)
        return None if name is None else self.tell(name, lambda known: view.worker_drains(known, message, now), now)

    def by_job_name(self, job_name: str) -> str | None:
        """The allocation that a batch job's name belongs to, if it is one of ours."""
        name = job_name.removeprefix(self._job_name)
        return name if name != job_name and name in self._all else None

    def _new_name(self) -> str:
        name = f"a{self._next:04d}"
        while name in self._all:
            self._next += 1
            name = f"a{self._next:04d}"
        self._next += 1
        return name

    def _is_another(self, job_name: str, name: str) -> bool:
        """Whether a job of that name cannot be this allocation; batch systems may cut names short or leave them out."""
        return job_name.startswith("scalable-") and not (self._job_name + name).startswith(job_name)

    def _put(self, name: str, known: Known) -> None:
        self._all[name] = known
        if known.ending is None:
            self._open[name] = known
        else:
            self._open.pop(name, None)
            self._drawn.pop(name, None)
            self._last_busy.pop(name, None)

    def _keep_account(self, before: AllocationView, after: Known, now: float) -> None:
        """Count what an allocation has used of its nodes once it has ended, or its job was requeued."""
        if after.ending is not None:
            started_at = before.started_at if after.view.started_at is None else after.view.started_at
            ended_at = now if after.ending.ended_at is None else after.ending.ended_at
            self._spent_node_s += used_node_s(replace(after.view, started_at=started_at), ended_at)
        elif before.started_at is not None and after.view.started_at is None:
            self._spent_node_s += used_node_s(before, now)

    def _keep_books_of_end(self, known: Known, now: float) -> None:
        if _is_start_failure(known, now):
            standing = self.standing(known.view.worker_type)
            standing.failures, standing.paused_until = (*standing.failures, known.view.name), None


def _fresh(name: str, worker_type: str, limits: Limits, because: str, now: float) -> Known:
    return Known(
        AllocationView(
            name=name,
            worker_type=worker_type,
            state=AllocationState.SUBMITTING,
            slots=limits.slots,
            walltime_s=limits.walltime_s,
            submitted_at=now,
            because=because,
            nodes=limits.nodes,
        )
    )


def _asked_for(known: Known, walltime_s: int, limits: Limits) -> Known:
    configured_s = limits.walltime_s if walltime_s < limits.walltime_s else None
    return replace(known, view=replace(known.view, walltime_s=walltime_s, configured_s=configured_s))


def _is_start_failure(known: Known, now: float) -> bool:
    """Whether an ended allocation speaks against the next one: had a job, never a worker, and not by our own will."""
    ending: JobEnding | None = known.ending
    if ending is None or known.view.reached_live or known.view.job_id is None or known.is_inherited:
        return False
    if ending.reason in NOT_THE_SCRIPTS_FAULT or ending.reason is ExitReason.UNKNOWN:
        return False
    if not known.close_because:
        return True
    started = known.view.started_at
    return known.closed_from is AllocationState.STARTING and started is not None and now - started >= START_PATIENCE_S
