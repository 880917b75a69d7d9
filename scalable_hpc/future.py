"""The future of one submitted call: a ``concurrent.futures.Future`` whose value is read when it is asked for.

Rule 1: nothing here knows Dask, journals or fleets; what a future can ask of its run it asks through a port.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from scalable_hpc.model.tasks import Hit, ResultRef


class RemoteTraceback(Exception):
    """The traceback of an exception as it was raised in a slot; set as its ``__cause__``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class Stored:
    """A durable result that is read from its store on first use, then kept."""

    __slots__ = ("_load", "_lock", "_value")

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load: Callable[[], Any] | None = load
        self._lock = threading.Lock()
        self._value: Any = None

    def value(self) -> Any:
        """Read the result; every caller gets the same object."""
        with self._lock:
            if self._load is not None:
                self._value = self._load()
                self._load = None
            return self._value


class Owner(Protocol):
    """What a future asks of the run that it belongs to."""

    def cancel_task(self, task_id: str) -> None:
        """Stop the task wherever it is."""

    def is_running(self, task_id: str) -> bool:
        """Whether an attempt of the task is on a worker now."""


class ScalableFuture(Future[Any]):
    """The result of one call, to come.

    Works with ``concurrent.futures.wait`` and ``as_completed`` and with ``asyncio.wrap_future``, and may be an
    argument of later calls, nested in lists, tuples and dicts too.

    Attributes:
        task_id: the task's name in the run: ``run_simulation-00042``.
        key: its lineage key (64 hex digits).
        label: the call as a person would write it.
    """

    def __init__(self, *, task_id: str, key: str, label: str, owner: Owner) -> None:
        super().__init__()
        self.task_id = task_id
        self.key = key
        self.label = label
        self._owner = owner
        self.call: tuple[Any, ...] | None = None
        """What was submitted, so that ``Batch.retry_failed`` can submit it again."""
        self.above: tuple[ScalableFuture, ...] = ()
        """The futures among its arguments, until it has its result."""
        self.hit: Hit | None = None
        """What it was that was answered from a store, should the result be lost there."""

    @property
    def ref(self) -> ResultRef:
        """What stands for this future in the arguments of another task."""
        return ResultRef(self.task_id, self.key)

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result, and was not cancelled."""
        return self.done() and not self.cancelled() and self.exception() is not None

    def result(self, timeout: float | None = None) -> Any:
        """Return the value, waiting up to ``timeout`` seconds.

        Raises:
            TimeoutError: the task has not ended in time (it goes on).
            CancelledError: the task was cancelled.
            Exception: the task's own exception, or a ``TaskError`` that says what became of it.
        """
        value = super().result(timeout)
        return value.value() if isinstance(value, Stored) else value

    def running(self) -> bool:
        """Whether an attempt of this task is on a worker now."""
        return not self.done() and self._owner.is_running(self.task_id)

    def cancel(self) -> bool:
        """Cancel the call, also while it runs (its process group is killed); False when it is over already."""
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        self._owner.cancel_task(self.task_id)
        return True

    def give_up(self) -> None:
        """Become cancelled without asking the run, which said so itself."""
        if not self.done() and super().cancel():
            self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "waiting"
        return f"<ScalableFuture {self.task_id} {state}: {self.label}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"a future cannot be pickled: {self.task_id!r}; pass it as an argument (or in a list, tuple or dict)"
            " of client.submit, and the task will get its result"
        )
