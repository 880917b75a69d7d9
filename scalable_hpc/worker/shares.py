"""How the cpus and gpus of a worker are shared out among its slots; pure.

A *seat* is a slot's fixed place in the worker: index, cpus, gpus. Processes come and go in it.

Rule 1: no I/O; what the machine offers is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Each of these libraries starts as many threads as the node has cores unless told, in every slot."""

CPUS_VARIABLE = "SCALABLE_HPC_CPUS"
"""Environment of an attempt: how many cpus it has."""
DEVICES_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
"""How Nvidia's, AMD's and Intel's libraries are told which gpus are theirs. Where a batch system sets several, AMD's
count the devices of the first among those of the second, so that only one of them may be narrowed."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One slot's share of its worker."""

    index: int
    threads: int
    """How many threads a numerical library should use there."""
    cpus: tuple[int, ...] = ()
    """Cores it is bound to; empty: not bound."""
    gpus: tuple[str, ...] = ()


def _split(things: Sequence[str], parts: int) -> list[tuple[str, ...]]:
    """Cut a sequence into contiguous parts of nearly equal length; with too few things, parts take turns."""
    if not things:
        return [()] * parts
    if len(things) < parts:
        return [(things[number % len(things)],) for number in range(parts)]
    ends = [len(things) * number // parts for number in range(parts + 1)]
    return [tuple(things[begin:end]) for begin, end in pairwise(ends)]


def share_out(
    *, slots: int, cpus: int, available: Sequence[int], is_confined: bool, gpus: Sequence[str] = ()
) -> tuple[Seat, ...]:
    """Return one seat per slot.

    Slots are bound to cores only where the batch system has confined us to cores of our own and there is at
    least one for each: on a shared machine every worker would otherwise bind its first slot to core 0.
    """
    binds = is_confined and slots <= len(available) <= cpus
    cores = _split([str(core) for core in sorted(available)], slots) if binds else [()] * slots
    devices = _split(gpus, slots)
    return tuple(
        Seat(index, max(1, cpus // slots), tuple(int(core) for core in cores[index]), devices[index])
        for index in range(slots)
    )


def visible_gpus(declared: int, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the gpus to share out: those the batch system has made visible, else 0, 1, 2, ..."""
    if declared < 1:
        return ()
    named = [name.strip() for name in environ.get(devices_variable(environ), "").split(",") if name.strip()]
    return tuple(named[:declared]) if named else tuple(str(number) for number in range(declared))


def devices_variable(environ: Mapping[str, str]) -> str:
    """Return the variable that tells an attempt its gpus: the one that the batch system uses, else Nvidia's."""
    return next((name for name in DEVICES_VARIABLES if environ.get(name, "").strip()), DEVICES_VARIABLES[0])


def seats_needed(*, cpus: int, gpus: int, slots: int, worker_cpus: int, worker_gpus: int) -> int | None:
    """Return how many seats one attempt takes; None when the whole worker is too small for it."""
    by_cpus = -(-cpus * slots // worker_cpus)
    by_gpus = 0 if gpus == 0 else (None if worker_gpus == 0 else -(-gpus * slots // worker_gpus))
    if by_gpus is None:
        return None
    width = max(1, by_cpus, by_gpus)
    return width if width <= slots else None


def environment_of(seats: Sequence[Seat], *, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an attempt that holds these seats; what is in ``chosen`` is the user's and stays."""
    threads = str(sum(seat.threads for seat in seats))
    environment = {name: threads for name in THREAD_VARIABLES if name not in chosen} | {CPUS_VARIABLE: threads}
    devices = list(dict.fromkeys(gpu for seat in seats for gpu in seat.gpus))
    if devices:
        environment[devices_variable(chosen)] = ",".join(devices)
    return environment
