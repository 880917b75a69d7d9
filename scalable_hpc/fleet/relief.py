"""What the fleet does about worker types that cannot be had: hands their work on, says so, gives up what nobody can do.

Rule 1: every shift of work, and every job that is stuck without one, is journalled and told once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from scalable_hpc.fleet.fallback import Shift, Understudies
from scalable_hpc.fleet.ports import Clock, Run
from scalable_hpc.fleet.roster import Roster
from scalable_hpc.fleet.stuck import StuckWatch
from scalable_hpc.model.events import FleetNote
from scalable_hpc.model.fleet import AllocationView, Demand, Limits

logger = logging.getLogger(__name__)


class Relief:
    """Keeps who stands in for whom, and tells the run of it."""

    def __init__(self, run: Run, roster: Roster, limits: Mapping[str, Limits], clock: Clock) -> None:
        self._run = run
        self._roster = roster
        self._limits = limits
        self._clock = clock
        self._understudies = Understudies(limits, run.stuck)
        self._stuck = StuckWatch(limits, run.stuck)

    def look(self) -> None:
        """Hand the work of worker types that cannot be had to their fallbacks, and back; tell of stuck jobs."""
        seen: dict[str, list[AllocationView]] = {}
        for known in self._roster.open():
            seen.setdefault(known.view.worker_type, []).append(known.view)
        standings = {name: self._roster.standing(name) for name, each in self._limits.items() if each.may_be_away}
        shifts = self._understudies.look(seen, standings, self._clock.now())
        for shift in shifts:
            self._tell("fallback" if shift.is_away else "returned", f"{self._words(shift)}: {shift.because}")
        if shifts:
            self._run.on_stand_ins(self._understudies.stand_ins())
        for words in self._stuck.look((each for several in seen.values() for each in several), self._clock.now()):
            self._tell("stuck", words)

    def give_up(self, wanted: Mapping[str, Demand]) -> None:
        """Fail the run, as without fallbacks, when work is left that only a refused type could do."""
        for worker_type in self._understudies.stand_ins():
            if self._limits[worker_type].is_grown:
                continue
            standing = self._roster.standing(worker_type)
            trouble = standing.trouble
            if trouble is not None and worker_type in wanted and wanted[worker_type].waiting:
                standing.trouble, standing.paused_until = None, math.inf
                self._understudies.forget(worker_type)
                self._run.on_stand_ins(self._understudies.stand_ins())
                self._run.on_failure(trouble)

    def _words(self, shift: Shift) -> str:
        stand_ins = self._understudies.stand_ins().get(shift.worker_type)
        helped = f"its work goes to {' or '.join(map(repr, stand_ins or ())) or 'nobody'}"
        return f"{shift.worker_type!r} {f'cannot be had, {helped}' if shift.is_away else 'is back'}"

    def _tell(self, kind: str, words: str) -> None:
        logger.warning("%s", words)
        self._run.record(FleetNote(self._clock.now(), kind, words))
