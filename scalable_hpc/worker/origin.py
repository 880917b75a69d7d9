"""What a result is computed from, as seen where it is computed: is it what its key says?

A key is made in the driver, of the code as it was loaded there. A slot loads the user's modules later, and reads
files as they are then. Whoever edits in between would have the new code's result under the old code's key, for ever.

Rule 1: a result goes to the shared cache only if its key, made anew where it is computed, is the same; else it
    serves its run alone.
Rule 2: looked at before the call: what is called may change what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scalable_hpc.cache.encode import Unencodable
from scalable_hpc.cache.keys import CallKey, KeyMaker
from scalable_hpc.cache.notebook import Scrivener
from scalable_hpc.cache.notes import NoteLines
from scalable_hpc.cache.spec import CacheSpec
from scalable_hpc.model.messages import Envelope

CHANGED = (
    "it is not what was submitted: its code, an input file, or what it depends on was changed since, "
    "or is another on the worker"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a result before it is computed."""

    key: CallKey | None = None
    """As it is here; None where there is no need for one."""
    stray: str = ""
    """Why the result must not go where its key leads; empty: it may."""


class Origins:
    """The keys of one slot's calls."""

    def __init__(self) -> None:
        self._scrivener = Scrivener()
        self._makers: dict[str, KeyMaker] = {}

    def of(
        self, envelope: Envelope, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Origin:
        """Return what a call is about to be computed from; its references to other results not yet replaced."""
        if envelope.run_store is None:
            return Origin()
        if envelope.stray:
            return Origin(stray=envelope.stray)
        try:
            key = self._key(envelope, function, args, kwargs)
        except (Unencodable, TypeError) as problem:
            return Origin(stray=f"its key cannot be made on the worker: {problem}")
        return Origin(key) if key.hex == envelope.key else Origin(stray=CHANGED)

    def note(self, origin: Origin, run_s: float) -> NoteLines | None:
        """Return what is to be written down beside the result."""
        return None if origin.key is None else self._scrivener.lines(origin.key, run_s)

    def _key(
        self, envelope: Envelope, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CallKey:
        spec = getattr(function, "__scalable_cache__", None)
        if isinstance(spec, CacheSpec):
            return spec.name_call(args, kwargs)
        maker = self._makers.get(envelope.function_digest)
        if maker is None or maker.function is not function:
            maker = self._makers[envelope.function_digest] = KeyMaker(function)
        return maker.key(args, kwargs)
