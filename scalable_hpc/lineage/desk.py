"""Where other threads leave what they want of the keeper, and are answered if they come too late.

Rule 1: every method is for any thread; nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.inbox import (
    Cancellation,
    Command,
    Finding,
    Hits,
    Inbox,
    Keeping,
    OnDone,
    Reading,
    Renewal,
    Submission,
    Surrender,
)
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.lineage.turn import tell_outcome
from scalable_hpc.model.events import HIT_KEY
from scalable_hpc.model.tasks import Hit, Locator, TaskSpec


class Desk:
    """Takes wishes; whoever takes them from the inbox carries them out."""

    def __init__(self) -> None:
        self._inbox = Inbox()
        self._broken: BaseException | None = None
        """Why nothing can be done any more."""

    def submit(self, spec: TaskSpec, on_done: OnDone) -> None:
        """Have a task run; ``on_done`` is called once, on the loop, and must be quick."""
        self.submit_many([(spec, on_done)])

    def submit_many(self, pairs: Iterable[tuple[TaskSpec, OnDone]]) -> None:
        """Have many tasks run, each with its own ``on_done``; ancestors come before their dependents."""
        submissions = [Submission(spec, on_done) for spec, on_done in pairs]
        if not self._inbox.put(submissions):
            self._turn_away(submissions)

    def cancel(self, task_id: str, because: str = "its future was cancelled") -> None:
        """Stop a task wherever it is; one that is over or unknown is no error."""
        self._inbox.put([Cancellation(task_id, because)])

    def count_hits(self, name: str, keys: Sequence[str]) -> None:
        """Note calls that were answered from the store, by their keys (64 hex digits each)."""
        self._inbox.put([Hits(name, len(keys), bytes.fromhex("".join(key[: 2 * HIT_KEY] for key in keys)))])

    def read(self, task_id: str, on_done: OnDone) -> None:
        """Have a result stored that only a worker holds, computed again if need be; tell where it lies then."""
        self._ask(Reading(task_id, on_done), "the session was closed, and its workers with what they held")

    def renew(self, spec: TaskSpec, digest: str, on_done: OnDone, above: tuple[Hit, ...] = ()) -> None:
        """Have a stored result made again that was found to be damaged, by its digest; tell where it lies then."""
        self._ask(Renewal(spec, digest, on_done, above), "it is damaged, and the session was closed")

    def _ask(self, command: Reading | Renewal, because: str) -> None:
        if not self._inbox.put([command]):
            task_id = command.task_id if isinstance(command, Reading) else command.spec.task_id
            cancelled = self._broken is None
            tell_outcome(command.on_done, Outcome(task_id, error=self._broken, cancelled=cancelled, because=because))

    def keep(self, calls: Iterable[TaskSpec]) -> None:
        """Have the journal know of calls that were answered from a store, before one that needs them is submitted."""
        self._inbox.put([Keeping(spec) for spec in calls])

    def found(self, pairs: Iterable[tuple[TaskSpec, Locator]]) -> None:
        """Hear of calls that were answered from a store, and that are tasks of an earlier driver without a result."""
        self._inbox.put([Finding(spec, result) for spec, result in pairs])

    def fail_all(self, error: ScalableError) -> None:
        """Fail every task that is not over, and every one that comes later: nothing can be run any more."""
        self._inbox.put([Surrender(error)])

    def _turn_away(self, commands: Iterable[Command]) -> None:
        """Answer those that come too late."""
        for command in commands:
            if isinstance(command, (Submission, Reading, Renewal)):
                task_id = command.task_id if isinstance(command, Reading) else command.spec.task_id
                error = self._broken
                outcome = Outcome(task_id, error=error, cancelled=error is None, because="the session was closed")
                tell_outcome(command.on_done, outcome)
