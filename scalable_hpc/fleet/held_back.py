"""Why no (further) allocation of a worker type is asked for while tasks wait, in words; pure.

The plan says why it acts; this says why it does not, by the same case.
"""

from __future__ import annotations

import math

from scalable_hpc.fleet.case import Case
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import Demand, FleetView, Limits

_QUEUED = (AllocationState.SUBMITTING, AllocationState.PENDING)
_COMING = (*_QUEUED, AllocationState.STARTING)


def held_back(case: Case) -> str:
    """Say why nothing is asked for; empty: nothing waits, or an allocation is about to be asked for."""
    if not case.demand.waiting:
        return ""
    return next(filter(None, (rule(case) for rule in _RULES)), "")


def _closes(case: Case) -> str:
    return "the session ends" if case.view.closing else ""


def _pauses(case: Case) -> str:
    until = case.view.paused_until
    if until is None or case.now >= until:
        return ""
    length = "" if math.isinf(until) else f" for {until - case.now:.0f} s more"
    return f"it pauses{length}, see the notes"


def _starts_fail(case: Case) -> str:
    failures = case.view.start_failures_in_a_row
    if failures < case.limits.start_failures:
        return ""
    return f"{failures} allocations in a row ended before any worker registered"


def _tries_one(case: Case) -> str:
    failures = case.view.start_failures_in_a_row
    unproven = sum(seen.state in _COMING and not seen.reached_live for seen in case)
    if not failures or not unproven:
        return ""
    return f"the last {failures} ended before any worker registered: one is tried, and it is not there yet"


def _enough(case: Case) -> str:
    wanted, usable = case.wanted_slots(), case.usable_slots()
    if usable < wanted:
        return ""
    return f"{usable} slots are there or on their way, the work can use {wanted}"


def _at_most(case: Case) -> str:
    there = len(list(case))
    if there < case.limits.maximum:
        return ""
    return f"{there} allocations are there, and allocations.max is {case.limits.maximum}"


def _too_many_queued(case: Case) -> str:
    queued = sum(seen.state in _QUEUED for seen in case)
    if queued < case.limits.max_pending:
        return ""
    return f"{queued} allocations are in the queue, no more are asked for before one of them starts"


def _no_jobs_left(case: Case) -> str:
    left = case.view.jobs_left
    return "" if left is None or left > 0 else "the run has as many jobs as the site or the target allows"


def _too_dear(case: Case) -> str:
    left_node_s = case.view.node_s_left
    price_node_s = case.limits.nodes * case.walltime.seconds
    if left_node_s is None or left_node_s >= price_node_s:
        return ""
    hours, price = max(0.0, left_node_s) / 3600, price_node_s / 3600
    return f"{hours:.3g} node-hours of the budget are free, an allocation takes up to {price:.3g}"


def _soon_done(case: Case) -> str:
    wait_s = case.view.queue_wait_p90_s
    if wait_s <= 0 or case.done_within([wait_s])[0] < case.work:
        return ""
    return f"the slots that are live will be through before a new allocation has waited {wait_s:.0f} s in the queue"


def _gathers(case: Case) -> str:
    return "calls are coming in: it asks when they are counted" if case.waits_for_calls() else ""


_RULES = (
    _closes,
    _pauses,
    _starts_fail,
    _tries_one,
    _enough,
    _at_most,
    _too_many_queued,
    _no_jobs_left,
    _too_dear,
    _gathers,
    _soon_done,
)
"""The first that has something to say says it."""


class HeldBack:
    """The last situation of each worker type; what is said of it is worked out only when somebody asks."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[FleetView, Demand, Limits, float]] = {}

    def note(self, worker_type: str, seen: FleetView, wanted: Demand | None, limits: Limits | None, now: float) -> None:
        """Take in what was planned for."""
        if wanted is None or limits is None:
            self._last.pop(worker_type, None)
        else:
            self._last[worker_type] = seen, wanted, limits, now

    def say(self) -> dict[str, str]:
        """Return why nothing more is asked for, by worker type that tasks wait for."""
        said = {name: held_back(Case(*situation)) for name, situation in self._last.items()}
        return {name: because for name, because in said.items() if because}
