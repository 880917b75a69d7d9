"""A run's report as plain text: readable without colour, the journal's own words unchanged; pure."""

from __future__ import annotations

from collections import Counter

from scalable_hpc.faults.evidence import signal_name
from scalable_hpc.model.tasks import Verdict
from scalable_hpc.model.units import format_memory, format_walltime
from scalable_hpc.telemetry.reported import AllocationReport, EndedAttempt, Failure, RunReport

ALLOCATIONS_SHOWN = 40
"""More lines than this are summed up: nobody reads four hundred."""
NOTES_SHOWN = 20
REASON_WIDTH = 100
"""Longer words of the batch system are cut in the overview; the journal has all of them."""
_DIGITS = 16
"""Of a digest: enough to tell it from any other; the journal has all 64."""
_CAUGHT_AS = {"TaskTimeout": "TimeoutError", "TaskOutOfMemory": "MemoryError"}
"""Our own errors by the name that everybody knows them by, and catches them by."""


def render_report(report: RunReport) -> str:
    """Return the whole report: what was done, what was lost, run again and skipped, allocations, failures."""
    parts = [
        _head(report),
        _tasks(report),
        _upkeep(report),
        _verified(report) if report.verified else "",
        _allocations(report),
        _notes(report),
        render_failures(report) if report.failures else "",
    ]
    return "\n\n".join(part for part in parts if part)


def render_failures(report: RunReport) -> str:
    """Return the tasks that failed for good, one paragraph each."""
    total = report.tasks.submitted + report.tasks.hits
    if not report.failures:
        return f"No failures ({_count(total, 'task')})."
    paragraphs = [f"Failures ({len(report.failures):,} of {_count(total, 'task')}):"]
    paragraphs += [_failure(number, failure) for number, failure in enumerate(report.failures, 1)]
    return "\n\n".join(paragraphs)


def render_attempts(report: RunReport) -> str:
    """Return every attempt that ended without a result, with all that is known of it, one paragraph each."""
    if not report.ended:
        return "Every attempt ended with its result."
    paragraphs = [f"Attempts that ended without a result: {len(report.ended):,}"]
    paragraphs += [_ended(ended, report.opened_at) for ended in report.ended]
    return "\n\n".join(paragraphs)


def _ended(ended: EndedAttempt, start: float) -> str:
    """Say what is known; what is not is left out."""
    number = None if ended.signal is None else f"ended by {signal_name(ended.signal)}"
    code = None if ended.exit_code is None else f"ended with exit code {ended.exit_code}"
    raw = f"[{ended.allocation_raw}]" if ended.allocation_raw else ""
    reason = " ".join(filter(None, (ended.allocation_reason, raw)))
    known = (
        ("ended", f"{_ending(ended.ending, ended.verdict)}, {'charged' if ended.charged else 'not charged'}"),
        ("because", ended.because),
        ("exception", f"{ended.error_type}: {ended.error}" if ended.error_type else None),
        ("slot", number or code),
        ("its worker", ended.worker_end),
        ("place", " ".join(filter(None, (ended.allocation, f"({ended.node})" if ended.node else "")))),
        ("ran", None if ended.ran_s is None else _seconds(ended.ran_s)),
        ("peak memory", None if ended.peak_memory is None else format_memory(ended.peak_memory)),
        ("time left", None if ended.time_left_s is None else _seconds(max(0.0, ended.time_left_s))),
        ("allocation ended", reason),
    )
    lines = [f"+{_seconds(ended.at - start)} {ended.label}, attempt {ended.attempt} ({ended.task_id})"]
    lines += [f"   {word}: {said}" for word, said in known if said]
    if ended.traceback:
        lines += ["   " + ("traceback:" if ended.error_type else "the end of its output:")]
        lines += [f"      {line}" for line in ended.traceback.rstrip().splitlines()]
    return "\n".join(lines)


def _head(report: RunReport) -> str:
    run = report.run_id or "(the journal has no beginning)"
    state = f"closed: {report.closed_because}" if report.is_closed else "not closed: still running, or its driver died"
    drivers = f", {report.drivers} drivers" if report.drivers > 1 else ""
    target = f" on target {report.target!r}" if report.target else ""
    return f"Run {run}{target}\n  {format_walltime(report.wall_s)} from first to last event{drivers}; {state}"


def _tasks(report: RunReport) -> str:
    tasks = report.tasks
    standing = [
        (tasks.done, "done"),
        (tasks.failed, "failed"),
        (tasks.cancelled, "cancelled"),
        (tasks.unfinished, "not finished"),
    ]
    said = ", ".join(f"{number:,} {word}" for number, word in standing if number) or "none submitted"
    lines = [f"Tasks: {said}; {_count(tasks.hits, 'cache hit')}"]
    for name in report.names:
        mean = "" if name.mean_s is None else f", {_seconds(name.mean_s)} each"
        failed = f", {name.failed:,} failed" if name.failed else ""
        lines.append(f"  {name.name or '(unnamed)'}: {name.done:,} done{failed}, {name.hits:,} hits{mean}")
    return "\n".join(lines)


def _upkeep(report: RunReport) -> str:
    """What was lost, run again and skipped."""
    upkeep = report.upkeep
    lines = ["Lost, run again, skipped:"]
    lost = [each for each in report.attempts if not each.charged and each.verdict != Verdict.KILLER.value]
    lines.append(f"  {_count(upkeep.attempts_lost, 'attempt')} lost to infrastructure, charged to no task")
    lines += [f"    {each.count:,} {_ending(each.ending, each.reason)}" for each in lost]
    if upkeep.attempts_beside:
        lines.append(f"  {_count(upkeep.attempts_beside, 'attempt')} ended with a worker's death, run again alone")
    if upkeep.attempts_suspect:
        lines.append(f"  {_count(upkeep.attempts_suspect, 'attempt')} ended with a slot's death, given one more try")
    lines.append(f"  {_count(upkeep.attempts_charged, 'attempt')} failed and counted as tries")
    lines += [f"    {each.count:,} {_ending(each.ending, each.verdict)}" for each in report.attempts if each.charged]
    lines.append(f"  {_count(upkeep.tasks_run_again, 'task')} run again, {upkeep.extra_attempts:,} extra attempts")
    if upkeep.recalled:
        lines.append(f"  {_count(upkeep.recalled, 'result')} lost with a worker or damaged on disk, computed again")
    skipped = report.tasks.hits + upkeep.reused + upkeep.done_before
    lines.append(
        f"  {skipped:,} skipped: {_count(report.tasks.hits, 'cache hit')}, {upkeep.reused:,} found in the store, "
        f"{upkeep.done_before:,} done before this driver"
    )
    lines.append(f"  {upkeep.done_twice:,} computed again after a receipt")
    return "\n".join(lines)


def _verified(report: RunReport) -> str:
    head = f"Computed once more, to be compared: {_count(report.verified, 'call')}, {len(report.differing):,} differing"
    lines = [
        f"  {each.label}: {each.first[:_DIGITS]}, then {each.second[:_DIGITS]} on {each.second_node}"
        for each in report.differing
    ]
    return "\n".join([head, *lines])


def _allocations(report: RunReport) -> str:
    if not report.allocations:
        return "Allocations: none was opened"
    lines = [f"Allocations: {len(report.allocations):,}, {report.node_hours:.3g} node-hours{say_budget(report)}"]
    shown = report.allocations[:ALLOCATIONS_SHOWN]
    width = max(len(each.name) for each in shown)
    lines += [f"  {each.name:<{width}}  {_allocation(each)}" for each in shown]
    if rest := report.allocations[ALLOCATIONS_SHOWN:]:
        reasons = Counter(each.reason or each.state for each in rest)
        lines.append(f"  and {len(rest):,} more: " + ", ".join(f"{n:,} {word}" for word, n in reasons.most_common()))
    return "\n".join(lines)


def say_budget(report: RunReport) -> str:
    """Return the budget and what is forecast of it, as words after the node-hours; nothing where there is none."""
    if report.budget_node_hours is None:
        return ""
    will_grow = report.forecast_node_hours > report.node_hours
    forecast = f"; {report.forecast_node_hours:.3g} if what is open lasts to its walltime" if will_grow else ""
    return f" of a budget of {report.budget_node_hours:.3g}{forecast}"


def _allocation(seen: AllocationReport) -> str:
    state = f"{seen.state} {seen.reason}".strip()
    began = seen.started_at
    lived = ("never ran" if began is None else _lived(seen, began)) + _shortened(seen)
    nodes = f" on {', '.join(seen.nodes)}" if seen.nodes else ""
    words = _cut(seen.raw or seen.because)
    lost = f", {_count(seen.lost, 'attempt')} lost" if seen.lost else ""
    job = f"job {seen.job_id}" if seen.job_id else "no job"
    return f"{state:<18} {job}{nodes}, {lived}, {_count(seen.receipts, 'receipt')}{lost}  [{words}]"


def _shortened(seen: AllocationReport) -> str:
    if seen.configured_s is None or seen.asked_s is None:
        return ""
    return f", asked for {format_walltime(seen.asked_s)} of {format_walltime(seen.configured_s)}"


def _lived(seen: AllocationReport, began: float) -> str:
    waited = f"waited {_seconds(began - seen.asked_at)}"
    return waited if seen.ended_at is None else f"{waited}, ran {_seconds(seen.ended_at - began)}"


def _notes(report: RunReport) -> str:
    if not report.notes:
        return ""
    start = report.opened_at
    lines = ["Fleet notes:"]
    lines += [f"  +{_seconds(note.at - start)} {note.kind}: {note.because}" for note in report.notes[-NOTES_SHOWN:]]
    if len(report.notes) > NOTES_SHOWN:
        lines.insert(1, f"  ({len(report.notes) - NOTES_SHOWN:,} earlier ones are in the journal)")
    return "\n".join(lines)


def _failure(number: int, failure: Failure) -> str:
    kind = failure.error_type.rsplit(".", 1)[-1]
    kind = _CAUGHT_AS.get(kind, kind)
    worker = failure.allocation or failure.worker  # a worker bears its allocation's name; its address says little
    place = " ".join(part for part in (worker, f"({failure.node})" if failure.node else "") if part)
    is_fast = failure.verdict == Verdict.PERMANENT.value and not failure.retries
    fast = " (fast fail — permanent error)" if is_fast else ""
    error, *more = [line for line in failure.error.splitlines() if line.strip()] or [""]
    lines = [f"{number}. {failure.label}", f"   Error: {kind} — {error}", *(f"      {line}" for line in more)]
    if place:
        lines.append(f"   Worker: {place}")
    if failure.ran_s is not None:
        lines.append(f"   Duration before failure: {_seconds(failure.ran_s)}{fast}")
    if failure.retries:
        lines.append(f"   Retries attempted: {failure.retries:,} (all failed)")
    if failure.workers:
        lines.append(f"   Workers that died running it: {failure.workers:,}")
    if failure.deaths:
        lines.append(f"   Slots that died running it: {failure.deaths:,}")
    if failure.uncharged:
        lines.append(f"   Attempts lost to infrastructure, not counted as tries: {failure.uncharged:,}")
    if failure.because and failure.because != failure.error:
        lines.append(f"   Because: {failure.because}")
    return "\n".join(lines)


def _ending(ending: str, why: str) -> str:
    said = ending.replace("_", " ")
    return f"{said} ({why})" if why else said


def _seconds(seconds: float) -> str:
    if seconds < 0.1:  # noqa: PLR2004  (below a tenth, milliseconds say more)
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 100 else f"{seconds:,.0f}s"  # noqa: PLR2004  (three digits are enough)


def _cut(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= REASON_WIDTH else line[: REASON_WIDTH - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
