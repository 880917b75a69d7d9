"""Submissions that several allocations share: one script, one command, a job id for each.

Rule 1: whoever comes first submits; a refusal, like an answer, is everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.arrays import member_id


class SharedSubmissions:
    """The submissions of one cluster."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, ...], asyncio.Future[str]] = {}

    async def submit(self, request: AllocationRequest, send: Callable[[], Awaitable[str]]) -> str:
        """Return the job id of an allocation, which may be a member of an array.

        Args:
            request: the allocation's.
            send: writes the script and submits it.
        """
        if not request.array:
            return await send()
        if request.array not in self._answers:
            self._answers[request.array] = asyncio.ensure_future(send())
        # Shielded: a Job that is given up must not take the submission away from the others.
        return member_id(await asyncio.shield(self._answers[request.array]), request.name)

    def forget(self, names: tuple[str, ...]) -> None:
        """Let go of an array whose members all have their answer."""
        self._answers.pop(names, None)


def script_path(scripts_dir: Path, request: AllocationRequest) -> Path:
    """Return where the script of an allocation is kept: one file for an array, named after its first member."""
    return scripts_dir / f"{request.array[0] if request.array else request.name}.sh"
