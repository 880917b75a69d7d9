"""Which of the allocations that are asked for together go into one submission; pure.

Rule 1: members of an array are alike in all but their names, and their names in all but the index.
Rule 2: an array that was put off is halved, since a limit on jobs may have room for a part of it; the limit's word
    says no more than that all of it was too much. What is taken ends that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.model.arrays import trunk


class Arrays:
    """How many allocations of each worker type one submission asks for."""

    def __init__(self) -> None:
        self._halved: dict[str, int] = {}

    def bundle(self, requests: Sequence[AllocationRequest], at_most: int) -> list[tuple[AllocationRequest, ...]]:
        """Return the submissions, in order.

        Args:
            requests: of one worker type, planned at one moment.
            at_most: allocations that one submission may ask for.
        """
        most = min(at_most, self._halved.get(requests[0].worker_type, at_most)) if requests else at_most
        found: list[tuple[AllocationRequest, ...]] = []
        for _, alike in groupby(requests, key=_shape):
            members = list(alike)
            found += [_together(members[begin : begin + most]) for begin in range(0, len(members), most)]
        return found

    def taken(self, worker_type: str) -> None:
        """Note that the batch system took a submission."""
        self._halved.pop(worker_type, None)

    def put_off(self, request: AllocationRequest) -> None:
        """Note that the batch system did not take a submission for now; told once for each of its allocations."""
        if request.array:
            self._halved[request.worker_type] = max(1, len(request.array) // 2)


def _shape(request: AllocationRequest) -> tuple[object, ...]:
    return trunk(request.name), request.nodes, request.walltime_s, request.excluded_nodes


def _together(members: Sequence[AllocationRequest]) -> tuple[AllocationRequest, ...]:
    names = tuple(each.name for each in members)
    return tuple(replace(each, array=names) for each in members) if len(names) > 1 else tuple(members)
