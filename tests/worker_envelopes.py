"""Envelopes for tests of workers: one new task each, as the driver's keeper would make them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from blake3 import blake3

from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Envelope
from scalable_hpc.model.tasks import AttemptId, Evidence, Receipt


class Envelopes:
    """Makes envelopes whose results go to one store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._numbers = itertools.count(1)

    def __call__(self, function_: Callable[..., Any], /, *args: Any, **options: Any) -> Envelope:
        """Return an envelope for ``function_(*args)``; ``options`` are fields of the envelope."""
        number = next(self._numbers)
        code = cloudpickle.dumps(function_)
        settings: dict[str, Any] = {
            "attempt": AttemptId(f"task-{number:05d}", 1),
            "name": "task",
            "key": key_of(number),
            "store": str(self.store),
            "function_digest": blake3(code).hexdigest(),
            "function": code,
            "arguments": cloudpickle.dumps((args, {})),
        }
        return Envelope(**{**settings, **options})


def key_of(thing: object) -> str:
    """Return a lineage key of its own for anything printable."""
    return blake3(f"key of {thing}".encode()).hexdigest()


def accounted(messages: Sequence[object]) -> dict[AttemptId, Receipt | Evidence]:
    """Return how attempts ended, as told by messages."""
    receipts = [message.receipt for message in messages if isinstance(message, AttemptDone)]
    evidence = [message.evidence for message in messages if isinstance(message, AttemptEnded)]
    return {one.attempt: one for one in [*receipts, *evidence]}
