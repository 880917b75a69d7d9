"""Which workers are in the scheduler now, what they said of themselves, and whether we asked them to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from scalable_hpc.cluster.departures import Known, departure
from scalable_hpc.model.messages import WorkerDraining, WorkerGone, WorkerHello


class WorkerBook:
    """Workers by address."""

    def __init__(self) -> None:
        self._left: dict[str, asyncio.Event] = {}
        """Every registered worker, with what is set when it leaves."""
        self._hellos: dict[str, WorkerHello] = {}
        self._draining: dict[str, str] = {}
        self._close_asked: dict[str, str] = {}

    def __contains__(self, address: str) -> bool:
        return address in self._left

    def registered(self, address: str) -> None:
        """Note that the scheduler has a new worker."""
        self._left.setdefault(address, asyncio.Event())

    def said_hello(self, hello: WorkerHello) -> None:
        """Note what a worker is."""
        self.registered(hello.address)
        self._hellos[hello.address] = hello

    def is_draining(self, word: WorkerDraining) -> None:
        """Note that a worker wants nothing new."""
        self._draining[word.address] = word.because

    def close_asked(self, addresses: Iterable[str], because: str) -> None:
        """Note that we are about to make workers leave."""
        self._close_asked.update(dict.fromkeys(addresses, because))

    def gone(self, event: Mapping[str, Any], at: float) -> WorkerGone:
        """Strike a worker out and say so."""
        address = event["worker"]
        known = Known(self._close_asked.pop(address, ""), self._draining.pop(address, ""))
        self._hellos.pop(address, None)
        left = self._left.pop(address, None)
        if left is not None:
            left.set()
        return departure(event, at, known)

    def missing_from(self, present: Collection[str]) -> list[str]:
        """Return the workers of this book that are not among those present."""
        return [address for address in self._left if address not in present]

    def hellos(self) -> dict[str, WorkerHello]:
        """Return the workers that are ready, by address."""
        return dict(self._hellos)

    def of_allocation(self, name: str) -> list[str]:
        """Return the addresses of an allocation's workers."""
        return [address for address, hello in self._hellos.items() if hello.allocation == name]

    async def all_left(self, addresses: Iterable[str]) -> None:
        """Wait until none of these is registered any more."""
        for left in [self._left[address] for address in addresses if address in self._left]:
            await left.wait()
