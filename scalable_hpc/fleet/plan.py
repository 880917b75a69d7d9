"""What the fleet should do now: (view, demand, limits, now) to actions, each with its reason in words; pure.

``RULES`` is the whole policy, in order: what must end, what is not needed, what is missing. A rule sees the world as
the rules before it have left it, so one plan never acts twice on one allocation.

Rule 1: no I/O, no clock, no randomness.
Rule 2: a pending allocation is cancelled, never retired; a running one is retired, never cancelled; a busy one is
    retired only when its time is over.
Rule 3: more than ``maximum`` allocations exist only as successors of those that are leaving: one each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from scalable_hpc.fleet.case import Case
from scalable_hpc.fleet.pace import backoff_s
from scalable_hpc.fleet.roster import START_PATIENCE_S
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.fleet import (
    Action,
    AllocationView,
    Cancel,
    Demand,
    Drain,
    FleetView,
    Limits,
    Pause,
    Retire,
    Submit,
)

_S = AllocationState
_RUNNING = (_S.STARTING, _S.LIVE, _S.DRAINING)


def plan(view: FleetView, demand: Sequence[Demand], limits: Mapping[str, Limits], now: float) -> list[Action]:
    """Decide what to do now; worker types are planned independently of each other, in the order of their names.

    Args:
        view: what is there.
        demand: what is wanted, at most once per worker type; a type that is left out wants nothing.
        limits: what is allowed; of a type that has none nothing new is opened.
        now: seconds since the epoch.
    """
    wanted = {each.worker_type: each for each in demand}
    actions: list[Action] = []
    for worker_type in sorted({*wanted, *limits, *(seen.worker_type for seen in view.allocations)}):
        nothing = Demand(worker_type, waiting=0, assigned=0)
        allowed = limits.get(worker_type) or Limits(worker_type, maximum=0)
        case = Case(view, wanted.get(worker_type, nothing), allowed, now)
        for rule in RULES:
            for action in rule(case):
                case.apply(action)
                actions.append(action)
    return actions


def _retire_at_the_deadline(case: Case) -> list[Action]:
    return [
        Retire(seen.name, f"its walltime is over{_still_busy(seen)}")
        for seen in case.untouched(*_RUNNING)
        if seen.ends_at is not None and case.now >= seen.ends_at
    ]


def _retire_drained(case: Case) -> list[Action]:
    return [
        Retire(seen.name, "drained, and nothing runs on it any more")
        for seen in case.untouched(_S.DRAINING)
        if seen.busy == 0
    ]


def _retire_where_no_worker_comes(case: Case) -> list[Action]:
    return [
        Retire(seen.name, f"its job has run for {case.now - seen.alone_since:.0f} s without a worker")
        for seen in case.untouched(_S.STARTING)
        if seen.alone_since is not None and case.now - seen.alone_since >= START_PATIENCE_S and seen.busy == 0
    ]


def _drain_on_request(case: Case) -> list[Action]:
    return [Drain(seen.name, f"it asked: {seen.drain_asked}") for seen in case.untouched(_S.LIVE) if seen.drain_asked]


def _drain_without_room(case: Case) -> list[Action]:
    """Drain what no waiting task fits on any more.

    One that never had a task is left alone: draining it would only bring another just like it, unless it was asked for
    less time than what waits now needs.
    """
    actions: list[Action] = []
    typical, waiting = case.typical_s, case.demand.waiting
    longest = case.demand.need_s or 0.0
    for seen in case.untouched(_S.LIVE):
        room, idle = case.room_s(seen), case.idle_s(seen) if seen.busy == 0 else 0.0
        if room <= 0:
            actions.append(Drain(seen.name, f"{room + case.limits.margin_s:.0f} s left, kept free as margin"))
        elif not waiting or not (case.was_ever_busy(seen) or case.is_too_short(seen)):
            continue
        elif typical is not None and room < typical:
            actions.append(Drain(seen.name, f"{room:.0f} s left for work, a waiting task needs {typical:.0f} s"))
        elif idle >= case.limits.idle_s and room < longest:
            words = f"idle for {idle:.0f} s with {room:.0f} s left, a waiting task needs {longest:.0f} s"
            actions.append(Drain(seen.name, words))
    return actions


def _cancel_when_nothing_waits(case: Case) -> list[Action]:
    if case.work and not (case.view.closing and case.demand.waiting == 0):
        return []
    return [Cancel(seen.name, "no task is left for it") for seen in case.untouched(_S.PENDING)]


def _cancel_too_short(case: Case) -> list[Action]:
    """Take back what was asked for a short time when what waits now needs a longer one."""
    return [
        Cancel(seen.name, f"asked for {seen.walltime_s} s, and a waiting task needs {case.typical_s or 0.0:.0f} s now")
        for seen in case.untouched(_S.PENDING)
        if case.demand.waiting and case.is_too_short(seen)
    ]


def _cancel_surplus(case: Case) -> list[Action]:
    """Take back pending allocations beyond the work, the newest first, once they have been asked for ``idle_s`` ago."""
    pending = [] if case.is_all_wanted() else case.untouched(_S.PENDING)
    staying = case.staying() if pending else []
    spare = sum(case.capacity(seen) for seen in staying) - case.wanted_slots()
    spare_count = len(staying) - case.limits.minimum
    actions: list[Action] = []
    for seen in sorted(pending, key=lambda seen: (seen.submitted_at, seen.name), reverse=True):
        if spare < seen.slots or spare_count <= 0:
            break
        if case.now - seen.submitted_at >= case.limits.idle_s:
            actions.append(Cancel(seen.name, f"{_count(case.work, 'task')} left, enough slots without it"))
            spare, spare_count = spare - seen.slots, spare_count - 1
    return actions


def _give_back_idle(case: Case) -> list[Action]:
    """Drain live allocations that the work does not need; those with the least time left go first.

    Drained and not retired, so that an attempt which is being placed at this moment still finds its worker; with
    the session closing and nothing left there is none, and they are retired at once.
    """
    if case.work and case.is_all_wanted():
        return []
    live = [seen for seen in case.untouched(_S.LIVE) if case.capacity(seen)]
    if case.work == 0 and case.view.closing:
        return [Retire(seen.name, "the session ends and nothing is left") for seen in live if seen.busy == 0]
    spare = sum(case.capacity(seen) for seen in live) - case.wanted_slots()
    spare_count = len(live) - (case.limits.minimum if case.work else 0)
    actions: list[Action] = []
    unused = [seen for seen in live if seen.busy == 0]
    for seen in sorted(unused, key=lambda seen: (case.room_s(seen), seen.name)):
        idle = case.idle_s(seen)
        if idle >= case.limits.idle_s and spare >= case.capacity(seen) and spare_count > 0:
            actions.append(Drain(seen.name, f"idle for {idle:.0f} s, {_count(case.work, 'task')} left: given back"))
            spare, spare_count = spare - case.capacity(seen), spare_count - 1
    return actions


def _retire_unneeded_start(case: Case) -> list[Action]:
    if case.work:
        return []
    return [
        Retire(seen.name, "no task is left for it, and no worker of it is here yet")
        for seen in case.untouched(_S.STARTING)
        if seen.busy == 0
        and (case.view.closing or case.now - (seen.alone_since or seen.submitted_at) >= case.limits.idle_s)
    ]


def _pause_after_failed_starts(case: Case) -> list[Action]:
    failures = case.view.start_failures_in_a_row
    if not failures or case.view.paused_until is not None or case.work == 0 or case.view.closing:
        return []
    said = f"{_count(failures, 'allocation')} in a row ended before any worker registered"
    if failures >= case.limits.start_failures:
        return [Pause(math.inf, f"{said}: opens nothing more")]
    wait = backoff_s(failures)
    return [Pause(case.now + wait, f"{said}: opens nothing for {wait:.0f} s, then one to try")]


def _submit_for_the_work(case: Case) -> list[Action]:
    wanted, usable = case.wanted_slots(), case.usable_slots()
    for_minimum = case.limits.minimum - len(case.staying()) if case.work and case.limits.minimum else 0
    for_work = math.ceil((wanted - usable) / case.slots_each)
    count = min(case.allowance(), max(for_work, for_minimum))
    if count <= 0 or case.waits_for_calls() or (for_minimum <= 0 and _done_before_one_comes(case)):
        return []
    because = (
        f"{_count(case.demand.waiting, 'task')} wait, {_slots(case)}: "
        f"asks for {_count(count, 'allocation')} of {_count(case.slots_each, 'slot')}"
    )
    return [_submit(case, because)] * count


def _submit_successors(case: Case) -> list[Action]:
    """Ask for successors of allocations that will end before the work does, one each at most."""
    allowance = case.allowance(for_successors=True)
    leavers = case.leavers() if allowance else []
    staying = len(case.staying()) + case.asked if leavers else 0
    actions: list[Action] = []
    for seen, left in zip(leavers, _left_when_over(case, leavers), strict=True):
        if len(actions) >= allowance or math.ceil(left / case.slots_each) <= staying + len(actions):
            break
        because = f"{seen.name} ends in {_span(case, seen)}, {_count(left, 'task')} will wait then: asks for one more"
        actions.append(_submit(case, because, replaces=seen.name))
    return actions


RULES: tuple[Callable[[Case], list[Action]], ...] = (
    _retire_at_the_deadline,
    _retire_drained,
    _retire_where_no_worker_comes,
    _drain_on_request,
    _drain_without_room,
    _cancel_when_nothing_waits,
    _cancel_too_short,
    _cancel_surplus,
    _give_back_idle,
    _retire_unneeded_start,
    _pause_after_failed_starts,
    _submit_for_the_work,
    _submit_successors,
)
"""The policy; order matters and is the order of the list."""


def _left_when_over(case: Case, leavers: Sequence[AllocationView]) -> list[int]:
    """Tasks that will still wait when each takes no more; all that wait now while their length is not known."""
    done = case.done_within([max(0.0, case.room_s(seen)) for seen in leavers])
    return [min(case.demand.waiting, max(0, case.work - each)) for each in done]


def _done_before_one_comes(case: Case) -> bool:
    """Whether the live slots will be through before a new allocation has waited in the queue."""
    wait = case.view.queue_wait_p90_s
    return wait > 0 and case.done_within([wait])[0] >= case.work


def _submit(case: Case, because: str, replaces: str | None = None) -> Submit:
    walltime = case.walltime
    words = f"{because}, {walltime.because}" if walltime.because else because
    return Submit(case.limits.worker_type, case.limits.nodes, walltime.seconds, words, replaces)


def _slots(case: Case) -> str:
    usable = [seen for seen in case if seen.state is _S.LIVE and case.capacity(seen)]
    live = sum(seen.live_slots for seen in usable)
    coming = case.usable_slots() - sum(case.capacity(seen) for seen in usable)
    return f"{_count(live, 'slot')} live" + (f", {coming} on their way" if coming > 0 else "")


def _span(case: Case, seen: AllocationView) -> str:
    return f"{(seen.ends_at or case.now) - case.now:.0f} s"


def _still_busy(seen: AllocationView) -> str:
    return f", {_count(seen.busy, 'attempt')} still assigned" if seen.busy else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
