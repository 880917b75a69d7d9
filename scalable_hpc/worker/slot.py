"""The child process that runs user code: one attempt at a time, for as long as its courier wants it.

Rule 1: whatever user code does (raise, exit, change directory, fork, close files), the courier gets one reply
per envelope or sees this process die; nothing is swallowed.
Rule 2: nothing of one attempt reaches the next through us: scratch directory, working directory and arguments are
fresh. (What user code keeps in its own modules is its own.)
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
from blake3 import blake3

from scalable_hpc.cache.declared import check_result
from scalable_hpc.cache.record import Record
from scalable_hpc.cache.serial import loads, record_of
from scalable_hpc.cache.spec import CacheSpec
from scalable_hpc.cache.store import Staged, Store, flush_tallies
from scalable_hpc.faults.raised import is_rescheduled
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import Ending, ExceptionFacts, Locator, ResultRef
from scalable_hpc.worker import context, wire
from scalable_hpc.worker.footing import MemoryMeter, go_first, leave_no_core
from scalable_hpc.worker.linux import die_with_parent
from scalable_hpc.worker.origin import Origin, Origins
from scalable_hpc.worker.publisher import store_of
from scalable_hpc.worker.raised import pack
from scalable_hpc.worker.references import resolve
from scalable_hpc.worker.rules import ask
from scalable_hpc.worker.shared import SharedRecords
from scalable_hpc.worker.unheeded import Unheeded

FUNCTIONS_KEPT = 64
"""A run has few functions; one that makes them by the thousand must not fill the slot."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a slot is born with."""

    token: str
    environment: dict[str, str]
    scratch: str
    """Its own directory, emptied after every attempt."""
    checkpoints: str
    """The run's directory of what tasks keep from one attempt to the next."""
    held: str
    """The worker's directory of results that are not stored."""
    outlook: str
    """File that says how long the worker will be there."""
    search_path: list[str]
    """Where modules of the user's are found, before anything else."""


def live(birth: Birth, pipe: int, voice: int, parent: int) -> None:
    """Be a slot until the courier hangs up; called in a freshly forked child of the nursery."""
    with suppress(OSError):
        os.setpgid(0, 0)
    die_with_parent(parent)
    unheeded = Unheeded()
    unheeded.begin()
    unheeded.spare_children()
    os.dup2(voice, 2)
    os.close(voice)
    os.set_inheritable(pipe, False)
    os.environ.update(birth.environment)
    sys.path[:0] = [entry for entry in birth.search_path if entry not in sys.path]
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)
    faulthandler.enable()
    leave_no_core()
    go_first()
    Slot(wire.Pipe(pipe), birth, unheeded).serve()


class _Refusal(Exception):
    """Carries an exception that is not the fault of user code: an input or the store could not be had."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the user's function; of a cacheable one the raw function, since looking up and keeping are the courier's."""
    spec = getattr(function, "__scalable_cache__", None)
    if not isinstance(spec, CacheSpec):
        return function(*args, **kwargs)
    args, named = spec.prepare(args, kwargs)
    value = spec.function(*args, **named)
    spec.check_result(value)
    return value


def _facts(envelope: Envelope, error: BaseException, surroundings: context.Surroundings) -> ExceptionFacts:
    """Take down what user code raised, with what its own rule says of it."""
    facts = pack(error, caller=__file__)
    if is_rescheduled(facts):
        return replace(facts, checkpoint=context.mark_of_checkpoint(envelope.attempt, surroundings))
    answer = ask(envelope.rule, error)
    return replace(facts, worth_retrying=answer.worth_retrying, rule_failed=answer.failed)


class Slot:
    """Carries out orders that come through a pipe."""

    def __init__(self, pipe: wire.Pipe, birth: Birth, unheeded: Unheeded) -> None:
        self._pipe = pipe
        self._unheeded = unheeded
        self._scratch = birth.scratch
        self._surroundings = context.Surroundings(birth.scratch, birth.checkpoints, birth.outlook)
        self._held = Path(birth.held)
        self._home = os.getcwd()  # noqa: PTH109  a str for chdir
        self._pid = os.getpid()
        self._cores = os.sched_getaffinity(0)
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._stores: dict[str, Store] = {}
        self._shared = SharedRecords()
        self._origins = Origins()
        self._memory = MemoryMeter()

    def serve(self) -> None:
        """Carry out orders until the courier hangs up."""
        with suppress(EOFError, OSError):
            while True:
                order = self._pipe.receive()
                if isinstance(order, wire.Order):
                    self._pipe.send(wire.Begun())
                    self._pipe.send(wire.Finished(self._carry_out(order)))

    def _carry_out(self, order: wire.Order) -> int:
        os.environ.update(order.environment)
        with suppress(OSError):
            os.sched_setaffinity(0, order.cpus or self._cores)
        for number, envelope in enumerate(order.envelopes):
            if number and self._pipe.has_news():
                self._pipe.receive()
                return number
            self._pipe.send(self._run(number, envelope))
            self._tidy()
        return len(order.envelopes)

    def _run(self, number: int, envelope: Envelope) -> wire.Reply:
        self._memory.start()
        self._unheeded.was_told_to_end = False
        is_cold = envelope.function_digest not in self._functions
        started_at = time.time()

        def span() -> wire.Span:
            return wire.Span(started_at, time.time(), self._memory.peak(), is_cold)

        try:
            data, origin = self._compute(envelope)
            self._leave_if_forked(0)
            ended = span()
            note = self._origins.note(origin, ended.ended_at - ended.started_at)
            if len(data) <= wire.INLINE_LIMIT:
                return wire.Computed(number, ended, data.join(), note, origin.stray)
            if envelope.hold and not origin.stray:
                return self._hold(number, span, envelope, data)
            staged = self._stage(store_of(envelope, origin.stray), data)
            return wire.Laid(number, span(), staged, note, origin.stray)
        except _Refusal as refusal:
            return wire.Raised(number, span(), Ending.REFUSED, pack(refusal.cause))
        except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt of user code are its endings
            self._leave_if_forked(error.code if isinstance(error, SystemExit) else 1)
            # A program that the user's code had started may have heeded what we do not.
            is_ending, ended = self._unheeded.was_told_to_end, span()
            return wire.Raised(number, ended, Ending.EXCEPTION, _facts(envelope, error, self._surroundings), is_ending)

    def _leave_if_forked(self, code: object) -> None:
        """End a child that user code forked and let return: it must not answer in our place."""
        if os.getpid() != self._pid:
            os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def _compute(self, envelope: Envelope) -> tuple[Record, Origin]:
        function = self._function(envelope)
        args, kwargs = cloudpickle.loads(envelope.arguments)
        origin = self._origins.of(envelope, function, args, kwargs)
        if envelope.inputs:
            args, kwargs = resolve((args, kwargs), lambda reference: self._fetch(envelope, reference))
        context.enter(envelope.attempt, self._surroundings)
        value = _call(function, args, kwargs)
        if envelope.result_type is not None:
            check_result(value, cloudpickle.loads(envelope.result_type), envelope.name)
        return record_of(value), origin

    def _function(self, envelope: Envelope) -> Callable[..., Any]:
        digest = envelope.function_digest
        function = self._functions.get(digest)
        if function is None:
            function = self._functions[digest] = cloudpickle.loads(envelope.function)
            if len(self._functions) > FUNCTIONS_KEPT:
                self._functions.popitem(last=False)
        self._functions.move_to_end(digest)
        return function

    def _store(self, root: str) -> Store:
        if root not in self._stores:
            self._stores[root] = Store(root)
        return self._stores[root]

    def _fetch(self, envelope: Envelope, reference: ResultRef) -> Any:
        """Load an ancestor's result, anew for each attempt: the user's code may change what it is given."""
        try:
            locator = envelope.inputs[reference.key]
            if locator.inline is not None:
                return loads(locator.inline)
            if locator.held and (held := self._read_held(locator)) is not None:
                return loads(memoryview(held))
            store = self._store(locator.store)  # what was held a moment ago may have been stored meanwhile
            return loads(self._shared.get(locator, store) if reference.is_shared else store.read(locator))
        except Exception as err:
            raise _Refusal(err) from err

    def _hold(self, number: int, span: Callable[[], wire.Span], envelope: Envelope, data: Record) -> wire.Reply:
        """Leave a result on the node; where there is no room for it, it is stored after all."""
        aside = self._held / f"{envelope.key}.{self._pid}"
        hasher = blake3(max_threads=blake3.AUTO)
        try:
            with aside.open("wb") as file:
                for chunk in data.chunks():
                    file.write(chunk)
                    hasher.update(chunk)
            aside.rename(self._held / envelope.key)
        except OSError:
            with suppress(OSError):
                aside.unlink()
            return wire.Laid(number, span(), self._stage(envelope.store, data))
        return wire.Held(number, span(), hasher.hexdigest(), len(data))

    def _read_held(self, locator: Locator) -> mmap.mmap | None:
        """Map a result that is held here, for this attempt to write on as it likes; None: it is not, by now."""
        try:
            with (self._held / locator.key).open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):
            return None
        return data if blake3(data, max_threads=blake3.AUTO).hexdigest() == locator.digest else None

    def _stage(self, store: str, data: Record) -> Staged:
        try:
            return self._store(store).stage(data)
        except Exception as err:
            raise _Refusal(err) from err

    def _tidy(self) -> None:
        """Undo what an attempt may have changed around us."""
        context.leave()
        flush_tallies()  # a slot ends without farewell
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        with suppress(OSError):
            os.chdir(self._home)
        self._unheeded.begin()
        with suppress(OSError), os.scandir(self._scratch) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)  # noqa: PTH108  a str already
