"""Why attempts ended, for those whose allocation's end was not known yet when they were judged.

Rule 1: pure. An explanation is for the record; what was decided stays decided.
"""

from __future__ import annotations

from collections.abc import Collection

from scalable_hpc.faults.judge import INFRASTRUCTURE_REASONS
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import AttemptExplained, AttemptFailed
from scalable_hpc.model.tasks import Ending

_TELLING = frozenset({*INFRASTRUCTURE_REASONS, ExitReason.OUT_OF_MEMORY.value, ExitReason.FAILED.value})
"""Ends that can take an attempt along; one that COMPLETED did not."""
_EXPLAINED = frozenset(
    ending.value for ending in (Ending.WORKER_LOST, Ending.SLOT_DIED, Ending.NEVER_STARTED, Ending.CANCELLED)
)
_WITHIN_S = 120.0
"""Between an attempt's end and its allocation's: what happened longer before had another cause."""
_NODE_FAIL_WITHIN_S = 900.0
"""Slurm declares a node dead only after SlurmdTimeout (300 s unless the site says otherwise)."""
_UNKNOWN = (None, ExitReason.UNKNOWN.value)


class Explanations:
    """Attempts that await the batch system's word, by allocation."""

    def __init__(self) -> None:
        self._awaiting: dict[str, list[AttemptFailed]] = {}

    def await_word(self, failed: AttemptFailed) -> None:
        """Note an attempt that an allocation's end may explain."""
        if (
            failed.allocation is not None
            and failed.allocation_reason in _UNKNOWN
            and not failed.charged
            and failed.ending in _EXPLAINED
        ):
            self._awaiting.setdefault(failed.allocation, []).append(failed)

    def awaited(self) -> Collection[str]:
        """The allocations whose end would explain an attempt."""
        return self._awaiting.keys()

    def explain(self, allocation: str, ending: JobEnding, now: float) -> list[AttemptExplained]:
        """Take the batch system's word and return what it explains."""
        awaiting = self._awaiting.pop(allocation, ())
        if ending.reason.value not in _TELLING:
            return []
        ended_at = now if ending.ended_at is None else ending.ended_at
        within_s = _NODE_FAIL_WITHIN_S if ending.reason is ExitReason.NODE_FAIL else _WITHIN_S
        because = f"allocation {ending.reason.value}: {ending.raw}"
        return [
            AttemptExplained(now, failed.task_id, failed.attempt, allocation, ending.reason.value, because)
            for failed in awaiting
            if ended_at - failed.at < within_s
        ]
