"""Allocations that a suspect can have for itself: whoever may bring down a worker runs where nobody else is.

Rule 1: pure, for one round of placement. A whole allocation is kept free, not one of its workers: a job script that
dies takes the workers of all its nodes along.
Rule 2: at most half of the allocations, and one at least, are kept for suspects at a time: the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from scalable_hpc.lineage.learned import Need
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.lineage.rooms import Room, is_large_enough
from scalable_hpc.lineage.roster import Worker

RoomOf = Callable[[Worker], Room]


class Cells:
    """Where suspects may be sent in this round."""

    def __init__(self, workers: Sequence[Worker], busy: Collection[str], reserved: int) -> None:
        """Look at what is there.

        Args:
            workers: those that take new work, none of them reserved.
            busy: allocations that have anything in hand, on whichever of their nodes.
            reserved: allocations that suspects run on now.
        """
        self._workers = workers
        self._busy = busy
        allocations = {worker.allocation for worker in workers}
        self._left = max(1, (len(allocations) + reserved) // 2) - reserved
        self.taken: set[str] = set()
        """Allocations that get nothing else in this round."""

    def choose(self, record: TaskRecord, need: Need, room_of: RoomOf) -> Room | None:
        """Return room on an empty allocation, and keep everybody else away from it; None: there is none."""
        rooms = self._rooms(record, need, room_of)
        found = [room for room in rooms if room.worker.allocation not in self._busy]
        if not found or self._left <= 0:
            return None
        chosen = min(found, key=lambda room: (room.is_avoided(record), room.time_left_s, room.worker.address))
        if chosen.is_avoided(record) and not all(room.is_avoided(record) for room in rooms):
            return None
        self._take(chosen)
        return chosen

    def hold_open(self, record: TaskRecord, need: Need, room_of: RoomOf) -> None:
        """Give nothing more to the least loaded allocation that would do, so that it comes to be empty."""
        if self._left <= 0:
            return
        found = self._rooms(record, need, room_of)
        if found:
            self._take(min(found, key=lambda room: (room.is_avoided(record), self._load(room), room.worker.address)))

    def _rooms(self, record: TaskRecord, need: Need, room_of: RoomOf) -> list[Room]:
        """Return the rooms that would do if their allocations were empty."""
        rooms = [
            room_of(worker)
            for worker in self._workers
            if worker.allocation not in self.taken and is_large_enough(worker, need.of(record))
        ]
        return [room for room in rooms if room.has_time_for(record.name, need)]

    def _load(self, room: Room) -> int:
        return sum(worker.assigned for worker in self._workers if worker.allocation == room.worker.allocation)

    def _take(self, room: Room) -> None:
        self.taken.add(room.worker.allocation)
        self._left -= 1
