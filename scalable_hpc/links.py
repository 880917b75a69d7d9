"""What keeper and fleet reach the workers and the batch system through, before and after there is a scheduler."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.errors import SubmissionError
from scalable_hpc.lineage.keeper import Keeper
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.messages import Bundle
from scalable_hpc.model.tasks import AttemptId

if TYPE_CHECKING:
    from scalable_hpc.cluster.dask_link import DaskLink


class LateTransport:
    """The way to the workers, which is not there before the first worker is wanted."""

    def __init__(self) -> None:
        self.link: DaskLink | None = None

    def send(self, worker_address: str, bundles: Sequence[Bundle]) -> None:
        """Give bundles to a worker."""
        if self.link is not None:
            self.link.send(worker_address, bundles)

    def cancel_attempts(self, worker_address: str, attempts: Iterable[AttemptId]) -> None:
        """Have a worker stop attempts."""
        if self.link is not None:
            self.link.cancel_attempts(worker_address, attempts)

    def persist_held(self, worker_address: str, keys: Sequence[str]) -> None:
        """Have a worker store results that it holds."""
        if self.link is not None:
            self.link.persist_held(worker_address, keys)

    def free_held(self, worker_address: str, keys: Sequence[str]) -> None:
        """Let a worker drop results that it holds."""
        if self.link is not None:
            self.link.free_held(worker_address, keys)

    def dismiss(self, worker_address: str, because: str) -> None:
        """Send a worker home at once."""
        if self.link is not None:
            self.link.dismiss(worker_address, because)

    def release(self, keys: Iterable[str]) -> None:
        """Let go of bundles."""
        if self.link is not None:
            self.link.release(keys)


class Allocations:
    """What the fleet opens and closes allocations with: Dask's side is told, and the keeper's."""

    def __init__(self, link: DaskLink, keeper: Keeper, scripts: Path) -> None:
        self._link = link
        self._keeper = keeper
        self._scripts = scripts
        self.opened = 0
        """How many the batch system took."""

    async def open(self, request: AllocationRequest) -> str:
        """Submit an allocation and return the job id; a refusal names the script that was refused."""
        return (await self.open_array([request]))[0]

    async def open_array(self, requests: Sequence[AllocationRequest]) -> Sequence[str]:
        """Submit allocations together and return their job ids; a refusal names the script that was refused."""
        try:
            job_ids = await self._link.open_array(requests)
        except SubmissionError as refusal:
            refusal.message += f"\nthe script that was refused: {self._scripts / requests[0].name}.sh"
            raise
        self.opened += len(job_ids)
        return job_ids

    async def close(self, name: str, because: str) -> None:
        """Give an allocation back."""
        self._keeper.drain_allocation(name, because)
        await self._link.close(name, because)

    async def drain(self, name: str, because: str) -> None:
        """Place nothing more on an allocation; its workers are told too, for what is on its way."""
        self._keeper.drain_allocation(name, because)
        await self._link.drain(name, because)
