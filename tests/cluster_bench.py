"""A Dask link on a loop of its own with stand-in workers, and a way to await what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from scalable_hpc.cluster.dask_link import DaskLink
from scalable_hpc.cluster.patience import Patience
from scalable_hpc.cluster.verbs import CourierVerbs
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.messages import Upward
from tests import cluster_standin
from tests.cluster_standin import ProcessBackend, standin_script

QUICK = Patience(goodbye_s=0.05, late_words_s=0.1, pulse_every_s=0.2, pulse_s=0.5)
STANDIN_VERBS = CourierVerbs(cluster_standin.run_bundle, cluster_standin.cancel_attempts, cluster_standin.drain)


def request(name: str) -> AllocationRequest:
    return AllocationRequest(name, "standin", nodes=1, walltime_s=60, because="a test wants it")


class Bench:
    """The link, its batch system, and all it said so far."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.backend = ProcessBackend()
        self.said: list[Upward] = []
        self.link: DaskLink
        self._news = asyncio.Event()

    def hear(self, message: Upward) -> None:
        self.said.append(message)
        self._news.set()

    def heard(self, kind: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    async def until(self, claim: Callable[[], object], timeout: float = 20) -> None:
        """Return once a claim holds; it is looked at again after every message."""

        async def wait() -> None:
            while not claim():
                self._news.clear()
                await self._news.wait()

        await asyncio.wait_for(wait(), timeout)

    async def worker(self, name: str = "a0001") -> str:
        """Open an allocation and return the address of its worker, which said hello."""
        await self.link.open(request(name))
        await self.until(lambda: any(hello.allocation == name for hello in self.link.workers().values()))
        return next(hello.address for hello in self.link.workers().values() if hello.allocation == name)

    def executed(self) -> list[str]:
        """Return the attempts that stand-ins began, once per begin."""
        log = self.run_dir / "executed"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


async def polled(claim: Callable[[], object], timeout: float = 20) -> None:
    """Return once a claim holds about something that sends no events: a file, another process, Dask's inside."""

    async def look() -> None:
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), timeout)


@asynccontextmanager
async def link_bench(run_dir: Path, **options: Any) -> AsyncIterator[Bench]:
    bench = Bench(run_dir)
    arguments = {
        "run_dir": run_dir,
        "run_id": "20260101T000000Z-abc123",
        "backend": bench.backend,
        "render": lambda wanted: standin_script(run_dir, wanted),
        "on_message": bench.hear,
        "verbs": STANDIN_VERBS,
        "patience": QUICK,
        **options,
    }
    bench.link = await DaskLink.start(**arguments)
    try:
        yield bench
    finally:
        try:
            await bench.link.shutdown()
        finally:
            bench.backend.end()
