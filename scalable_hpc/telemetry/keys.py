"""Which results a run was given or has made, from its journal. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from scalable_hpc.model.events import Event, TasksHit, TaskSubmitted, hit_keys


def keys_named_in(events: Iterable[Event], prefix: int) -> set[bytes]:
    """Return what the keys begin with that a run's events name: of its calls, their ancestors, and its hits.

    Args:
        events: The run's journal.
        prefix: How many bytes of each.
    """
    named: set[bytes] = set()
    for event in events:
        if isinstance(event, TaskSubmitted):
            named.update(bytes.fromhex(key)[:prefix] for key in (event.key, *(key for _, key in event.ancestors)))
        elif isinstance(event, TasksHit):
            named.update(key[:prefix] for key in hit_keys(event))
    return named
