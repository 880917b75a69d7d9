"""What a rehearsal showed: lost, run again, charged, and what that comes to on the real machine; pure.

Rule 1: node-hours are those of the allocations as they stood, times the factor and the nodes that each really has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scalable_hpc.rehearsal.cues import KINDS, Cue, Played
from scalable_hpc.telemetry.reported import RunReport

HOLDS, DOES_NOT_HOLD = 0, 42
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome."""

    lines: tuple[str, ...]
    reasons: tuple[str, ...]
    """Why it does not hold; empty: it does."""

    @property
    def exit_code(self) -> int:
        """0, or 42 where it does not hold."""
        return DOES_NOT_HOLD if self.reasons else HOLDS


def judge(
    report: RunReport | None,
    played: Sequence[Played],
    left: Sequence[Cue],
    *,
    factor: float,
    nodes: Mapping[str, int],
    code: int,
) -> Verdict:
    """Say what was lost, run again and charged, and whether the driver came through.

    Args:
        report: of the run; None: the driver began none.
        played: the losses that were brought about.
        left: those that were not: too few tasks were done.
        factor: seconds of the real machine to one of this.
        nodes: of an allocation on the real machine, by worker type.
        code: the driver's last exit code.
    """
    if report is None:
        return Verdict((), (f"the driver began no run; it ended with exit code {code}",))
    reasons = tuple(_reasons(report, left, code))
    lines = [*_played(report, played), *_sums(report, factor, nodes)]
    lines.append("it holds" if not reasons else f"it does not hold: {'; '.join(reasons)}")
    return Verdict(tuple(lines), reasons)


def _played(report: RunReport, played: Sequence[Played]) -> Iterator[str]:
    for number, one in enumerate(played):
        until = played[number + 1].at if number + 1 < len(played) else float("inf")
        hit = [each for each in report.ended if one.at <= each.at < until]
        lost = sum(not each.charged for each in hit)
        charged = sum(each.charged for each in hit)
        words = f"{lost} attempts lost and run again, {charged} charged"
        yield f"when {one.done} were done, {KINDS[one.cue.kind]} ({one.what}): {words}"
    if not played:
        yield "no loss was asked for"


def _sums(report: RunReport, factor: float, nodes: Mapping[str, int]) -> Iterator[str]:
    upkeep, tasks = report.upkeep, report.tasks
    lost_s = sum(each.ran_s or 0.0 for each in report.ended if not each.charged)
    yield f"tasks: {tasks.done} done, {tasks.failed} failed, {tasks.unfinished} not finished, {tasks.hits} cache hits"
    yield f"lost: {upkeep.attempts_lost + upkeep.attempts_beside} attempts, {lost_s:.1f} s of work"
    again = f"{upkeep.tasks_run_again} tasks, {upkeep.extra_attempts} extra attempts"
    yield f"run again: {again}; {upkeep.done_twice} computed again after they were done"
    yield f"charged to tasks: {upkeep.attempts_charged} attempts"
    hours = sum(each.node_hours * nodes.get(each.worker_type, 1) for each in report.allocations) * factor
    yield (
        f"charged by the real machine: {hours:.3g} node-hours for {len(report.allocations)} allocations,"
        f" at {factor:g} s to each second here"
    )


def _reasons(report: RunReport, left: Sequence[Cue], code: int) -> Iterator[str]:
    if code:
        yield f"the driver ended with exit code {code}"
    if report.tasks.failed:
        yield f"{report.tasks.failed} tasks failed"
    if report.tasks.unfinished:
        yield f"{report.tasks.unfinished} tasks were not finished"
    if report.upkeep.done_twice:
        yield f"{report.upkeep.done_twice} tasks were computed again although they were done"
    for cue in left:
        yield f"never came to '{KINDS[cue.kind]}' after {cue.after} tasks: too few were done, or nothing ran then"
