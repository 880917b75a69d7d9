"""What the client asks of the run that it submits to; the wiring gives it one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from scalable_hpc.call import Call
from scalable_hpc.future import Owner, ScalableFuture
from scalable_hpc.model.tasks import Hit, Locator, TaskSpec

_T = TypeVar("_T")


class Run(Owner, Protocol):
    """What the client asks of the run that it submits to."""

    def cache_of(self, name: str) -> bool | None:
        """What the manifest says of caching a task: yes, no, or nothing."""

    def is_pure(self, name: str) -> bool:
        """What the manifest says of a task: whether the same call always gives the same result."""

    def persists(self, name: str) -> bool:
        """What the manifest says of a task: whether its results are stored."""

    @property
    def has_past(self) -> bool:
        """Whether an earlier driver of this run left results, so that any call may be known."""

    def specify(self, call: Call) -> TaskSpec:
        """Name the task and fill in what the manifest says about it."""

    def known(self, specs: Sequence[TaskSpec]) -> list[Locator | None]:
        """Where the results lie that are known already; one look for news serves all of them."""

    def watched(self, calls: Iterable[_T], count: int) -> Iterable[_T]:
        """Yield calls while somebody at a terminal is shown how many have been looked at."""

    def load(self, spec: TaskSpec, locator: Locator, above: tuple[Hit, ...] = ()) -> Any:
        """Read a result, or have it made again when it is damaged; ``above``: what of its ancestors were hits."""

    def forget(self, task_id: str) -> None:
        """Hear that nobody has the future of a task any more."""

    def describe(self) -> str:
        """Say which run it is, where, and how far."""

    def put(self, value: Any, label: str) -> ScalableFuture:
        """Make a value durable and return a future of it that is done."""

    def accept(self, pairs: Sequence[tuple[TaskSpec, ScalableFuture]]) -> None:
        """Take over calls that must be run."""

    def count_hits(self, name: str, keys: Sequence[str]) -> None:
        """Note calls that were answered from the store, by their keys."""

    def resumed(self, found: Sequence[tuple[TaskSpec, Locator]]) -> None:
        """Note calls that were answered from the store, and that an earlier driver of this run had made: no hits."""

    def dask_client(self) -> Any:
        """A plain ``distributed.Client`` connected to the run's scheduler."""

    def finish(self, *, wait: bool, cancel: bool) -> None:
        """Cancel what has not begun if asked to, and wait for the rest if asked to."""

    def close(self) -> None:
        """End the run."""
