"""What several of Slurm's commands told about one job, and what it is doing then.

Rule 1: pure. The controller is right while it knows a job; only an end counts of what accounting says without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState


@dataclass(frozen=True, slots=True)
class Told:
    """What each command told about one job; None: it answered and does not know the job, or was not asked."""

    squeue: JobObservation | None = None
    sacct: JobObservation | None = None
    scontrol: JobObservation | None = None
    accounting: str = "on"
    """``on``, ``off`` or ``silent``: for the words of an UNKNOWN."""
    is_missing_in_array: bool = False
    """The controller knows the array that it is a member of, without it."""


def merge_observations(job_id: str, told: Told) -> JobObservation:
    """Decide what a job is doing.

    The controller is right while it knows the job, even in a state that we do not: after a requeue the accounting may
    still show the old incarnation, and its rows lag. When the controller has forgotten the job only an end counts:
    accounting that says PENDING or RUNNING then is stale (a job lost with its controller stays so for ever), so the
    job is UNKNOWN.
    """
    controllers = [seen for seen in (told.squeue, told.scontrol) if seen is not None]
    for seen in controllers:
        if seen.state is not JobState.UNKNOWN:
            return _with_details(seen, told)
    if controllers:
        return controllers[0]
    if told.sacct is not None and told.sacct.ending is not None:
        return told.sacct
    if told.sacct is not None:
        return JobObservation(
            job_id,
            JobState.UNKNOWN,
            told.sacct.raw,
            because="the controller does not know the job; accounting has no end for it",
            name=told.sacct.name,
        )
    if told.is_missing_in_array and told.accounting == "on":
        return _struck_off(job_id)
    accounting = {"on": "nor does accounting", "off": "accounting is off"}.get(told.accounting, "accounting is silent")
    return JobObservation(job_id, JobState.UNKNOWN, "", because=f"the controller does not know the job; {accounting}")


def _struck_off(job_id: str) -> JobObservation:
    """A member of an array that was cancelled while it waited: Slurm keeps no record of such, it drops the index."""
    words = "cancelled while it waited: its array goes on without it"
    return JobObservation(job_id, JobState.ENDED, words, because=words, ending=JobEnding(ExitReason.CANCELLED, words))


def _with_details(seen: JobObservation, told: Told) -> JobObservation:
    """Complete an end that came without an exit code from another command that tells of the same end."""
    if seen.ending is None or seen.ending.exit_code is not None or seen.ending.signal is not None:
        return seen
    same = (ExitReason.FAILED, ExitReason.LAUNCH_FAILED) if seen.ending.reason is ExitReason.FAILED else ()
    for other in (told.scontrol, told.sacct):
        if other is None or other.ending is None or other.ending.reason not in (seen.ending.reason, *same):
            continue
        end = other.ending
        return replace(seen, ending=replace(seen.ending, reason=end.reason, exit_code=end.exit_code, signal=end.signal))
    return seen
