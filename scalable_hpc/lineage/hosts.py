"""Hosts that do harm: which of them new allocations keep away from, and for how long.

A host is at fault when work fails on it for a reason of the infrastructure's and the same work succeeds on another: the
attempts that were lost or refused there have their receipts from elsewhere, or an allocation of the same worker type
started elsewhere. Faults that come together (a node that dies under sixty attempts) are one incident. Two proven
incidents within the hour make a suspect of a host.

Rule 1: pure; a fold of the journal, so that a run's next driver knows what this one learned.
Rule 2: what a task raised itself never counts, nor what ends allocations on healthy nodes: walltime, preemption,
``scancel``, requeues.
Rule 3: never more hosts are excluded than others were seen to do well: with too few left nothing could start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scalable_hpc.model.allocations import AllocationState, ExitReason
from scalable_hpc.model.events import (
    AllocationChanged,
    AttemptExplained,
    AttemptFailed,
    HostsTrusted,
    HostSuspected,
    ReceiptTaken,
)
from scalable_hpc.model.tasks import Ending, Verdict

_R = ExitReason
_ENDINGS = frozenset({Ending.WORKER_LOST.value, Ending.REFUSED.value})
_VERDICTS = frozenset({Verdict.INFRASTRUCTURE.value, Verdict.UNKNOWN.value})
_REASONS = frozenset(
    {None, _R.UNKNOWN.value, _R.NODE_FAIL.value, _R.BOOT_FAIL.value, _R.LAUNCH_FAILED.value, _R.FAILED.value}
)
"""Why the allocation under an attempt ended, as far as that speaks against its host."""
_START_REASONS = _REASONS - {None, _R.UNKNOWN.value}
_TOGETHER_S = 60.0
"""Faults of a host within this time of the first are one incident."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """When a host is excluded."""

    faults: int = 2
    """Proven incidents that it takes: one may be anybody's bad luck."""
    within_s: float = 3600.0
    """Older incidents are forgotten."""
    exclude_for_s: float = 3600.0
    """0: no host is ever excluded."""


@dataclass(slots=True)
class _Incident:
    at: float
    what: str
    attempts: set[tuple[str, int]] = field(default_factory=set)
    worker_type: str = ""
    """Of an allocation that did not start."""
    is_proven: bool = False


@dataclass(slots=True)
class _Start:
    """An allocation that has not ended."""

    worker_type: str = ""
    has_worker: bool = False
    nodes: tuple[str, ...] = ()


class HostBook:
    """What is held against each host."""

    def __init__(self) -> None:
        self._incidents: dict[str, list[_Incident]] = {}
        self._tasks: dict[str, list[tuple[str, _Incident]]] = {}
        """Where a task's attempts failed, until it succeeds."""
        self._starts: dict[str, _Start] = {}
        self._started: dict[str, set[str]] = {}
        """Hosts that had workers, by worker type."""
        self._good: set[str] = set()
        self._excluded: dict[str, float] = {}
        self._is_news = False

    def attempt_failed(self, event: AttemptFailed) -> None:
        """Hold a lost or refused attempt against its host, for the time being."""
        is_fault = event.ending in _ENDINGS and event.verdict in _VERDICTS and event.allocation_reason in _REASONS
        if event.node is None or not is_fault:
            return
        what = f"{event.ending.replace('_', ' ')}{f' ({event.allocation_reason})' if event.allocation_reason else ''}"
        incident = self._incident(event.node, event.at, what)
        incident.attempts.add((event.task_id, event.attempt))
        self._tasks.setdefault(event.task_id, []).append((event.node, incident))

    def explained(self, event: AttemptExplained) -> None:
        """Take back what turned out to be no fault of the host's."""
        if event.allocation_reason in _REASONS:
            return
        failed = event.task_id, event.attempt
        for host, incident in self._tasks.get(event.task_id, ()):
            if failed in incident.attempts:
                incident.attempts.discard(failed)
                if not incident.attempts and not incident.worker_type and incident in self._incidents.get(host, ()):
                    self._incidents[host].remove(incident)

    def delivered(self, event: ReceiptTaken) -> None:
        """Note a success: proof against the other hosts where the same task failed."""
        if event.reused or not event.node:
            return
        self._good.add(event.node)
        for host, incident in self._tasks.pop(event.task_id, ()):
            if host != event.node and any(task_id == event.task_id for task_id, _ in incident.attempts):
                incident.is_proven = self._is_news = True

    def did_well(self, node: str) -> None:
        """Note a success of a task that has failed nowhere."""
        self._good.add(node)

    def allocation_changed(self, event: AllocationChanged) -> None:
        """Note where allocations start, and where they do not."""
        start = self._starts.setdefault(event.name, _Start())
        start.worker_type = event.worker_type or start.worker_type
        start.nodes = event.nodes or start.nodes
        if event.state == AllocationState.LIVE.value:
            start.has_worker = self._is_news = True
            self._started.setdefault(start.worker_type, set()).update(start.nodes)
        elif event.state == AllocationState.ENDED.value:
            del self._starts[event.name]
            has_failed = event.reason in _START_REASONS and not start.has_worker
            if has_failed and len(start.nodes) == 1:  # of several nodes nobody knows which one it was
                what = f"no worker started ({event.reason})"
                is_nodes_end = event.reason in (_R.NODE_FAIL.value, _R.BOOT_FAIL.value)  # of all that were there
                incident = self._incident(start.nodes[0], event.at, what, joins=is_nodes_end)
                incident.worker_type, self._is_news = start.worker_type, True

    def suspected(self, event: HostSuspected) -> None:
        """Exclude a host; what was held against it is used up."""
        self._excluded[event.host] = event.until
        self._incidents.pop(event.host, None)
        self._good.discard(event.host)

    def trusted(self, event: HostsTrusted) -> None:
        """Exclude nobody any more."""
        for host in event.hosts:
            self._excluded.pop(host, None)

    def excluded(self, now: float) -> tuple[str, ...]:
        """Return the hosts that new allocations keep away from, in order of their names."""
        return tuple(sorted(host for host, until in self._excluded.items() if until > now))

    def suspects(self, now: float, rules: HostRules) -> list[HostSuspected]:
        """Say which hosts are to be excluded from now on."""
        if not self._is_news or rules.exclude_for_s <= 0:
            return []
        self._is_news = False
        found: list[HostSuspected] = []
        for host in list(self._incidents):
            kept = [one for one in self._incidents[host] if now - one.at < rules.within_s]
            self._incidents[host] = kept
            proven = [one for one in kept if one.is_proven or self._started.get(one.worker_type, set()) - {host}]
            others = self._well_off(now) - {host, *(event.host for event in found)}
            if len(proven) >= rules.faults and len(others) > len(self.excluded(now)) + len(found):
                found.append(_suspicion(host, proven, now, rules))
        return found

    def _well_off(self, now: float) -> set[str]:
        return self._good.union(*self._started.values()) - set(self.excluded(now))

    def _incident(self, host: str, at: float, what: str, *, joins: bool = True) -> _Incident:
        """Return the incident that a fault belongs to: one that has just begun, if it may have the same cause."""
        known = self._incidents.setdefault(host, [])
        if not known or not joins or at - known[-1].at > _TOGETHER_S:
            known.append(_Incident(at, what))
        return known[-1]


def _suspicion(host: str, proven: list[_Incident], now: float, rules: HostRules) -> HostSuspected:
    whats = ", ".join(dict.fromkeys(one.what for one in proven))
    because = (
        f"work failed on {host} {len(proven)} times within {(now - proven[0].at) / 60:.0f} min"
        f" and succeeded elsewhere ({whats}): new allocations keep away from it for {rules.exclude_for_s / 60:.0f} min"
    )
    return HostSuspected(now, host, now + rules.exclude_for_s, because)
