"""Where a task stands and why: what it waits for, where it could run and where not, what became of its attempts.

Drawn from the journal and the worker types on offer, with the keeper's own rules about what fits; and from what the
driver says of its last round of placement, where one lives.

Rule 1: pure; ``now`` comes in as an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Allowance, Offer
from scalable_hpc.lineage.reasons import Reasons
from scalable_hpc.lineage.record import TaskRecord, TaskState
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.events import AllocationChanged
from scalable_hpc.model.resources import Needs, WorkerType
from scalable_hpc.model.units import format_memory, format_walltime

_COMING = frozenset({AllocationState.SUBMITTING.value, AllocationState.PENDING.value, AllocationState.STARTING.value})
_OVER = AllocationState.ENDED.value
_ANCESTORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Fleet:
    """The allocations of a run as the journal tells them, and how much of each is taken."""

    allocations: Mapping[str, AllocationChanged]
    busy: Mapping[str, int] = field(default_factory=dict)
    """Allocation to attempts on it."""
    nodes: int = 1
    """That each is asked for with."""
    pending_since: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    """Allocation to the batch system's reason now, where it was asked."""
    told: Reasons | None = None
    """What the driver says, where one lives."""
    memory: Mapping[str, Sequence[int | None]] = field(default_factory=dict)
    """Allocation to the bytes that each attempt there has asked for; None: a slot's share."""

    def open(self, worker_type: str | None = None) -> list[AllocationChanged]:
        """Return those that are not over, of one worker type or of all."""
        each = self.allocations.values()
        return [seen for seen in each if seen.state != _OVER and worker_type in (None, seen.worker_type)]


@dataclass(frozen=True, slots=True)
class Place:
    """Whether a task could run somewhere, and why so."""

    place: str
    fits: bool
    because: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One task, now."""

    task_id: str
    label: str
    state: str
    because: str
    needs: str
    places: tuple[Place, ...] = ()
    """Only of tasks that are not over."""
    waited_for: tuple[str, ...] = ()
    """By those that wait for it."""


def fleet_of(
    changes: Iterable[AllocationChanged],
    ledger: Ledger,
    nodes: int,
    words: Mapping[str, str] | None = None,
    told: Reasons | None = None,
) -> Fleet:
    """Return the fleet as the last change of each allocation leaves it.

    Args:
        changes: of every allocation, in order.
        ledger: the tasks.
        nodes: that each allocation is asked for with.
        words: the batch system's reasons now, by allocation.
        told: what the driver says, where one lives.
    """
    last: dict[str, AllocationChanged] = {}
    since: dict[str, float] = {}
    for event in changes:
        before = last.get(event.name)
        if before is None or before.state != event.state:
            since[event.name] = event.at
        last[event.name] = event
    busy = Counter(record.allocation for record in ledger.in_state(TaskState.SENT) if record.allocation is not None)
    memory: dict[str, list[int | None]] = {}
    for record in ledger.in_state(TaskState.SENT):
        memory.setdefault(record.allocation or "", []).append(record.in_hand.memory)
    return Fleet(last, busy, nodes, since, words or {}, told, memory)


def stand(record: TaskRecord, ledger: Ledger, offers: Sequence[Offer], fleet: Fleet, now: float) -> Standing:
    """Say where a task stands, why, and where it could run."""
    allowance = Allowance(offers, ledger.learned, {})
    return Standing(
        record.task_id,
        record.label or record.task_id,
        record.state.value,
        why(record, ledger, allowance, fleet, now),
        _asked(record, allowance),
        () if record.is_over else tuple(_places(record, allowance, offers, fleet, now)),
        tuple(ledger.dependents(record.task_id)),
    )


def why(record: TaskRecord, ledger: Ledger, allowance: Allowance, fleet: Fleet, now: float) -> str:
    """Say in a sentence why a task is in its state."""
    if record.state is TaskState.READY:
        refusal = allowance.refusal(record)
        return refusal.error if refusal is not None else _why_ready(record, allowance, fleet, now)
    if record.state is TaskState.WAITING:
        return f"it waits for {_ancestors(record, ledger)}"
    return _WHY[record.state](record, now)


_WHY: Mapping[TaskState, Callable[[TaskRecord, float], str]] = {
    TaskState.SENT: lambda record, _: f"attempt {record.attempts} is on {record.allocation}",
    TaskState.ATTACHED: lambda record, _: f"it is the same call as {record.leader}, and takes its result",
    TaskState.BACKOFF: lambda record, now: (
        f"attempt {record.attempts} failed; the next one is due in {max(0.0, (record.retry_at or now) - now):.1f} s"
    ),
    TaskState.DONE: lambda *_: "its result is kept",
    TaskState.LET_GO: lambda *_: "its result was let go, and is computed again if somebody needs it",
    TaskState.FAILED: lambda record, _: record.error,
    TaskState.CANCELLED: lambda *_: "it is no longer wanted",
}
"""States that explain themselves."""


def _ancestors(record: TaskRecord, ledger: Ledger) -> str:
    unfinished = [
        f"{name} ({ledger.tasks[name].state.value})"
        for name, _ in record.ancestors
        if name in ledger.tasks and ledger.tasks[name].state is not TaskState.DONE
    ]
    more = f" and {len(unfinished) - _ANCESTORS_SHOWN} more" if len(unfinished) > _ANCESTORS_SHOWN else ""
    return ", ".join(unfinished[:_ANCESTORS_SHOWN]) + more if unfinished else "results that are being looked up"


def _why_ready(record: TaskRecord, allowance: Allowance, fleet: Fleet, now: float) -> str:
    """Say why a task that could run does not."""
    needs = allowance.needs(record)
    kinds = [offer.worker_type for offer in allowance.fitting(needs)]
    open_ones = [seen for kind in kinds for seen in fleet.open(kind.name)]
    if record.suspicions:
        return "it is suspected of having brought down a worker: it waits for an allocation that it has for itself"
    if not open_ones:
        names = " or ".join(repr(kind.name) for kind in kinds)
        return f"there is no allocation of worker type {names}{_held_back(kinds, fleet)}"
    if all(seen.state in _COMING for seen in open_ones):
        return "; ".join(_pending(seen, fleet, now) for seen in open_ones)
    if said := fleet.told.of(record) if fleet.told is not None else "":
        return f"{said}{_held_back(kinds, fleet)}"
    if any(place.fits for kind in kinds for place in _on_allocations(record, allowance, kind, fleet, now)):
        return "it is about to be placed"
    return "no allocation that is there can take it now"


def _held_back(kinds: Iterable[WorkerType], fleet: Fleet) -> str:
    """Say why the fleet asks for no (further) allocation, where the driver has told."""
    said = {} if fleet.told is None else fleet.told.fleet
    words = [f"no more of {kind.name!r} is asked for: {said[kind.name]}" for kind in kinds if kind.name in said]
    return "".join(f"; {each}" for each in words)


def _pending(seen: AllocationChanged, fleet: Fleet, now: float) -> str:
    waited = max(0.0, now - fleet.pending_since.get(seen.name, seen.at))
    job = f" (job {seen.job_id})" if seen.job_id else ""
    words = fleet.words.get(seen.name) or seen.because
    return f"{seen.name}{job} is {seen.state} for {waited:.0f} s: {words}"


def _places(
    record: TaskRecord, allowance: Allowance, offers: Sequence[Offer], fleet: Fleet, now: float
) -> Iterator[Place]:
    """Yield each worker type, and under those that fit each allocation that is not over."""
    needs, need_s = allowance.needs(record), allowance.need(record).cold_s
    for offer in offers:
        kind = offer.worker_type
        if kind.grown_from is not None and kind.name != needs.worker_type and not fleet.open(kind.name):
            continue
        short = list(_misfits(needs, kind))
        usable_s = offer.usable_s(None)
        if need_s is not None and need_s > usable_s and not record.checkpoints:
            walltime = format_walltime(offer.walltime_s or 0.0)
            short.append(f"it needs {need_s:.1f} s, walltime {walltime} has room for {usable_s:.1f} s")
        yield Place(f"worker type {kind.name!r}", not short, "; ".join(short) or "large enough")
        if not short:
            yield from _on_allocations(record, allowance, kind, fleet, now)


def _misfits(needs: Needs, kind: WorkerType) -> Iterator[str]:
    if needs.worker_type not in (None, kind.name):
        yield f"it is to run on {needs.worker_type!r}"
    if needs.cpus > kind.cpus:
        yield f"{needs.cpus} cpus are more than {kind.cpus}"
    if needs.gpus > kind.gpus:
        yield f"{needs.gpus} gpus are more than {kind.gpus}"
    if needs.memory is not None and kind.memory is not None and needs.memory > kind.memory:
        yield f"{format_memory(needs.memory)} are more than {format_memory(kind.memory)}"


def _on_allocations(
    record: TaskRecord, allowance: Allowance, kind: WorkerType, fleet: Fleet, now: float
) -> Iterator[Place]:
    need_s, asked = allowance.need(record).cold_s, allowance.needs(record).memory
    for seen in fleet.open(kind.name):
        if seen.state in _COMING:
            yield Place(seen.name, fits=False, because=_pending(seen, fleet, now))
            continue
        left_s = None if seen.ends_at is None else seen.ends_at - now - allowance.margin_s(kind.name)
        nodes = max(1, len(seen.nodes) or fleet.nodes)
        slots, busy = kind.slots * nodes, fleet.busy.get(seen.name, 0)
        free = _free_memory(kind, nodes, fleet.memory.get(seen.name, ()))
        if seen.state != AllocationState.LIVE.value:
            yield Place(seen.name, fits=False, because=f"it is {seen.state}: {seen.because}")
        elif left_s is not None and (need_s or 0.0) > left_s:
            yield Place(seen.name, fits=False, because=f"it needs {need_s:.1f} s, {max(0.0, left_s):.1f} s are left")
        elif seen.nodes and set(seen.nodes) <= set(record.avoid):
            where = ", ".join(seen.nodes)
            yield Place(seen.name, fits=False, because=f"it had better go elsewhere than {where}, where it failed")
        elif busy >= slots:
            yield Place(seen.name, fits=False, because=f"its slots are taken: {busy} attempts on {slots}")
        elif asked is not None and free is not None and asked > free:
            yield Place(
                seen.name, fits=False, because=f"{format_memory(asked)} are more than {format_memory(free)} free"
            )
        else:
            room = "" if left_s is None else f", {left_s:.0f} s left"
            yield Place(seen.name, fits=True, because=f"{slots - busy} of {slots} slots are free{room}")


def _free_memory(kind: WorkerType, nodes: int, taken: Sequence[int | None]) -> int | None:
    """Return how much is not set aside on an allocation (bytes); None: nobody knows how much it has."""
    if kind.memory is None:
        return None
    share = kind.memory // max(1, kind.slots)
    return max(0, kind.memory * nodes - sum(share if each is None else each for each in taken))


def _asked(record: TaskRecord, allowance: Allowance) -> str:
    needs, need_s = allowance.needs(record), allowance.need(record).cold_s
    parts = [f"{needs.cpus} cpus"]
    parts += [f"{needs.gpus} gpus"] if needs.gpus else []
    parts += [format_memory(needs.memory)] if needs.memory is not None else []
    parts += [f"{need_s:.1f} s"] if need_s is not None else ["a time that nobody knows yet"]
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks of one name that wait for the same reason."""

    name: str
    state: str
    because: str
    count: int
    example: str


def groups(ledger: Ledger, offers: Sequence[Offer], fleet: Fleet, now: float) -> list[Group]:
    """Return what waits for what, the most numerous first; tasks that differ only in a number are told together."""
    allowance = Allowance(offers, ledger.learned, {})
    waiting = (TaskState.WAITING, TaskState.ATTACHED, TaskState.READY, TaskState.BACKOFF)
    found: dict[tuple[str, str, str], list[str]] = {}
    for record in ledger.in_state(*waiting):
        key = (record.name, record.state.value, _kind_of_reason(record, ledger, allowance, fleet, now))
        found.setdefault(key, []).append(record.task_id)
    told = [Group(*key, len(tasks), tasks[0]) for key, tasks in found.items()]
    return sorted(told, key=lambda group: -group.count)


def _kind_of_reason(record: TaskRecord, ledger: Ledger, allowance: Allowance, fleet: Fleet, now: float) -> str:
    """Say why a task waits, in words that hold for its likes."""
    if record.state is TaskState.WAITING:
        several = Counter(
            ledger.tasks[name].name
            for name, _ in record.ancestors
            if name in ledger.tasks and ledger.tasks[name].state is not TaskState.DONE
        )
        return f"for results of {', '.join(several)}" if several else "for results that are being looked up"
    if record.state is TaskState.ATTACHED:
        return "for an equal call that is under way"
    if record.state is TaskState.BACKOFF:
        return "for their next try, after a failure"
    refusal = allowance.refusal(record)
    return "no allocation can ever run them" if refusal is not None else _why_ready(record, allowance, fleet, now)
