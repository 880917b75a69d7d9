"""What an attempt that ended without a receipt teaches about its task: how long it needs at least, where not to go.

Rule 1: pure, and only what is certain: a lower bound that is too high would refuse a task that could be run.
"""

from __future__ import annotations

from scalable_hpc.faults.raised import CHECKPOINTED
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.events import AttemptFailed
from scalable_hpc.model.tasks import Ending, Verdict

_OF_ITS_OWN = frozenset({Ending.EXCEPTION.value, Ending.TIMEOUT.value, Ending.SLOT_DIED.value})
_PLACE_AT_FAULT = frozenset({Ending.SLOT_DIED.value, Ending.REFUSED.value, Ending.WORKER_LOST.value})
"""Endings after which another place is worth trying first."""


def proven_run_time_s(event: AttemptFailed) -> float | None:
    """Return how long the task is known to need at least; None: the attempt proves nothing.

    A dead node may have stood still for long before anybody noticed, and a task that handed itself back after a
    checkpoint needs less the next time.
    """
    if event.charged or event.ending == Ending.EXCEPTION.value or event.allocation_reason == ExitReason.NODE_FAIL.value:
        return None
    return event.ran_s


def was_handed_back(event: AttemptFailed) -> bool:
    """Whether the task saved its state and ended the attempt itself, to go on in another one."""
    is_told = event.checkpoint is not None or event.error_type == CHECKPOINTED
    return event.ending == Ending.EXCEPTION.value and is_told


def casts_suspicion(event: AttemptFailed) -> bool:
    """Whether a whole worker died under the attempt and it may have brought that about."""
    blamed = (Verdict.KILLER.value, Verdict.RESOURCE.value)
    return event.ending == Ending.WORKER_LOST.value and event.together is not None and event.verdict in blamed


def acquits(event: AttemptFailed) -> bool:
    """Whether the attempt ran to an end of its own, and its worker outlived it."""
    return event.ending in _OF_ITS_OWN


def place_to_avoid(event: AttemptFailed) -> str | None:
    """Return where the next attempt had better not go; None: anywhere.

    That is the node where a slot or a whole worker died, else the worker.
    """
    if event.verdict == Verdict.EXPECTED.value or event.ending not in _PLACE_AT_FAULT:
        return None
    died = event.ending == Ending.SLOT_DIED.value or casts_suspicion(event)
    return (event.node or event.worker) if died else event.worker


def one_more(counts: tuple[tuple[str, int], ...], name: str) -> tuple[tuple[str, int], ...]:
    """Return counts by name, sorted, with one more of a name."""
    several = dict(counts)
    several[name] = several.get(name, 0) + 1
    return tuple(sorted(several.items()))
