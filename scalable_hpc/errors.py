"""Every error that scalable_hpc raises on purpose, drawn as one tree.

    ScalableError                     exit 1
      ManifestError                   exit 10   whose fault: the user's file
        WalltimeError                 exit 11
        UnknownTargetError            exit 12
      SiteError                       exit 13   the site's file
      TemplateError                   exit 14   a job-script template
      SubmissionError                 exit 20   the batch system said no, for good
        PartitionRefused              exit 21
        LimitRefused                  exit 22
      MissingCommandError             exit 23   sbatch, squeue, ... not on PATH
      RunDirectoryError               exit 24   the disk
      AllocationsFailing              exit 25   allocations die before a worker registers
      BatchSilent                     exit 26   no (understandable) answer in time
      JournalError                    exit 27   a run's journal is damaged or of another version
      StoreError                      exit 28   a result store cannot be used
      TaskError                       exit 30   what a task's future raises when it is not the task's own exception
        TaskKilled, TaskTimeout (TimeoutError), TaskOutOfMemory (MemoryError),
        TaskTooLong, AncestorFailed, AttemptsExhausted
      Checkpointed                              no failure: a task raises it to go on in another attempt

A message says what happened with the value in quotes; ``hint`` is the next command to type.
The command line prints both and exits with the class's ``exit_code``.
"""

from __future__ import annotations

from typing import Any


class ScalableError(Exception):
    """Base of every error that scalable_hpc raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n\nhint: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, dict(self.__dict__)))


def _rebuild(cls: type[ScalableError], message: str, hint: str | None, state: dict[str, object]) -> ScalableError:
    """Unpickle an error whatever its subclass's ``__init__`` wants; strictly private."""
    error = cls.__new__(cls)
    ScalableError.__init__(error, message, hint=hint)
    error.__dict__.update(state)
    return error


class ManifestError(ScalableError):
    """``scalable.yaml`` is wrong; the message names file, line, value and what is allowed."""

    exit_code = 10


class WalltimeError(ManifestError):
    """A walltime cannot be read, or is not a string (YAML reads ``12:00:00`` as a number)."""

    exit_code = 11


class UnknownTargetError(ManifestError):
    """The manifest has no target of that name."""

    exit_code = 12


class SiteError(ScalableError):
    """A site config is wrong or cannot be found."""

    exit_code = 13


class TemplateError(ScalableError):
    """A job-script template cannot be found or rendered, or a value is unsafe in it."""

    exit_code = 14


class SubmissionError(ScalableError):
    """The batch system refused an allocation for good; carries its own words."""

    exit_code = 20


class PartitionRefused(SubmissionError):
    """The partition or queue does not exist, is down, or is not for this account."""

    exit_code = 21


class LimitRefused(SubmissionError):
    """The request is over a limit (walltime, nodes, memory) of the partition or QOS."""

    exit_code = 22


class MissingCommandError(ScalableError):
    """A command of the batch system is not on PATH."""

    exit_code = 23


class RunDirectoryError(ScalableError):
    """The run directory cannot be made, written, locked or read."""

    exit_code = 24


class AllocationsFailing(ScalableError):
    """Several allocations in a row ended before any worker registered."""

    exit_code = 25


class BatchSilent(ScalableError):
    """The batch system gave no usable answer in time: nothing is known, nothing has ended."""

    exit_code = 26


class SubmissionDeferred(ScalableError):
    """The batch system would not take an allocation now, but may later."""

    exit_code = 26


class JournalError(ScalableError):
    """A journal is damaged beyond a torn tail, or of a version this release cannot read."""

    exit_code = 27


class StoreError(ScalableError):
    """A result store cannot be opened or is not to be trusted."""

    exit_code = 28


class BudgetSpent(ScalableError):
    """The run has used its node-hours; what ran was let finish, and what is left fails with this."""

    exit_code = 29


class TaskError(ScalableError):
    """A task failed for a reason that is not an exception of its own code."""

    exit_code = 30


class TaskKilled(TaskError):
    """The task's slot died while running it (signal, ``os._exit``), twice."""


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than its ``timeout``; its process group was killed."""


class TaskOutOfMemory(TaskError, MemoryError):
    """The task needed more memory than any worker type offers; says how much it needed."""


class TaskTooLong(TaskError):
    """The task needs longer than any allocation's walltime; says which walltime it needs."""


class AncestorFailed(TaskError):
    """A task whose result is an argument of this one failed; names the chain.

    ``because_of`` makes it one of the ancestor's own class too, so that ``except`` finds it by either.
    """

    def because_of(self, cause: BaseException) -> AncestorFailed:
        """Return this error as one of the cause's class too, with its attributes, and the cause as ``__cause__``.

        Where no class can be both, it stays what it is, with the cause alone.
        """
        error = _as_both(self, cause) or self
        error.__cause__ = cause
        return error


class Checkpointed(ScalableError):
    """Raised by a task that has saved its state: it goes on in another attempt, which costs it nothing.

    Not a failure: nobody sees it but the task's run. Raised outside a task it is an error like any other.
    """

    def __init__(self, message: str = "the task saved its state and is to go on", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)


class AttemptsExhausted(TaskError):
    """Infrastructure took every attempt, up to the bound that stops a livelock."""


def _as_both(error: AncestorFailed, cause: BaseException) -> AncestorFailed | None:
    """Return the error as an instance of the cause's class too; None where a class cannot be derived from both."""
    if not isinstance(cause, Exception) or isinstance(error, type(cause)):
        return None
    namespace = {"__module__": __name__, "__doc__": AncestorFailed.__doc__, "__reduce__": _reduce_both}
    try:
        both: type[Any] = type(AncestorFailed.__name__, (AncestorFailed, type(cause)), namespace)
        made: Any = both.__new__(both, error.message)
        Exception.__init__(made, error.message)
        made.__dict__.update(vars(cause))
        for name in ("errno", "strerror", "filename"):  # of an OSError, which keeps them elsewhere
            if isinstance(cause, OSError):
                setattr(made, name, getattr(cause, name))
        made.message, made.hint = error.message, error.hint
    except Exception:  # noqa: BLE001 - a user's class may refuse to be derived from, or made, in any way
        return None
    return made if isinstance(made, AncestorFailed) else None


def _reduce_both(error: AncestorFailed) -> tuple[object, ...]:
    return _rebuild_both, (error.message, error.hint, error.__cause__)


def _rebuild_both(message: str, hint: str | None, cause: BaseException) -> AncestorFailed:
    return AncestorFailed(message, hint=hint).because_of(cause)
