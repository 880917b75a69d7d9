"""What became of a task, as its future is told."""

from __future__ import annotations

from dataclasses import dataclass

from scalable_hpc import errors
from scalable_hpc.errors import ScalableError, TaskError
from scalable_hpc.model.events import TaskGivenUp
from scalable_hpc.model.tasks import ExceptionFacts, Locator

_HINTS = {
    "TaskKilled": "run this one call by itself to see it crash; the run's journal has the end of its output",
    "TaskTimeout": "give it more with timeout=, or retries= if it only hangs now and then",
    "TaskTooLong": "raise the target's walltime, split the task, or have it save its state: checkpoints=True",
    "TaskOutOfMemory": "add a component with more memory to the manifest, or raise its max_memory",
    "AttemptsExhausted": "see why its allocations end: scalable-hpc report",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: one of ``result``, ``exception``, ``error`` and ``cancelled`` is given."""

    task_id: str
    result: Locator | None = None
    exception: ExceptionFacts | None = None
    """What its own code raised; beside an ``AncestorFailed`` error, what the ancestor's did."""
    error: BaseException | None = None
    """Why it failed otherwise."""
    cancelled: bool = False
    because: str = ""
    attempts: int = 0
    reused: bool = False
    """The result was found, not computed."""


def task_error(given_up: TaskGivenUp) -> TaskError:
    """Return the error for a task that failed for another reason than an exception of its own."""
    cls = getattr(errors, given_up.error_type, None)
    if not (isinstance(cls, type) and issubclass(cls, TaskError)):
        return TaskError(f"{given_up.error_type}: {given_up.error}")
    return cls(given_up.error, hint=_HINTS.get(given_up.error_type))


def same_error(error: ScalableError) -> tuple[str, str]:
    """Return type and text of an error, as ``TaskGivenUp`` keeps them."""
    return type(error).__name__, error.message
