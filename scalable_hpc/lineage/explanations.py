"""Why attempts ended, for those whose allocation's end was not known yet when they were judged.

Rule 1: pure. An explanation is for the record; what was decided stays decided.
"""

from __future__ import annotations

from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import AttemptExplained, AttemptFailed
from scalable_hpc.model.tasks import Ending

_ENDS_WITHIN_S = 60.0
"""Before its allocation's end: a worker that is being ended stops its slots some seconds before it is gone itself.
A worker that was lost is explained by its allocation's end whenever that comes."""
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
            and failed.ending != Ending.EXCEPTION.value
        ):
            self._awaiting.setdefault(failed.allocation, []).append(failed)

    def explain(self, allocation: str, ending: JobEnding, now: float) -> list[AttemptExplained]:
        """Take the batch system's word and return what it explains."""
        if ending.reason is ExitReason.UNKNOWN:
            return []
        ended_at = now if ending.ended_at is None else ending.ended_at
        because = f"allocation {ending.reason.value}: {ending.raw}"
        return [
            AttemptExplained(now, failed.task_id, failed.attempt, allocation, ending.reason.value, because)
            for failed in self._awaiting.pop(allocation, ())
            if failed.ending == Ending.WORKER_LOST.value or ended_at - failed.at < _ENDS_WITHIN_S
        ]
