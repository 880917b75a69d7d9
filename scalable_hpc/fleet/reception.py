"""Who belongs to the fleet though this driver has not heard of it in the usual way.

Allocations that an earlier driver of the run left, workers of such ones, workers that come after their allocation had
ended, and jobs whose submission brought no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from scalable_hpc.fleet import view
from scalable_hpc.fleet.known import Known
from scalable_hpc.fleet.ports import Clock, Run
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.fleet.standing import Change
from scalable_hpc.fleet.watch import Answer
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import FleetNote
from scalable_hpc.model.fleet import Limits
from scalable_hpc.model.messages import WorkerHello

LOST_ANSWER_PATIENCE_S = 30.0
"""A submission whose answer was lost shows up in the queue within seconds, or it was never taken."""


class Reception:
    """Enters them into the roster."""

    def __init__(
        self,
        run: Run,
        roster: Roster,
        limits: Mapping[str, Limits],
        clock: Clock,
        changed: Callable[[Change | None], None],
    ) -> None:
        self._run = run
        self._roster = roster
        self._limits = limits
        self._clock = clock
        self._changed = changed

    def inherit(self) -> None:
        """Take over what an earlier driver of the run left: nobody has to queue for it again."""
        for left in self._run.inherited:
            limits = self._limits.get(left.worker_type) or Limits(left.worker_type)
            self._roster.inherit(left, limits, self._clock.now())
        if self._run.inherited:
            names = ", ".join(f"{left.name} (job {left.job_id or 'not known'})" for left in self._run.inherited)
            self._note("adopted", f"takes over from the driver before: {names}")

    def welcome(self, hello: WorkerHello) -> str:
        """Take in a worker, of an allocation of ours or of one that somebody opened before us.

        Returns why it is a stray whose job is to be cancelled; empty: it is welcome.
        """
        name, now = hello.allocation, self._clock.now()
        if name not in self._roster:
            limits = self._limits.get(hello.worker_type) or Limits(hello.worker_type, slots_per_node=hello.slots)
            self._note("adopted", f"a worker of {name} (job {hello.job_id}) joined, which this driver did not open")
            self._changed(self._roster.adopt(hello, limits, now))
            return ""
        known = self._roster[name]
        if known.ending is not None:
            return f"a worker of {name} came after it had ended ({known.ending.raw}): its job is cancelled"
        self._changed(self._roster.worker_came(hello, now))
        return ""

    def look_for_lost(self, answer: Answer) -> None:
        """Match jobs of the run to submissions whose answer was lost; give up those that never show."""
        now = self._clock.now()
        found = {self._roster.by_job_name(seen.name): seen for seen in answer.found or ()}
        for known in self._roster.open():
            if known.answer_lost_at is None:
                continue
            name, seen = known.view.name, found.get(known.view.name)
            if seen is not None:
                self._note("found", f"{name} was submitted after all: job {seen.job_id}")
                self._tell(name, partial(view.submitted, job_id=seen.job_id, now=now))
            elif answer.at - known.answer_lost_at >= LOST_ANSWER_PATIENCE_S:
                ending = JobEnding(ExitReason.UNKNOWN, "its submission brought no answer, and no job has its name")
                self._tell(name, partial(view.not_submitted, ending=ending, now=now))

    def _tell(self, name: str, fold: Callable[[Known], Known]) -> None:
        self._changed(self._roster.tell(name, fold, self._clock.now()))

    def _note(self, kind: str, because: str) -> None:
        self._run.record(FleetNote(self._clock.now(), kind, because))
