"""The run as client and futures see it: calls in, answers out, from any thread.

Rule 1: nothing here touches the engine's loop but through ``Engine``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import InvalidStateError
from concurrent.futures import wait as wait_for_futures
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from scalable_hpc.backends import fit_to_own_job, make_backend
from scalable_hpc.cache.decorator import set_default_store_root
from scalable_hpc.cache.keyring import share_keys
from scalable_hpc.cache.layout import trust_group
from scalable_hpc.cache.record import Unstorable
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.settings import care_of, set_settings
from scalable_hpc.call import Call
from scalable_hpc.config.growth import grown
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.derived import sum_up
from scalable_hpc.engine import Engine
from scalable_hpc.exits import ExitWatch
from scalable_hpc.future import ScalableFuture, Stored
from scalable_hpc.lineage.census import Progress
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.model.messages import WorkerHello
from scalable_hpc.model.tasks import PUT, Hit, Locator, TaskSpec, unkept
from scalable_hpc.naming import Naming, is_sampled, verification_of
from scalable_hpc.planning import Plan
from scalable_hpc.raising import error_of
from scalable_hpc.reading import Reader
from scalable_hpc.results import Stores, key_of_value
from scalable_hpc.runs import RunDirectory, create_run
from scalable_hpc.takeover import description
from scalable_hpc.telemetry.frame import say_counts

if TYPE_CHECKING:
    from scalable_hpc.telemetry.progress import ProgressDisplay

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_HITS_KEPT = 1000
"""Of one call: the journal of one that adds up a million results is not to hold all of their calls too."""
_PUT_DIGITS = 24
"""Of a content's key: enough to be its name in a run, since two contents of one name would be one to the keeper."""


class LiveRun:
    """One run, from its start to its close."""

    def __init__(
        self,
        manifest: ResolvedManifest,
        plan: Plan,
        directory: RunDirectory | None = None,
        *,
        retry_quarantined: bool = False,
    ) -> None:
        """Start it.

        Args:
            manifest: what it runs on.
            plan: kept in its directory.
            directory: of a run to take up again; None: a new one is made.
            retry_quarantined: try again what an earlier driver of it had convicted.

        Raises:
            MissingCommandError: a command of the batch system is not on PATH.
            RunDirectoryError: the run directory cannot be made or written.
            StoreError: there is no key to seal results with.
        """
        make_backend(manifest.target, RunDirectory(manifest.runs_root)).check()
        manifest = fit_to_own_job(manifest, RunDirectory(manifest.runs_root))
        set_default_store_root(manifest.cache_root)
        trust_group(manifest.cache_group)
        set_settings(care_of(manifest.cache_durability, manifest.cache_verify))
        if directory is None:
            directory = create_run(manifest.runs_root)
            directory.describe(manifest.path.read_text(), json.dumps(description(plan), indent=1))
        share_keys(directory.store_key)
        self.directory = directory
        self.is_closed = False
        self._target = manifest.target.name
        self._futures: dict[str, ScalableFuture] = {}
        self._lock = threading.Lock()
        self._stores = Stores()
        self._engine = Engine(
            grown(manifest), self.directory, self._stores, self.hit_of, retry_quarantined=retry_quarantined
        )
        self._reader = Reader(self._stores, self._engine)
        self._engine.start(self._broken)
        last = self._engine.last_number
        self.has_past = last > 0
        store = str(self.directory.results)
        self._naming = Naming(
            manifest, self.directory.run_id, store, first_number=last + 1, claim=self._engine.claims.take
        )
        self._dask: Any = None
        self._dask_lock = threading.Lock()
        self._exit_watch = ExitWatch(self.close)
        self._display = self._show_progress(manifest) if _wants_progress() else None
        for issue in manifest.warnings:
            logger.warning("%s", issue.message)

    # What the client asks.

    def cache_of(self, name: str) -> bool | None:
        """What the manifest says of caching a task: yes, no, or nothing."""
        return self._naming.cache_of(name)

    def is_pure(self, name: str) -> bool:
        """What the manifest says of a task: whether the same call always gives the same result."""
        return self._naming.is_pure(name)

    def persists(self, name: str) -> bool:
        """What the manifest says of a task: whether its results are stored."""
        return self._naming.persists(name)

    def specify(self, call: Call) -> TaskSpec:
        """Name the task and fill in what the manifest says about it."""
        return self._naming.specify(call)

    def known(self, specs: Sequence[TaskSpec]) -> list[Locator | None]:
        """Where the results lie that are known already; what is found counts as hits of its store."""
        by_store: dict[str, list[str]] = {}
        for spec in specs:
            by_store.setdefault(spec.store, []).append(spec.key)
        found = {store: iter(self._stores.find_hits(store, keys)) for store, keys in by_store.items()}
        return [next(found[spec.store]) for spec in specs]

    def watched(self, calls: Iterable[_T], count: int) -> Iterable[_T]:
        """Yield calls while a terminal shows how many have been looked at; a display that is there is left alone."""
        if self._display is not None or not sys.stderr.isatty():
            return calls
        from scalable_hpc.telemetry.counting import counted

        return counted(calls, count, "looking for known results")

    def hit_of(self, task_id: str, ancestor_id: str) -> Hit | None:
        """Return what an open task depends on that was answered from a store; None: it was not, or is not known."""
        with self._lock:
            future = self._futures.get(task_id)
        above = () if future is None else future.above
        return next((one.hit for one in above if one.task_id == ancestor_id), None)

    def load(self, spec: TaskSpec, locator: Locator, above: tuple[Hit, ...] = ()) -> Any:
        """Read a result; one that turns out damaged is made again, one that a worker holds is stored first."""
        return self._reader.load(spec, locator, above)

    def forget(self, task_id: str) -> None:
        """Hear that nobody has the future of a task any more."""
        self._engine.keeper.forget(task_id)

    def describe(self) -> str:
        """Say which run it is, where, and how far."""
        closed = ", closed" if self.is_closed else ""
        progress = say_counts(self._engine.keeper.progress())
        return f"run '{self.directory.run_id}' on target '{self._target}'{closed}: {progress}"

    def put(self, value: Any, label: str) -> ScalableFuture:
        """Make a value durable in the run's own store, under a key of its content."""
        try:
            data = dumps(value)
        except Unstorable as err:
            raise TypeError(f"{label} cannot be sent to a worker: {err}") from err
        key = key_of_value(data)
        store = self._stores.at(str(self.directory.results))
        place = store.publish(key, data)
        self._stores.remember(key, value, data)
        self._stores.let_go_of_values()
        future = ScalableFuture(task_id=f"{PUT}{key[:_PUT_DIGITS]}", key=key, label=label, owner=self)
        future.set_result(Stored(partial(self._reader.load_value, place)))
        return future

    def accept(self, pairs: Sequence[tuple[TaskSpec, ScalableFuture]]) -> None:
        """Take over calls that must be run."""
        self._stores.let_go_of_values()
        with self._lock:
            self._futures.update({spec.task_id: future for spec, future in pairs})
        self._engine.keeper.keep([hit.spec for _, future in pairs for hit in _to_be_kept(future)])
        self._engine.keeper.submit_many([(spec, self._told(spec)) for spec, _ in pairs])
        self._engine.wake()

    def count_hits(self, name: str, keys: Sequence[str]) -> None:
        """Note calls that were answered from the store, by their keys."""
        self._engine.keeper.count_hits(name, keys)

    def resumed(self, found: Sequence[tuple[TaskSpec, Locator]]) -> None:
        """Note calls that were answered from the store, and that are tasks of an earlier driver of this run."""
        has_result = self._engine.claims.has_result
        news = [(spec, place) for spec, place in found if not has_result(spec.task_id)]
        if news:
            self._engine.keeper.found(news)

    def cancel_task(self, task_id: str) -> None:
        """Stop a task wherever it is."""
        self._engine.keeper.cancel(task_id)

    def is_running(self, task_id: str) -> bool:
        """Whether an attempt of the task is on a worker now."""
        return self._engine.keeper.is_running(task_id)

    def dask_client(self) -> Any:
        """A plain ``distributed.Client`` connected to the run's scheduler; closed with the run."""
        with self._dask_lock:  # its own: connecting needs the loop, and the loop's callbacks take the other
            if self._dask is None:
                self._dask = self._engine.dask_client()
            return self._dask

    def finish(self, *, wait: bool, cancel: bool) -> None:
        """Cancel what is not over if asked to, and wait for the rest if asked to."""
        if cancel:
            for future in self._unfinished():
                future.cancel()
        while wait and (left := self._unfinished()):  # what ends may have another one verify it
            wait_for_futures(left)

    def wait_until_done(self) -> Progress:
        """Wait until no task is left to be run, and say what became of them."""
        while (progress := self._engine.keeper.progress()).waiting + progress.running:
            self._engine.wake()
            self._engine.wait_a_moment()
        return progress

    def workers(self) -> list[WorkerHello]:
        """What each worker that is connected said of itself."""
        return [] if self.is_closed else self._engine.look()[2]

    def close(self, *, patient: bool = True) -> None:
        """Give every allocation back and close the journal; a second call does nothing.

        A patient close of a run that is complete waits, for half a minute at most, to hear from the batch system why
        allocations were lost, so that the journal can say it.

        Futures that are not over are cancelled; their tasks stay open in the journal, for ``scalable-hpc resume``.
        A driver that was warned of its own end leaves the allocations to the run's next driver while tasks are open.
        """
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
        self._exit_watch.end()
        leaves = self._exit_watch.was_warned
        unfinished = self._unfinished()
        for future in unfinished:
            future.give_up()
        if self._dask is not None:
            self._dask.close()
        if self._display is not None:
            self._display.stop()
        because = "the driver was warned of its end" if leaves else "the session ended"
        is_left = leaves and bool(unfinished)
        words = self._engine.close(because, patient=patient and not unfinished, leave=is_left)
        self._stores.close()
        sum_up(self.directory)
        logger.info("%s", words)
        if self._display is not None:
            print(f"scalable-hpc: {words}", file=sys.stderr)  # noqa: T201 - the last line of the display

    # What the engine tells.

    def _told(self, spec: TaskSpec) -> Callable[[Outcome], None]:
        def on_done(outcome: Outcome) -> None:
            with self._lock:
                future = self._futures.pop(spec.task_id, None)
            if future is not None:
                with contextlib.suppress(InvalidStateError):  # cancelled by its owner a moment ago
                    self._complete(future, spec, outcome)

        return on_done

    def _complete(self, future: ScalableFuture, spec: TaskSpec, outcome: Outcome) -> None:
        if outcome.result is not None:
            locator = outcome.result
            self._verify(spec, outcome)
            future.set_result(Stored(lambda: self.load(spec, locator)))
        elif outcome.cancelled:
            future.give_up()
        else:
            future.set_exception(error_of(outcome, spec.label))

    def _verify(self, spec: TaskSpec, outcome: Outcome) -> None:
        """Have a task computed once more if it is one of those that are to be verified."""
        if spec.verify_pure and not outcome.reused and is_sampled(spec.key, spec.verify_pure):
            once_more = verification_of(spec, str(self.directory.results))
            future = ScalableFuture(task_id=once_more.task_id, key=once_more.key, label=once_more.label, owner=self)
            self.accept([(once_more, future)])

    def _broken(self, trouble: BaseException) -> None:
        """Fail every future: the run itself cannot go on."""
        for future in self._unfinished():
            with contextlib.suppress(InvalidStateError):
                future.set_exception(trouble)

    def _show_progress(self, manifest: ResolvedManifest) -> ProgressDisplay:
        from scalable_hpc.telemetry.progress import ProgressDisplay

        title = f"{manifest.project_name} on {manifest.target.name}"
        display = ProgressDisplay(lambda: self._engine.look()[:2], title)
        display.start()
        return display

    def _unfinished(self) -> list[ScalableFuture]:
        with self._lock:
            return [future for future in self._futures.values() if not future.done()]


def _to_be_kept(future: ScalableFuture) -> list[Hit]:
    """Return the calls that a call needs, were answered from a store, and that the journal does not know yet."""
    hits = [above.hit for above in future.above if above.hit is not None]
    return unkept(hits) if len(hits) <= _HITS_KEPT else []


def _wants_progress() -> bool:
    return os.environ.get("SCALABLE_HPC_PROGRESS", "0") not in ("", "0")
