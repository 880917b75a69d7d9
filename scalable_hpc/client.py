"""The client: calls in, futures out.

Rule 1: a call whose key is known to the store is answered here, before anything is journalled or requested.
Rule 2: nothing here blocks on the cluster; all that is done is handed to the run through a port.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

from scalable_hpc.call import Options, call_name, check_names, make_call, pickle_function, show
from scalable_hpc.future import ScalableFuture, Stored
from scalable_hpc.gathering import Batch, Errors, collect, gather, replace_futures, restore_futures
from scalable_hpc.model.tasks import Hit, Locator, Payload, TaskSpec
from scalable_hpc.run_port import Run

if TYPE_CHECKING:
    from typing_extensions import Self

_OURS = frozenset(Options.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call that was named, and whether an equal one may have been made before."""

    spec: TaskSpec
    future: ScalableFuture
    options: Options
    may_be_known: bool
    bare: tuple[Any, Any]
    """Its arguments, with references in the place of futures: who keeps a call need not keep those."""


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Pause the collector of cycles: all that a map makes is kept, and looking through it doubles the work."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class ScalableClient(concurrent.futures.Executor):
    """Submits calls and returns futures; a ``concurrent.futures.Executor``.

    ``map`` differs from the standard library's: it returns a list of futures at once, as Dask's does, so that
    one failure does not hide the results behind it; ``gather`` turns them into values.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._closed = False
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._run.describe()}>"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ScalableFuture:
        """Submit one call and return its future.

        Futures among the arguments, nested in lists, tuples and dicts too, are replaced by their results where
        the call runs.

        Keyword arguments that are ours and do not reach ``fn``:

        Args:
            fn: what to call; functions of ``__main__`` and lambdas travel by value, others by name.
            *args: for ``fn``.
            **kwargs: for ``fn``, except for these:
                task: the task of the manifest whose component, needs and retry policy hold (default: the
                function's name, when the manifest has a task of that name).
                tag: a worker type (component) by name.
                retries: extra attempts after failures that are charged (int).
                retry: a RetryPolicy, for all of it.
                timeout: seconds after which an attempt is killed and fails.
                expected_runtime: seconds; an attempt starts only where that much time is left.
                cpus, memory, gpus: what one attempt needs (memory as ``"4G"`` or bytes).
                priority: higher goes first (int).
                key: names the call; in one run, calls with the same key are one task.
                checkpoints: it saves its state and raises ``Checkpointed`` when ``context().should_stop``, so it
                may be expected to run longer than any allocation lasts.
                pure: False: calling it again may give something else (default: as the manifest says, else True).
                Its first result counts; it is not looked up in the shared cache, nor kept there.
                persist: False: a large result is not stored but held by the worker that computed it, for calls that
                need it; if that worker is lost, it is computed again as far as it is needed.
                verify_pure: ``"sample"`` (5 %) or a share from 0 to 1 of calls that are computed once more; a result
                that differs is reported, and the first one stays.
        """
        ours, theirs = self._split(kwargs)
        return self._submit_all(fn, [(args, theirs)], ours)[0]

    def map(  # type: ignore[override]
        self, fn: Callable[..., Any], /, *iterables: Iterable[Any], **kwargs: Any
    ) -> list[ScalableFuture]:
        """Submit ``fn`` for each tuple of the zipped iterables; return the futures in that order.

        Keyword arguments as for ``submit``; those that are not ours go to every call. ``key`` may be a list of
        keys, one a call.
        """
        ours, theirs = self._split(kwargs)
        calls = [(args, theirs) for args in zip(*iterables, strict=False)]
        return self._submit_all(fn, calls, ours)

    def put(self, value: Any) -> ScalableFuture:
        """Put a value into the run's store once, for any number of calls, and return a future of it that is done.

        The future may be an argument anywhere, nested too. What is stored is what the value is now; equal bytes are
        stored once. It is read by workers straight from the store, and outlives all of them.

        Raises:
            TypeError: the value cannot be pickled.
            StoreError: it cannot be written.
        """
        if self._closed:
            raise RuntimeError("cannot put after close(); start a new session")
        if isinstance(value, ScalableFuture):
            raise TypeError(f"a future needs no put, it can be an argument as it is: {value!r}")
        return self._run.put(value, show(value))

    def scatter(self, value: Any) -> ScalableFuture:
        """Do what ``put`` does, by the name that Dask has for the like; a list is one value, and gives one future."""
        return self.put(value)

    def gather(self, futures: Any, *, errors: Errors = "raise") -> Any:
        """Return the values of futures, keeping the shape of the lists, tuples and dicts around them.

        ``errors="raise"`` re-raises the first failure, ``"skip"`` leaves failed calls out, ``"return"`` puts the
        exception in the value's place.
        """
        return gather(futures, errors=errors)

    def collect(self, futures: Iterable[ScalableFuture]) -> Batch:
        """Wait for all futures and sort them into ``ok``, ``failed`` and ``cancelled``; never raises for a task."""
        return collect(futures, self._submit_again)

    def as_completed(
        self, futures: Iterable[ScalableFuture], *, timeout: float | None = None
    ) -> Iterator[ScalableFuture]:
        """Yield futures as they end, in whichever way; ``timeout`` (seconds) bounds the whole iteration."""
        for future in concurrent.futures.as_completed(futures, timeout=timeout):
            assert isinstance(future, ScalableFuture)
            yield future

    def cancel(self, futures: ScalableFuture | Iterable[ScalableFuture]) -> int:
        """Cancel futures, running ones too; return how many were not over yet."""
        several = [futures] if isinstance(futures, ScalableFuture) else futures
        return sum([future.cancel() for future in several])

    @property
    def dask(self) -> Any:
        """A plain ``distributed.Client`` on the same scheduler; what is submitted to it is Dask's to look after."""
        return self._run.dask_client()

    def close(self) -> None:
        """End the run: journal flushed, allocations given back."""
        self._closed = True
        self._run.close()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - stdlib's
        """Do what ``Executor.shutdown`` promises, then end the run."""
        self._run.finish(wait=wait, cancel=cancel_futures)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True)

    @staticmethod
    def _split(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        ours = {name: value for name, value in kwargs.items() if name in _OURS}
        theirs = {name: value for name, value in kwargs.items() if name not in _OURS}
        return ours, theirs

    def _submit_again(self, futures: Sequence[ScalableFuture]) -> list[ScalableFuture]:
        """Submit failed calls again, each after the failed ones among those that it depends on."""
        anew: dict[str, ScalableFuture] = {}
        stack = list(reversed(futures))
        while stack:
            future = stack[-1]
            failed = [above for above in future.above if above.has_failed and above.task_id not in anew]
            if failed and future.task_id not in anew:
                stack += failed
                continue
            stack.pop()
            if future.task_id not in anew:
                anew[future.task_id] = self._once_more(future, anew)
        return [anew[future.task_id] for future in futures]

    def _once_more(self, future: ScalableFuture, anew: Mapping[str, ScalableFuture]) -> ScalableFuture:
        if future.call is None:
            raise ValueError(f"this future was not submitted by a client: {future.label!r}")
        fn, args, kwargs, ours = future.call
        above = {**{one.task_id: one for one in future.above}, **anew}
        calls = [(restore_futures(args, above), restore_futures(kwargs, above))] if future.above else [(args, kwargs)]
        return self._submit_all(fn, calls, ours)[0]

    def _submit_all(
        self, fn: Callable[..., Any], calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]], ours: dict[str, Any]
    ) -> list[ScalableFuture]:
        if self._closed:
            raise RuntimeError("cannot submit after close(); start a new session")
        function = pickle_function(fn)
        check_names(fn, calls[0][1] if calls else ())
        key = ours.get("key")
        keys = list(key) if isinstance(key, (list, tuple)) else None
        if keys is not None and len(keys) != len(calls):
            raise ValueError(f"map got {len(keys)} keys for {len(calls)} calls")
        each = repeat(Options(**ours)) if keys is None else [Options(**{**ours, "key": one}) for one in keys]
        with _nothing_collected():
            asked = [
                self._ask(fn, function, args, kwargs, options)
                for (args, kwargs), options in self._run.watched(zip(calls, each, strict=False), len(calls))
            ]
            for one in asked:
                args, kwargs = one.bare
                one.future.call = (fn, args, kwargs, ours if keys is None else {**ours, "key": one.options.key})
            self._answer(asked)
        return [one.future for one in asked]

    def _ask(
        self,
        fn: Callable[..., Any],
        function: Payload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> _Asked:
        """Name one call, and make its future."""
        found: list[ScalableFuture] = []
        name = options.task or call_name(fn)
        cache = self._run.cache_of(name)
        pure = self._run.is_pure(name) if options.pure is None else options.pure
        if options.persist is None and options.key is None and pure and not self._run.persists(name):
            options = replace(options, persist=False)
        bare = replace_futures(args, found), replace_futures(kwargs, found)
        call = make_call(fn, function, *bare, options, cache=cache, pure=pure)
        if call.warning and call.warning not in self._warned:
            self._warned.add(call.warning)
            warnings.warn(call.warning, stacklevel=5)
        call.ancestors = tuple({above.task_id: above.ref for above in found}.values())
        spec = self._run.specify(call)
        future = ScalableFuture(task_id=spec.task_id, key=spec.key, label=spec.label, owner=self._run)
        may_be_known = not call.refresh and (call.may_be_known or self._run.has_past)
        if found:
            future.above = tuple(found)
            future.add_done_callback(_let_go_of_ancestors)
        if not spec.persist:
            weakref.finalize(future, self._run.forget, spec.task_id).atexit = False
        return _Asked(spec, future, options, may_be_known, bare)

    def _answer(self, asked: Sequence[_Asked]) -> None:
        """Complete what is known, all looked up at once, and have the rest run."""
        may_be_known = [one for one in asked if one.may_be_known]
        found = self._run.known([one.spec for one in may_be_known])
        places = {one.spec.task_id: place for one, place in zip(may_be_known, found, strict=True) if place is not None}
        hits: dict[str, list[str]] = {}
        resumed: list[tuple[TaskSpec, Locator]] = []
        misses: list[tuple[TaskSpec, ScalableFuture]] = []
        for one in asked:
            place = places.get(one.spec.task_id)
            if place is None:
                misses.append((one.spec, one.future))
            else:
                above = tuple(future.hit for future in one.future.above if future.hit is not None)
                one.future.hit = Hit(one.spec, above)
                one.future.set_result(Stored(partial(self._run.load, one.spec, place, above)))
                if one.spec.is_resumed:
                    resumed.append((one.spec, place))
                else:
                    hits.setdefault(one.spec.task_id.rpartition("-")[0], []).append(one.spec.key)
        for name, keys in hits.items():
            self._run.count_hits(name, keys)
        if resumed:
            self._run.resumed(resumed)
        if misses:
            self._run.accept(misses)


def _let_go_of_ancestors(future: concurrent.futures.Future[Any]) -> None:
    """Keep the futures that a call depends on no longer than it may have to be submitted again."""
    if isinstance(future, ScalableFuture) and not future.has_failed:
        future.above = ()
