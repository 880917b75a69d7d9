"""From what became of a task to the exception that its future raises."""

from __future__ import annotations

import builtins

import cloudpickle

from scalable_hpc import errors
from scalable_hpc.errors import AncestorFailed, TaskError
from scalable_hpc.future import RemoteTraceback
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.model.tasks import ExceptionFacts


def error_of(outcome: Outcome, label: str) -> BaseException:
    """Return what the future of a task raises that failed; that of an ancestor's error is of its class too."""
    if outcome.error is None:
        return _exception(outcome.exception, label)
    if outcome.exception is None:
        return outcome.error
    cause = _exception(outcome.exception, label)  # what the failed ancestor had raised
    if isinstance(outcome.error, AncestorFailed):
        return outcome.error.because_of(cause)
    outcome.error.__cause__ = cause
    return outcome.error


def _exception(facts: ExceptionFacts | None, label: str) -> BaseException:
    """The exception that the task raised, as it was raised, with the traceback of where; or the next best."""
    if facts is None:
        return TaskError(f"{label} failed, and no evidence of it was kept")
    try:
        error = cloudpickle.loads(facts.pickled) if facts.pickled else _made_again(facts)
    except Exception:  # noqa: BLE001 - whatever the class's own unpickling raises
        error = None
    if not isinstance(error, BaseException):
        error = TaskError(f"{label} raised {facts.type_name}: {facts.message}")
    if facts.traceback:
        error.__cause__ = RemoteTraceback(facts.traceback)
    if isinstance(error, Exception):
        return error
    # sys.exit() in a task ends the task, not whoever asks for its result
    ended = TaskError(f"{label} raised {type(error).__name__}: {facts.message}")
    ended.__cause__ = error
    return ended


def _made_again(facts: ExceptionFacts) -> object:
    """Make an exception of a class that everybody has from its message; None: it is of another class."""
    module, _, name = facts.type_name.rpartition(".")
    cls = vars({"builtins": builtins, errors.__name__: errors}.get(module, object)).get(name)
    is_exception = isinstance(cls, type) and issubclass(cls, Exception)
    return cls(facts.message) if is_exception and isinstance(cls, type) else None
