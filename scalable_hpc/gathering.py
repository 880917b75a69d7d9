"""Many futures at once: gather, collect, and the Batch that keeps what succeeded apart from what did not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field
from typing import Any, Literal

from scalable_hpc.errors import AncestorFailed, ScalableError
from scalable_hpc.future import ScalableFuture
from scalable_hpc.model.tasks import ResultRef

_KINDS = 20
"""Kinds of failure that a summary tells apart; more are no summary."""
_NAMED = 3
"""Calls that are named of each kind of failure; the rest are counted."""
Errors = Literal["raise", "skip", "return"]


class BatchFailed(ScalableError):
    """Fewer calls of a batch succeeded than were asked for."""

    exit_code = 31


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a number of calls; making one never raises for a task."""

    futures: tuple[ScalableFuture, ...]
    ok: tuple[ScalableFuture, ...]
    failed: tuple[ScalableFuture, ...]
    cancelled: tuple[ScalableFuture, ...]
    _submit_again: Callable[[Sequence[ScalableFuture]], list[ScalableFuture]] = field(repr=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._head()}>"  # a notebook shows it; there may be thousands

    def results(self) -> list[Any]:
        """Return the values of the calls that succeeded, in the order of submission."""
        return [future.result() for future in self.ok]

    def errors(self) -> dict[ScalableFuture, BaseException]:
        """Return the exception of each call that failed."""
        return {future: _exception(future) for future in self.failed}

    def summary(self) -> str:
        """Say in a line how many succeeded, failed and were cancelled, then each kind of failure with its calls."""
        kinds: dict[str, list[str]] = {}
        for future, error in self.errors().items():
            kinds.setdefault(_kind(error), []).append(future.label)
        lines = [f"  {_some(labels)}: {error}" for error, labels in kinds.items()]
        more = len(lines) - _KINDS
        return "\n".join(
            [self._head(), *lines[:_KINDS], *([f"  and {more:,} more kinds of failure"] if more > 0 else [])]
        )

    def _head(self) -> str:
        head = f"{len(self.ok)} of {len(self.futures)} succeeded"
        head += f", {len(self.failed)} failed" if self.failed else ""
        return head + (f", {len(self.cancelled)} cancelled" if self.cancelled else "")

    def retry_failed(self) -> list[ScalableFuture]:
        """Submit every failed call again, with all its attempts anew; failed calls that it depends on before it."""
        return self._submit_again(self.failed)

    def raise_if_failed(self, at_least: float = 1.0) -> None:
        """Raise unless at least this share of the calls succeeded (1.0: all).

        Raises:
            BatchFailed: too few did; its cause is the first failure.
            ValueError: the share is not one from 0 to 1.
        """
        if not 0 <= at_least <= 1:
            raise ValueError(f"at_least must be a share from 0 to 1: {at_least!r}")
        share = len(self.ok) / len(self.futures) if self.futures else 1.0
        if share >= at_least:
            return
        first = _exception(self.failed[0]) if self.failed else None
        raise BatchFailed(
            f"{share:.1%} of the calls succeeded, {at_least:.1%} were asked for\n{self.summary()}",
            hint="batch.retry_failed() submits the failed calls again",
        ) from first


def _kind(error: BaseException) -> str:
    """Say what happened, alike for all that fell with the same ancestor."""
    cause = error.__cause__
    if isinstance(error, AncestorFailed) and cause is not None:
        return f"AncestorFailed because of {type(cause).__name__}: {cause}"
    return f"{type(error).__name__}: {error}"


def _some(labels: list[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _exception(future: ScalableFuture) -> BaseException:
    error = future.exception()
    if error is None:
        raise ValueError(f"the call did not fail: {future.label!r}")
    return error


def collect(
    futures: Iterable[ScalableFuture], submit_again: Callable[[Sequence[ScalableFuture]], list[ScalableFuture]]
) -> Batch:
    """Wait for all futures and sort them by what became of them."""
    everything = tuple(futures)
    wait(everything)
    cancelled = tuple(future for future in everything if future.cancelled())
    over = [future for future in everything if not future.cancelled()]
    failed = tuple(future for future in over if future.exception() is not None)
    ok = tuple(future for future in over if future.exception() is None)
    return Batch(everything, ok, failed, cancelled, submit_again)


def gather(futures: Any, *, errors: Errors = "raise") -> Any:
    """Return the values of futures, keeping the shape of lists, tuples, sets and dicts around them.

    Args:
        futures: one future, or futures nested in containers.
        errors: ``"raise"`` re-raises the first failure; ``"skip"`` leaves failed and cancelled calls out of
            lists, tuples, sets and dicts (a single failed future gives None); ``"return"`` puts the exception in
            the place of the value.
    """
    if errors not in ("raise", "skip", "return"):
        raise ValueError(f"errors must be 'raise', 'skip' or 'return': {errors!r}")
    found = list(_gather(futures, errors))
    return found[0] if found else None


def _gather(node: Any, errors: Errors) -> Iterator[Any]:
    """Yield the gathered node, or nothing when it is to be skipped."""
    if isinstance(node, ScalableFuture):
        try:
            yield node.result()
        except CancelledError as cancelled:
            if errors == "raise":
                raise
            if errors == "return":
                yield cancelled
        except Exception as error:
            if errors == "raise":
                raise
            if errors == "return":
                yield error
    elif isinstance(node, dict):
        yield {key: value for key, child in node.items() for value in _gather(child, errors)}
    elif isinstance(node, (list, tuple, set, frozenset)) or (
        isinstance(node, Iterator) and not isinstance(node, (str, bytes))
    ):
        values = [value for child in node for value in _gather(child, errors)]
        yield rebuild(node, values) if isinstance(node, (list, tuple, set, frozenset)) else values
    else:
        yield node


def rebuild(like: Any, values: list[Any]) -> Any:
    """Return ``values`` in a container of the same kind; named tuples keep their type."""
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*values)
    return type(like)(values)


def replace_futures(node: Any, found: list[ScalableFuture]) -> Any:
    """Return ``node`` with every future replaced by its ResultRef, and note these in ``found``.

    Looks into lists, tuples, sets and dicts (their keys excepted), as deep as they go; other objects are left alone,
    and containers without futures are returned as they are, not copied.
    """
    if isinstance(node, ScalableFuture):
        found.append(node)
        return node.ref
    if isinstance(node, dict) and type(node) is dict:
        before = len(found)
        replaced = {key: replace_futures(value, found) for key, value in node.items()}
        return replaced if len(found) > before else node
    if isinstance(node, (list, tuple, set, frozenset)):
        before = len(found)
        values = [replace_futures(value, found) for value in node]
        return rebuild(node, values) if len(found) > before else node
    return node


def restore_futures(node: Any, futures: Mapping[str, ScalableFuture]) -> Any:
    """Undo ``replace_futures``: return ``node`` with every ResultRef replaced by the future of its task."""
    if isinstance(node, ResultRef):
        return futures[node.task_id]
    if isinstance(node, dict) and type(node) is dict:
        return {key: restore_futures(value, futures) for key, value in node.items()}
    if isinstance(node, (list, tuple, set, frozenset)):
        return rebuild(node, [restore_futures(value, futures) for value in node])
    return node
