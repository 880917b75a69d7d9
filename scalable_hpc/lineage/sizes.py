"""How much memory a task is given: what it says, what it ran out of, what others of its name were seen to hold.

Rule 1: pure. What was learned of others is an estimate: it never asks for more than there is, and never for less than
the task says or a slot's share.
Rule 2: a task goes to another worker type than its own only if that differs in size alone: same image, same
environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scalable_hpc.model.resources import Needs, WorkerType

SHARED = 128 << 20
"""Bytes that a slot's peak may hold of pages that it shares with its neighbours (the interpreter, our own modules):
a peak that is no more than this above what the task would be given anyway asks for nothing."""
SAFETY = 1.2
"""On the peak that 95 % of its siblings stayed below."""


def candidates(kinds: Iterable[WorkerType], needs: Needs) -> tuple[WorkerType, ...]:
    """Return the worker types that could run a task if it needed no memory at all, smallest memory first.

    Those that do not say how much they have are left out: nobody can tell what a slot of theirs may hold.
    """
    several = tuple(kinds)
    own = next((kind for kind in several if kind.name == needs.worker_type), None)
    bare = Needs(needs.cpus, None, needs.gpus)
    found = [kind for kind in several if kind.memory is not None and kind.fits(bare)]
    if needs.worker_type is not None:
        found = [kind for kind in found if own is not None and is_same_but_for_size(kind, own)]
    return tuple(sorted(found, key=lambda kind: (kind.memory or 0, not _is_of(needs, kind))))


def is_same_but_for_size(kind: WorkerType, own: WorkerType) -> bool:
    """Whether what runs on one worker type runs on the other: they have the same software."""
    return _software(kind) == _software(own)


def _software(kind: WorkerType) -> tuple[object, ...]:
    return kind.image, kind.runtime, kind.mounts, kind.env, kind.preload_script


def sizes_of(kinds: Sequence[WorkerType]) -> tuple[int, ...]:
    """Return the memory of worker types, each figure once, smallest first."""
    return tuple(sorted({kind.memory for kind in kinds if kind.memory is not None}))


def given(needs: Needs, floor: int, likely: int | None, kinds: Sequence[WorkerType]) -> Needs:
    """Return what a task is to be given.

    Args:
        needs: what its user says.
        floor: bytes that it must have, since it ran out of less; 0: it never did.
        likely: bytes that others of its name held; None: not known.
        kinds: the ``candidates`` for it.
    """
    if not kinds:
        return needs
    shares = [(kind.memory or 0) // max(1, kind.slots) for kind in kinds if needs.worker_type in (None, kind.name)]
    if not shares:  # its own worker type does not say how much it has
        return needs
    base = min(shares) if needs.memory is None else needs.memory
    wanted = max(base, floor)
    if likely is not None and likely > wanted + SHARED:
        wanted = max(wanted, min(int(SAFETY * likely), kinds[-1].memory or 0))
    if wanted <= base:
        return needs
    raised = replace(needs, memory=wanted)
    own = next((kind for kind in kinds if kind.name == needs.worker_type), None)
    if own is not None and wanted > (own.memory or 0):
        enough = [kind for kind in kinds if (kind.memory or 0) >= wanted]
        # What its user has declared before what is only asked for because of it, and of that what is its own.
        larger = min(enough, key=lambda kind: (kind.grown_from is not None, not _is_of(needs, kind)), default=None)
        raised = raised if larger is None else replace(raised, worker_type=larger.name)
    return raised


def _is_of(needs: Needs, kind: WorkerType) -> bool:
    """Whether a worker type is the one that the task names, or a larger request of it."""
    return needs.worker_type is not None and needs.worker_type in (kind.name, kind.grown_from)
