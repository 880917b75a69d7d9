"""Results as they are read where their future is asked: what is damaged is made again, what is held is stored first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from scalable_hpc.cache.verify import Damaged
from scalable_hpc.engine import Engine
from scalable_hpc.errors import StoreError, TaskError
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.model.tasks import Hit, Locator, TaskSpec
from scalable_hpc.raising import error_of
from scalable_hpc.results import Stores

logger = logging.getLogger(__name__)


class Reader:
    """Reads the results of one run; for any thread."""

    def __init__(self, stores: Stores, engine: Engine) -> None:
        self._stores = stores
        self._engine = engine

    def load(self, spec: TaskSpec, locator: Locator, above: tuple[Hit, ...] = ()) -> Any:
        """Read a result; one that turns out damaged is made again, one that a worker holds is stored first."""
        self._stores.let_go_of_values()
        if locator.held:
            locator = self._told_where(spec, partial(self._engine.keeper.read, spec.task_id))
        try:
            return self._stores.load(locator)
        except Damaged as damage:
            other = self._sound_copy(spec, locator)
            if other is not None:
                return self._stores.load(other)
            if not spec.pure:
                raise TaskError(
                    f"the result of {spec.label} is damaged, and another one would not be the first: {damage}",
                    hint="submit the call again to have it computed anew",
                ) from damage
            logger.warning("%s is computed again: %s", spec.label, damage)
        renew = partial(self._engine.keeper.renew, spec, locator.digest, above=above)
        return self.load(spec, self._told_where(spec, renew), above)

    def _sound_copy(self, spec: TaskSpec, locator: Locator) -> Locator | None:
        """Return where another writer's copy of a damaged result lies that is sound; of the same call, if that is pure.

        Beside the store that it was in, only the very same result will do: where a stray one lies, or one that was
        made before, others have other ones.
        """
        for store in dict.fromkeys((locator.store, spec.store)):
            with contextlib.suppress(StoreError):
                other = self._stores.confirm(store, spec.key)
                if other is not None and (other.digest == locator.digest or (spec.pure and store == locator.store)):
                    return other
        return None

    def _told_where(self, spec: TaskSpec, ask: Callable[[Callable[[Outcome], None]], None]) -> Locator:
        """Ask for a result to be stored, computed again if need be, and wait for it.

        Raises:
            BaseException: what became of the task meanwhile.
        """
        answer: Future[Outcome] = Future()
        ask(answer.set_result)
        self._engine.wake()
        outcome = answer.result()
        if outcome.result is not None:
            return outcome.result
        if outcome.cancelled:
            raise TaskError(f"the result of {spec.label} cannot be had: {outcome.because}")
        raise error_of(outcome, spec.label)

    def load_value(self, locator: Locator) -> Any:
        """Read a value that was put; where its copy is damaged it is put again, if it can still be had.

        Raises:
            Damaged: it cannot.
        """
        try:
            return self._stores.load(locator)
        except Damaged:
            sound = self._stores.confirm(locator.store, locator.key)
            if sound is None:
                raise
            return self._stores.load(sound)
