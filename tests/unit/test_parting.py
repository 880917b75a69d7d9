"""A driver that was warned inside its own job lets what runs there finish, as far as there is time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.config.resolved import ResolvedTarget
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import AllocationView
from scalable_hpc.parting import FOR_THE_REST_S, let_finish


def view(name, ends_in_s=None):
    ends_at = None if ends_in_s is None else time.time() + ends_in_s
    return AllocationView(name, "model", AllocationState.LIVE, 1, 600, 0.0, ends_at=ends_at)


@dataclass
class Fleet:
    """Allocations of which another one comes up as soon as the first was looked at."""

    views: list[AllocationView]
    is_wound_down: bool = False

    def wind_down(self):
        self.is_wound_down = True

    def snapshot(self):
        return tuple(self.views)


@dataclass
class Keeper:
    """Has attempts in hand for so many looks."""

    looks: int
    drained: list[str] = field(default_factory=list)

    def busy(self):
        self.looks -= 1
        return {"a0001": int(self.looks >= 0)}

    def drain_allocation(self, name, because):
        self.drained.append(name)


def part(keeper, fleet, ends_in_s=None, *, is_inside=True):
    """Return how long it waited, in seconds."""
    began = time.monotonic()
    known = None if ends_in_s is None else time.time() + ends_in_s
    target = ResolvedTarget("here", "slurm", "", Path("/"), inside=is_inside, ends_at=known)
    asyncio.run(let_finish(target, keeper, fleet, "its time is over"))
    return time.monotonic() - began


def test_that_what_runs_is_waited_for_and_nothing_more_begins():
    """Of every allocation, and it ends as soon as the last attempt has."""
    keeper, fleet = Keeper(3), Fleet([view("a0001"), view("a0002")])

    assert part(keeper, fleet, ends_in_s=600) < 60
    assert keeper.looks == -1
    assert set(keeper.drained) == {"a0001", "a0002"}
    assert fleet.is_wound_down


def test_that_the_driver_keeps_the_time_that_it_needs_itself():
    """What runs longer is cut short with the job."""
    assert part(Keeper(10**6), Fleet([]), ends_in_s=FOR_THE_REST_S + 0.5) < FOR_THE_REST_S


def test_that_the_batch_systems_last_word_on_the_end_counts():
    """Limits of running jobs are changed; of a job whose end nobody knows, nothing can be waited for."""
    keeper = Keeper(3)

    part(keeper, Fleet([view("a0001", ends_in_s=600)]), ends_in_s=0)
    assert keeper.looks == -1

    keeper = Keeper(10**6)
    assert part(keeper, Fleet([view("a0001")])) < FOR_THE_REST_S
    assert keeper.looks == 10**6 - 1, "asked only for what is cut short"


def test_that_allocations_that_are_jobs_of_their_own_go_on():
    """They keep their work for the run's next driver."""
    keeper, fleet = Keeper(3), Fleet([view("a0001", ends_in_s=600)])

    part(keeper, fleet, ends_in_s=600, is_inside=False)
    assert (keeper.looks, keeper.drained, fleet.is_wound_down) == (3, [], False)
