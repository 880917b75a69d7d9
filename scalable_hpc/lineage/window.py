"""Placement: which ready task goes to which worker now.

Rule 1: pure. Placed and refused tasks are taken from the ready queue; nothing else changes.
Rule 2: a worker has at most ``slots`` bundles in hand, and as many again only of tasks that are over within a second.
Rule 3: a task goes only where its need, and the margin, fit into the time left; a task of which nothing is known goes
where there is most of it.
Rule 4: large and long tasks choose first, each the tightest place that has room for it, so that short ones are left
to fill the ends of allocations.
Rule 5: a suspect goes first, and only where it has a whole allocation for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scalable_hpc.lineage.cells import Cells
from scalable_hpc.lineage.lanes import Lane, LaneKey, ReadyQueue
from scalable_hpc.lineage.learned import Learned, Need
from scalable_hpc.lineage.need import Allowance, Refusal
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.lineage.rooms import Room, Rooms, is_large, room_of, worker_to_hold
from scalable_hpc.lineage.roster import Worker
from scalable_hpc.model.resources import Needs


@dataclass(frozen=True, slots=True)
class WindowRules:
    """How full workers are kept."""

    prefetch_below_s: float = 1.0
    """Only tasks shorter than this (mean) are sent ahead: a round trip (15-40 ms) would cost them more than 2 %."""
    prefetch_share: float = 1.0
    """Bundles sent ahead, per slot, to workers whose slots are all taken: tasks of one length end together."""
    bundle_below_s: float = 0.1
    """Only tasks shorter than this (mean) travel in bundles."""
    bundle_target_s: float = 0.3
    """How long a bundle is to last."""
    bundle_most: int = 256
    believed_after: int = 8
    """Receipts after which a mean is believed."""

    def bound(self, slots: int) -> int:
        """How many bundles a worker may ever have in hand."""
        return slots + max(1, math.floor(slots * self.prefetch_share))


_STRANDED_MOST = 64
"""Tasks of a kind whose inputs are stored at a time, so that they can run elsewhere."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One task to be sent; those with the same ``bundle`` travel together."""

    record: TaskRecord
    worker: Worker
    bundle: int
    need_s: float | None
    time_left_s: float | None
    needs: Needs
    """What is set aside for it there."""
    alone: bool = False
    """Nothing else is to run on its allocation meanwhile."""

    @property
    def memory(self) -> int | None:
        """Bytes that it has for itself; None: nobody knows how much the worker has."""
        return (self.worker.memory if self.alone else self.worker.memory_of(self.needs)) or None


@dataclass(slots=True)
class Plan:
    """One round's outcome."""

    placements: list[Placement] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    stranded: list[TaskRecord] = field(default_factory=list)
    """Tasks that could run elsewhere if what they need were stored, not held by a worker that has no room for them."""
    unplaced: dict[LaneKey, str] = field(default_factory=dict)
    """Why the first task of a lane, and so those behind it, still wait."""


def place(
    ready: ReadyQueue,
    workers: Iterable[Worker],
    learned: Learned,
    allowance: Allowance,
    now: float,
    rules: WindowRules,
) -> Plan:
    """Match ready tasks with workers for one round; see the module's rules."""
    present = list(workers)
    lonely = {worker.allocation for worker in present if worker.is_reserved}
    busy = {worker.allocation for worker in present if worker.loads}
    here = [worker for worker in present if not worker.draining and worker.allocation not in lonely]
    return _Round(ready, here, Cells(here, busy, len(lonely)), learned, allowance, now, rules).run()


class _Round:
    def __init__(
        self,
        ready: ReadyQueue,
        workers: list[Worker],
        cells: Cells,
        learned: Learned,
        allowance: Allowance,
        now: float,
        rules: WindowRules,
    ) -> None:
        self.ready = ready
        self.workers = workers
        self.cells = cells
        self.learned = learned
        self.allowance = allowance
        self.now = now
        self.rules = rules
        self.plan = Plan()
        self.bundles: dict[str, int] = {}
        """Placed in this round, by worker."""
        self.held: set[str] = set()
        """Workers that get nothing more in this round: a large task waits for them."""

    def run(self) -> Plan:
        ranked = self._ranked()
        for lane in ranked:
            if lane.key.suspect:
                self._isolate(lane)
        self.workers = [worker for worker in self.workers if worker.allocation not in self.cells.taken]
        lanes = [lane for lane in ranked if not lane.key.suspect]
        rooms = Rooms((self._room(worker, worker.slots) for worker in self.workers), self.workers)
        for lane in lanes:
            self._fill(lane, rooms)
        short = [lane for lane in lanes if lane.live and not lane.key.holders and self._may_go_ahead(lane.key)]
        if short:
            open_ones = [worker for worker in self.workers if worker.address not in self.held]
            full = [worker for worker in open_ones if self._in_hand(worker) >= worker.slots]
            ahead = Rooms((self._room(worker, self.rules.bound(worker.slots)) for worker in full), self.workers)
            for lane in short:
                self._fill_ahead(lane, ahead)
        self._note_stranded(lanes, rooms.free)
        for lane in lanes:
            if lane.live:
                self.plan.unplaced.setdefault(lane.key, self._nobody(lane.key.worker_type))
        return self.plan

    def _ranked(self) -> list[Lane]:
        """Refuse what can never run, then order.

        Priority first; then what needs results that workers hold, which frees them; then large ones, unknown run
        times, longest, oldest.
        """
        ranked = []
        for lane in self.ready.lanes():
            head = self._head(lane)
            if head is not None:
                need = self.allowance.need(head)
                need_s, needs = need.cold_s, need.of(head)
                size = -needs.gpus, -needs.cpus, not is_large(needs)
                is_free = not lane.key.holders
                times = need_s is not None, -(need_s or 0.0)
                ranked.append(((-head.priority, is_free, *size, *times, head.order), lane))
        ranked.sort(key=lambda entry: entry[0])
        return [lane for _, lane in ranked]

    def _head(self, lane: Lane) -> TaskRecord | None:
        """Return the lane's next task that could run on some allocation."""
        while True:
            record: TaskRecord | None = lane.head()
            refusal = None if record is None else self.allowance.refusal(record)
            if refusal is None:
                return record
            self.ready.discard(refusal.record)
            self.plan.refusals.append(refusal)

    def _room(self, worker: Worker, most: int) -> Room:
        margin_s = self.allowance.margin_s(worker.worker_type)
        return room_of(worker, self.now, margin_s, most - self._in_hand(worker))

    def _in_hand(self, worker: Worker) -> int:
        return worker.assigned + self.bundles.get(worker.address, 0)

    def _fill(self, lane: Lane, rooms: Rooms) -> None:
        while (head := self._head(lane)) is not None:
            need = self.allowance.need(head)
            room = rooms.choose(head, need) if rooms.free > 0 else None
            if room is None:
                self.plan.unplaced[lane.key] = self._why_not(head, need, rooms)
                if is_large(need.of(head)):
                    self._hold_open_for(head, need, rooms)
                return
            self._send(lane, head, room, need, rooms)

    def _note_stranded(self, lanes: Sequence[Lane], free: int) -> None:
        """Note what waits for a worker that has no room for it, or for several at once, while others are idle."""
        here = {worker.address for worker in self.workers}
        for lane in lanes:
            if lane.live and lane.key.holders:
                is_bound = len(lane.key.holders) == 1 and lane.key.holders[0] in here
                found = lane.first(min(free, _STRANDED_MOST) if is_bound else _STRANDED_MOST)
                self.plan.stranded += found
                free -= len(found) if is_bound else 0

    def _isolate(self, lane: Lane) -> None:
        """Send each suspect to an allocation that it has for itself; have others emptied for those that find none."""
        if lane.key.holders:
            self.plan.stranded += lane.first(_STRANDED_MOST)
            return
        while (head := self._head(lane)) is not None:
            need = self.allowance.need(head)
            room = self.cells.choose(head, need, lambda worker: self._room(worker, worker.slots))
            if room is None:
                self.plan.unplaced[lane.key] = "suspected of having brought down a worker: waits for an empty one"
                for _ in range(lane.live):
                    self.cells.hold_open(head, need, lambda worker: self._room(worker, worker.slots))
                return
            self.ready.discard(head)
            time_left_s = None if math.isinf(room.time_left_s) else room.worker.time_left_s(self.now)
            need_s = room.need_s(head.name, need)
            number = len(self.plan.placements)
            needs = need.of(head)
            self.plan.placements.append(Placement(head, room.worker, number, need_s, time_left_s, needs, alone=True))

    def _hold_open_for(self, record: TaskRecord, need: Need, rooms: Rooms) -> None:
        free = (self._room(worker, 0) for worker in self.workers if worker.address not in self.held)
        address = worker_to_hold(record, need, free)
        if address is not None:
            self.held.add(address)
            rooms.hold_open(address)

    def _fill_ahead(self, lane: Lane, rooms: Rooms) -> None:
        """Send short tasks ahead, to the least loaded worker first."""
        head = self._head(lane)
        if head is None:
            return
        worker_type = self.allowance.needs(head).worker_type
        for room in sorted(rooms.of_type(worker_type), key=lambda room: -room.bundles / room.worker.slots):
            while room.bundles > 0:
                head = self._head(lane)
                if head is None:
                    return
                need = self.allowance.need(head)
                need_s = room.need_s(head.name, need)
                if need_s is None or is_large(need.of(head)):
                    return
                if 2 * need_s > room.time_left_s or room.is_avoided(head):
                    break
                self._send(lane, head, room, need, rooms)

    def _may_go_ahead(self, key: LaneKey) -> bool:
        mean_s = self._believed_mean_s(key.name)
        plain = key.cpus <= 1 and key.gpus == 0 and key.memory_class is None
        return plain and mean_s is not None and mean_s < self.rules.prefetch_below_s

    def _believed_mean_s(self, name: str) -> float | None:
        return self.learned.mean_s(name) if self.learned.count(name) >= self.rules.believed_after else None

    def _send(self, lane: Lane, head: TaskRecord, room: Room, need: Need, rooms: Rooms) -> None:
        """Take the lane's next task, or a bundle of short ones, for a room."""
        need_s, needs = room.need_s(head.name, need), need.of(head)
        number = len(self.plan.placements)
        left_s = room.worker.time_left_s(self.now)
        time_left_s = None if math.isinf(left_s) else left_s
        members = self._bundle_size(lane, room, need_s, rooms.free)
        record: TaskRecord | None = head
        while record is not None:
            self.ready.discard(record)
            self.plan.placements.append(Placement(record, room.worker, number, need_s, time_left_s, needs))
            members -= 1
            record = self._head(lane) if members > 0 else None
            if record is not None and room.is_avoided(record):
                break
        rooms.take(room, needs)
        address = room.worker.address
        self.bundles[address] = self.bundles.get(address, 0) + 1

    def _bundle_size(self, lane: Lane, room: Room, need_s: float | None, free: int) -> int:
        mean_s = self._believed_mean_s(lane.key.name)
        if mean_s is None or need_s is None or mean_s >= self.rules.bundle_below_s:
            return 1
        wanted = math.floor(self.rules.bundle_target_s / max(mean_s, 1e-6))
        fair = math.ceil(lane.live / max(1, free))
        in_time = math.floor(room.time_left_s / max(need_s, 1e-6)) if math.isfinite(room.time_left_s) else wanted
        return max(1, min(wanted, fair, in_time, self.rules.bundle_most))

    def _why_not(self, record: TaskRecord, need: Need, rooms: Rooms) -> str:
        need_s, needs = need.cold_s, need.of(record)
        longest_s = rooms.longest_left_s(needs.worker_type)
        if longest_s is None:
            return self._nobody(needs.worker_type)
        if need_s is not None and need_s > longest_s:
            return f"it needs {need_s:.1f} s, no free slot has more than {longest_s:.1f} s left"
        if record.avoid and not is_large(needs):
            return f"it had better go elsewhere than {', '.join(record.avoid)}"
        return f"no worker has its {needs.cpus} cpus, {needs.gpus} gpus and memory free"

    def _nobody(self, worker_type: str | None) -> str:
        if any(worker_type in (None, worker.worker_type) for worker in self.workers):
            return "every slot is taken, or its allocation is ending"
        return "no worker is connected" if worker_type is None else f"no worker of type {worker_type!r} is connected"
