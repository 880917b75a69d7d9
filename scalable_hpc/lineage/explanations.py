"""Why attempts ended, for those whose allocation's end was not known yet when they were judged.

Rule 1: pure. What was decided stays decided; but who is suspected, and so runs alone next, follows the newest word.
Rule 2: only an attempt that nobody lived to tell of can be explained by its allocation's end; what a living worker
reports of a slot was that slot's own affair, whatever becomes of the worker two seconds later.
"""

from __future__ import annotations

from collections.abc import Collection

from scalable_hpc.faults.claims import INFRASTRUCTURE_REASONS
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import AttemptExplained, AttemptFailed
from scalable_hpc.model.tasks import Ending, Verdict

_TELLING = frozenset({*INFRASTRUCTURE_REASONS, ExitReason.OUT_OF_MEMORY.value, ExitReason.FAILED.value})
"""Ends that can take an attempt along; one that COMPLETED did not."""
_BLAMED = frozenset({ExitReason.OUT_OF_MEMORY.value, ExitReason.FAILED.value})
"""Ends that what ran there may have brought about."""
_WITHIN_S = 120.0
"""Between an attempt's end and its allocation's: what happened longer before had another cause."""
_NODE_FAIL_WITHIN_S = 900.0
"""Slurm declares a node dead only after SlurmdTimeout (300 s unless the site says otherwise)."""
_SIGNALLED = 128
"""Shells and batch systems add the number of the signal that ended a process to this, or to 256."""
_UNKNOWN = (None, ExitReason.UNKNOWN.value)


class Explanations:
    """Attempts that await the batch system's word, by allocation."""

    def __init__(self) -> None:
        self._awaiting: dict[str, list[AttemptFailed]] = {}
        self._over: dict[str, JobEnding] = {}

    def await_word(self, failed: AttemptFailed, now: float) -> list[AttemptExplained]:
        """Note an attempt that an allocation's end may explain; where that came first, return what it explains."""
        if (
            failed.allocation is None
            or failed.allocation_reason not in _UNKNOWN
            or failed.charged
            or failed.ending != Ending.WORKER_LOST.value
        ):
            return []
        self._awaiting.setdefault(failed.allocation, []).append(failed)
        ending = self._over.get(failed.allocation)
        return [] if ending is None else self.explain(failed.allocation, ending, now)

    def awaited(self) -> Collection[str]:
        """The allocations whose end would explain an attempt."""
        return self._awaiting.keys()

    def over(self, allocation: str, ending: JobEnding, now: float) -> list[AttemptExplained]:
        """Take the last word on an allocation and return what it explains; attempts may still be judged after it."""
        self._over[allocation] = ending
        return self.explain(allocation, ending, now)

    def explain(
        self, allocation: str, ending: JobEnding, now: float, *, nodes: Collection[str] = ()
    ) -> list[AttemptExplained]:
        """Take the batch system's word and return what it explains.

        Args:
            allocation: whose attempts it is about.
            ending: the word.
            now: seconds since the epoch.
            nodes: the word is about these nodes of the allocation alone; empty: about all of it.
        """
        awaiting = self._awaiting.pop(allocation, [])
        others = [failed for failed in awaiting if nodes and failed.node not in nodes]
        if others:
            self._awaiting[allocation] = others
        if ending.reason.value not in _TELLING:
            return []
        ended_at = now if ending.ended_at is None else ending.ended_at
        within_s = _NODE_FAIL_WITHIN_S if ending.reason is ExitReason.NODE_FAIL else _WITHIN_S
        because = f"allocation {ending.reason.value}: {ending.raw}"
        return [
            AttemptExplained(
                now, failed.task_id, failed.attempt, allocation, ending.reason.value, because, _suspect(failed, ending)
            )
            for failed in awaiting
            if failed not in others and ended_at - failed.at < within_s
        ]


def _suspect(failed: AttemptFailed, ending: JobEnding) -> bool | None:
    """Say whether the batch system's word makes a suspect of a task (True), clears it (False), or neither (None)."""
    was_suspected = failed.verdict == Verdict.KILLER.value
    if ending.reason.value in INFRASTRUCTURE_REASONS:
        return False if was_suspected else None
    was_killed = ending.signal is not None or (ending.exit_code or 0) > _SIGNALLED
    is_to_blame = ending.reason is ExitReason.OUT_OF_MEMORY or was_killed
    return True if is_to_blame and failed.together is not None and not was_suspected else None
