"""From placed tasks to bundles: payloads read back from the pack, ancestors' results located.

Rule 1: ``find_all`` and ``read`` may block and are called off the loop; ``pack`` only puts together.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scalable_hpc.errors import JournalError, ScalableError
from scalable_hpc.lineage.calls import Calls
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.ports import HitOf, ResultStore, no_hit
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.lineage.window import Placement
from scalable_hpc.model.events import TaskSubmitted
from scalable_hpc.model.messages import Bundle, Envelope
from scalable_hpc.model.tasks import PUT, AttemptId, Hit, Locator, Payload

logger = logging.getLogger(__name__)

_INLINE_BYTES = 32 * 1024 * 1024
"""Small results kept at hand for dependents, so that a slot need not open the store for each."""
_FUNCTION_BYTES = 64 * 1024 * 1024
"""Pickled functions kept at hand: each is sent with every attempt."""


Wanted = tuple[TaskRecord, str]
"""A task, and the key of a result that it needs to know of: its own, or an ancestor's."""
Found = Locator | TaskSubmitted | Hit | None
"""Where a result lies; or how the task was submitted, or which call it was that was answered from a store, whose result
is lost there and must be made again; or nothing of these."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a task is called with, as it lies in the payload pack."""

    function: Payload
    arguments: Payload
    rule: Payload | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What one envelope carries."""

    function: bytes
    arguments: bytes
    rule: bytes = b""


class _Kept:
    """Values by name up to so many bytes; the least recently used go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: str, value: bytes) -> None:
        if name not in self._values and len(value) <= self._most:
            self._values[name] = value
            self._size += len(value)
            while self._size > self._most:
                self._size -= len(self._values.popitem(last=False)[1])


class Parcels:
    """Puts together what is sent."""

    def __init__(
        self,
        ledger: Ledger,
        payloads: PayloadPack,
        results: ResultStore,
        stores: Iterable[str],
        calls: Calls,
        hit_of: HitOf = no_hit,
    ) -> None:
        self._ledger = ledger
        self._calls = calls
        self._hit_of = hit_of
        self._hits: dict[str, Hit] = {}
        """Those that calls depend on which are made again, by task id."""
        self._payloads = payloads
        self._results = results
        self._stores = dict.fromkeys(stores)
        """Roots to look in for results of tasks that were never submitted here."""
        self._own = next(iter(self._stores), None)
        self._inline = _Kept(_INLINE_BYTES)
        self._functions = _Kept(_FUNCTION_BYTES)
        self._external: dict[str, Locator] = {}
        """Results of ancestors by key: of those that were answered from the store, and where a sound copy lies."""
        self._doubted: set[str] = set()
        """Keys of results that could not be read."""

    def keep_inline(self, result: Locator) -> None:
        """Keep a small result's bytes at hand for its dependents; what was known of another copy is of no use now."""
        self._external.pop(result.key, None)
        if result.inline is not None:
            self._inline.put(result.key, result.inline)

    def missing(self, record: TaskRecord) -> list[str]:
        """Return the keys of ancestors to be looked up: not submitted here and not located yet, or in doubt."""
        tasks, external = self._ledger.tasks, self._external
        return [
            key
            for task_id, key in record.ancestors
            if key in self._doubted or (task_id not in tasks and key not in external)
        ]

    def doubt(self, record: TaskRecord) -> None:
        """Note that a stored result that a task needs could not be read: it is not to be relied on unread."""
        held = self._ledger.held
        self._doubted.update(key for task_id, key in record.ancestors if task_id not in held)

    def find_all(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Look results up, each first in its task's own store; blocks.

        A store is looked at afresh up to its first miss; what it had published by then serves the others too.
        """
        doubts = [(record, key) for record, key in wanted if key in self._doubted]
        doubted = {key: task_id for record, key in doubts for task_id, above in record.ancestors if above == key}
        settled = {key: self._settle_doubt(task_id, key) for key, task_id in doubted.items()}
        looked: set[str] = set()
        found: list[Found] = [
            settled[key]
            if key in settled
            else self._confirm(record.store, key)
            if record.renews and key == record.key
            else self._find((record.store, *self._stores), key, looked)
            for record, key in wanted
        ]
        return self._with_calls(wanted, found)

    def _with_calls(self, wanted: Sequence[Wanted], found: list[Found]) -> list[Found]:
        """Say of ancestors whose results are nowhere how they were called, as far as anybody knows."""
        lost = {
            (record.task_id, key): task_id
            for (record, key), result in zip(wanted, found, strict=True)
            for task_id, above in record.ancestors
            if result is None and above == key and not task_id.startswith(PUT)
        }
        if not lost:
            return found
        hits = {
            task_id: self._hits.get(task_id) or self._hit_of(dependent, task_id)
            for (dependent, _), task_id in lost.items()
            if task_id not in self._ledger.tasks
        }
        calls = self._calls([task_id for task_id in lost.values() if hits.get(task_id) is None])
        called = {whose: hits.get(task_id) or calls.get(task_id) for whose, task_id in lost.items()}
        return [
            result or called.get((record.task_id, key)) for (record, key), result in zip(wanted, found, strict=True)
        ]

    def remember(self, hit: Hit) -> None:
        """Keep what a call depends on that is made again: results of these may be lost too."""
        self._hits.update({above.spec.task_id: above for above in hit.above})

    def _settle_doubt(self, task_id: str, key: str) -> Locator | None:
        """Have a result read that could not be read; where its store does not answer, it stays in doubt.

        A copy in another store will do if it is the very same: what lies there under that key may be a stray result.
        """
        known = self._known(task_id, key)
        found = None
        if known is not None:
            try:
                found = self._results.confirm(known.store, key)
            except (ScalableError, OSError) as error:
                logger.warning("The store %r cannot be asked for %s: %s", known.store, key, error)
                return known
            others = (self._confirm(store, key) for store in self._stores if found is None and store != known.store)
            found = found or next((one for one in others if one is not None and one.digest == known.digest), None)
        self._doubted.discard(key)
        return found

    def _confirm(self, store: str, key: str) -> Locator | None:
        """Return where a sound result lies in a store; None also where the store does not answer."""
        try:
            return self._results.confirm(store, key)
        except (ScalableError, OSError) as error:
            logger.warning("The store %r cannot be asked for %s: %s", store, key, error)
            return None

    def _find(self, stores: Iterable[str], key: str, looked: set[str]) -> Locator | None:
        for store in dict.fromkeys(stores):
            try:
                found = self._results.lookup(store, key, fresh=store not in looked)
            except (ScalableError, OSError) as error:
                logger.warning("The store %r cannot be asked for %s: %s", store, key, error)
                continue
            if found is not None:
                return found
            looked.add(store)
        return None

    def found_external(self, key: str, result: Locator) -> None:
        """Remember where an ancestor's result lies."""
        self._external[key] = result

    def read(self, wanted: Written) -> Contents | JournalError:
        """Read what a task is called with; blocks."""
        try:
            rule = b"" if wanted.rule is None else self._function(wanted.rule)
            return Contents(self._function(wanted.function), self._payloads.read(wanted.arguments), rule)
        except JournalError as error:
            return error

    def _function(self, payload: Payload) -> bytes:
        data = self._functions.get(payload.digest)
        if data is None:
            data = self._payloads.read(payload)
            self._functions.put(payload.digest, data)
        return data

    def pack(self, key: str, members: Sequence[tuple[Placement, Contents]]) -> Bundle:
        """Return the bundle of placements that travel together."""
        envelopes = tuple(self._envelope(placement, contents) for placement, contents in members)
        return Bundle(key, envelopes)

    @staticmethod
    def key_of(first: AttemptId) -> str:
        """Return the Dask key of the bundle that begins with an attempt: unique, since no attempt is sent twice."""
        return f"scalable-{first}"

    def _envelope(self, placement: Placement, contents: Contents) -> Envelope:
        record = placement.record
        return Envelope(
            attempt=record.attempt,
            name=record.name,
            key=record.key,
            store=record.store,
            function_digest=record.function.digest if record.function else "",
            function=contents.function,
            arguments=contents.arguments,
            inputs={key: self._locate(task_id, key) for task_id, key in record.ancestors},
            timeout_s=record.timeout_s,
            cpus=record.needs.cpus,
            memory=None if record.needs.memory is None else placement.needs.memory,
            gpus=record.needs.gpus,
            refresh=record.refresh or record.renews,
            hold=not record.persist,
            rule=contents.rule,
            run_store=self._own if record.store != self._own else None,
            stray=self._stray(record),
        )

    def _stray(self, record: TaskRecord) -> str:
        """Return why a task's result will not be what its key says: a key speaks of ancestors by their keys."""
        for task_id, _ in record.ancestors:
            ancestor = self._ledger.tasks.get(task_id)
            if ancestor is not None and ancestor.result is not None and ancestor.result.store != ancestor.store:
                return f"the result of {task_id}, which it is given, is not what was submitted"
        return ""

    def _known(self, task_id: str, key: str) -> Locator | None:
        ancestor = self._ledger.tasks.get(task_id)
        return self._external.get(key) or (None if ancestor is None else ancestor.result)

    def _locate(self, task_id: str, key: str) -> Locator:
        found = self._known(task_id, key)
        if found is None:
            raise ValueError(f"the result of {task_id!r} is not known to be anywhere")
        inline = self._inline.get(found.key)
        return found if inline is None else replace(found, inline=inline)
