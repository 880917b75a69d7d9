"""The workers that are connected, and which bundles each of them has in hand.

Rule 1: pure, and live only: none of it is journaled, a new driver starts with an empty roster.
Rule 2: what a worker has in hand is counted in bundles (one Dask task each) until every attempt in it was accounted
for, also when its task is over for another reason: the slot is taken as long as the worker says nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from scalable_hpc.lineage.need import Arrivals
from scalable_hpc.model.messages import WorkerHello
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import AttemptId

_HELLOS_REMEMBERED = 20
_HELLOS_WANTED = 3
"""One worker that came up slowly says nothing about the time that allocations can leave."""
_QUARTER = 4


@dataclass(slots=True)
class Load:
    """A bundle in hand."""

    attempts: set[AttemptId]
    needs: Needs
    """Of each attempt in it; they run one after the other."""
    alone: bool = False
    """Nothing else may run on the allocation meanwhile."""


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the keeper sees it."""

    address: str
    allocation: str
    worker_type: str
    node: str
    slots: int
    cpus: int = 1
    memory: int | None = None
    gpus: int = 0
    deadline: float | None = None
    recorder: str = ""
    pid: int = 0
    draining: str = ""
    """Why it gets nothing new; empty: it does."""
    loads: dict[str, Load] = field(default_factory=dict)
    cpus_used: int = 0
    memory_used: int = 0
    gpus_used: int = 0
    receipts: dict[str, int] = field(default_factory=dict)
    """Results it delivered, by task name."""
    is_shunned: bool = False
    """Its host does harm: only where there is no other choice."""
    hosts: tuple[str, ...] = ()
    """All nodes of its tasks, where there are several."""

    @property
    def cpus_offered(self) -> int:
        """More slots than cpus is the user's wish to share them, so a slot is worth a cpu at least."""
        return max(self.cpus, self.slots)

    def among(self, nodes: Collection[str]) -> str | None:
        """Return the first of its nodes that is among these; None: none of them is."""
        return next((host for host in self.hosts or (self.node,) if host in nodes), None)

    @property
    def assigned(self) -> int:
        """Bundles in hand."""
        return len(self.loads)

    def is_same(self, hello: WorkerHello) -> bool:
        """Whether it is this worker that says hello; addresses are given out again."""
        return (self.allocation, self.pid) == (hello.allocation, hello.pid)

    def time_left_s(self, now: float) -> float:
        """Seconds until walltime ends it; infinite when that is not known."""
        return math.inf if self.deadline is None else self.deadline - now

    def is_warm(self, name: str) -> bool:
        """Whether its slots have run tasks of a name before, and imported what those need."""
        return self.receipts.get(name, 0) >= self.slots

    def memory_of(self, needs: Needs) -> int:
        """What an attempt is counted with: its word, or a slot's fair share."""
        if needs.memory is not None:
            return needs.memory
        return 0 if self.memory is None else self.memory // max(1, self.slots)

    @property
    def is_reserved(self) -> bool:
        """Whether what it has in hand is to run alone."""
        return any(load.alone for load in self.loads.values())

    def take(self, key: str, attempts: Iterable[AttemptId], needs: Needs, *, alone: bool = False) -> None:
        """Count a bundle in."""
        self.loads[key] = Load(set(attempts), needs, alone)
        self._count(needs, +1)

    def drop(self, key: str) -> None:
        """Count a bundle out."""
        load = self.loads.pop(key, None)
        if load is not None:
            self._count(load.needs, -1)

    def _count(self, needs: Needs, sign: int) -> None:
        self.cpus_used += sign * needs.cpus
        self.memory_used += sign * self.memory_of(needs)
        self.gpus_used += sign * needs.gpus


def worker_of(hello: WorkerHello) -> Worker:
    """Return a worker that has just said hello."""
    return Worker(
        hello.address,
        hello.allocation,
        hello.worker_type,
        hello.node,
        hello.slots,
        hello.cpus,
        hello.memory,
        hello.gpus,
        hello.deadline,
        hello.recorder,
        hello.pid,
        hosts=hello.hosts,
    )


class Roster:
    """All workers by address, and where each attempt is."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._places: dict[AttemptId, tuple[str, str]] = {}
        """Attempt to worker's address and bundle's key."""
        self._drained: dict[str, str] = {}
        """Allocations that get nothing new, and why; also for workers of theirs that come later."""
        self._shunned: frozenset[str] = frozenset()
        self._observed: dict[str, deque[tuple[float, float | None]]] = {}
        """By worker type: the time (seconds) that a worker had when it came, and what its allocation was asked for."""

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def get(self, address: str) -> Worker | None:
        """Return a worker; None when it is not connected."""
        return self._workers.get(address)

    def of_allocation(self, allocation: str) -> list[Worker]:
        """Return the workers of an allocation."""
        return [worker for worker in self if worker.allocation == allocation]

    def on_nodes(self, allocation: str, nodes: Collection[str]) -> list[tuple[Worker, str]]:
        """Return the workers of an allocation that have one of these nodes, and the first that they have of them."""
        found = [(worker, worker.among(nodes)) for worker in self.of_allocation(allocation)]
        return [(worker, host) for worker, host in found if host is not None]

    def shun(self, hosts: Collection[str]) -> None:
        """Keep work away from the workers on these hosts, and from no other's, now and later."""
        if self._shunned == frozenset(hosts):
            return
        self._shunned = frozenset(hosts)
        for worker in self:
            worker.is_shunned = worker.among(self._shunned) is not None

    def hello(self, hello: WorkerHello, now: float) -> None:
        """Enter a worker; one that says hello again may have a new deadline and keeps what it has in hand."""
        known = self._workers.get(hello.address)
        if known is not None and known.is_same(hello):
            known.deadline = hello.deadline
            return
        worker = worker_of(hello)
        worker.is_shunned = worker.among(self._shunned) is not None
        worker.draining = self._drained.get(hello.allocation, "")
        self._workers[hello.address] = worker
        observed = self._observed.setdefault(hello.worker_type, deque(maxlen=_HELLOS_REMEMBERED))
        observed.append((worker.time_left_s(now), hello.walltime_s))

    def expect(self, address: str, allocation: str, worker_type: str) -> None:
        """Enter a worker of a driver before us that may come back with what it has in hand; it gets nothing new."""
        if address not in self._workers:
            self._workers[address] = Worker(
                address, allocation, worker_type, "", 0, draining="it has not come back yet"
            )

    def drain(self, address: str, because: str, deadline: float | None = None) -> None:
        """Give a worker nothing new; one that is not here is no error."""
        worker = self._workers.get(address)
        if worker is not None:
            worker.draining = because
            worker.deadline = worker.deadline if deadline is None else deadline

    def drain_allocation(self, allocation: str, because: str) -> None:
        """Give nothing new to the workers of an allocation, now and later."""
        self._drained[allocation] = because
        for worker in self.of_allocation(allocation):
            worker.draining = because

    def welcome_again(self, allocation: str) -> None:
        """Let the workers that an allocation will have from now on take work: its job begins anew."""
        self._drained.pop(allocation, None)

    def remove(self, address: str) -> Worker | None:
        """Take a worker out and return it with what it had in hand."""
        worker = self._workers.pop(address, None)
        if worker is not None:
            for load in worker.loads.values():
                for attempt in load.attempts:
                    self._places.pop(attempt, None)
        return worker

    def assign(
        self, address: str, key: str, attempts: Iterable[AttemptId], needs: Needs, *, alone: bool = False
    ) -> None:
        """Note that a bundle goes to a worker."""
        several = tuple(attempts)
        self._workers[address].take(key, several, needs, alone=alone)
        for attempt in several:
            self._places[attempt] = (address, key)

    def place_of(self, attempt: AttemptId) -> str | None:
        """Return the address of the worker that has an attempt in hand."""
        place = self._places.get(attempt)
        return None if place is None else place[0]

    def delivered(self, attempt: AttemptId, name: str) -> None:
        """Note that the worker that has an attempt in hand delivered its result."""
        place = self._places.get(attempt)
        if place is not None:
            receipts = self._workers[place[0]].receipts
            receipts[name] = receipts.get(name, 0) + 1

    def accounted(self, attempt: AttemptId) -> str | None:
        """Note that an attempt is over; return the key of its bundle when that was the last one in it."""
        place = self._places.pop(attempt, None)
        if place is None:
            return None
        address, key = place
        worker = self._workers[address]
        load = worker.loads[key]
        load.attempts.discard(attempt)
        if load.attempts:
            return None
        worker.drop(key)
        return key

    def busy(self) -> dict[str, int]:
        """Return how many attempts the workers of each allocation have in hand; idle ones count 0."""
        found: dict[str, int] = {}
        for worker in self:
            attempts = sum(len(load.attempts) for load in worker.loads.values())
            found[worker.allocation] = found.get(worker.allocation, 0) + attempts
        return found

    def arrivals(self, worker_type: str, walltime_s: float | None = None) -> Arrivals:
        """Return how much time recent workers of a type had when they came.

        Those of an allocation that was asked for less than ``walltime_s`` count as if it had been asked for that.
        """
        seen = self._observed.get(worker_type, ())
        observed = sorted(left_s + max(0.0, (walltime_s or 0.0) - (asked_s or math.inf)) for left_s, asked_s in seen)
        if not observed:
            return Arrivals()
        longest_s = observed[-1] if len(observed) >= _HELLOS_WANTED else None
        return Arrivals(longest_s, observed[len(observed) // _QUARTER])
