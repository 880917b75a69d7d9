"""Slurm's vocabulary as tables: job states, pending reasons that never end, sbatch's refusals.

Rule 1: pure; tables and look-ups only, reading text is ``slurm_text``'s work.
Rule 2: a word that is in no table is UNKNOWN, or a plain ``SubmissionError``; it is never guessed.
Words of 22.05.8 are from recorded transcripts, the others from Slurm's own list of error strings and reason codes.
"""

from __future__ import annotations

import re

from scalable_hpc.errors import LimitRefused, PartitionRefused, ScalableError, SubmissionDeferred, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobState

STATES: dict[str, JobState] = {
    "PENDING": JobState.PENDING,
    # Nodes are allocated but still booting: the script has not started.
    "CONFIGURING": JobState.PENDING,
    "POWER_UP_NODE": JobState.PENDING,
    "EXPEDITING": JobState.PENDING,
    # In the controller these are moments on the way back to PENDING; in the accounting they are an end (see ENDINGS).
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD,
    "SPECIAL_EXIT": JobState.HELD,
    "RUNNING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "SUSPENDED": JobState.SUSPENDED,
    "STOPPED": JobState.SUSPENDED,
    "COMPLETING": JobState.ENDING,
    "STAGE_OUT": JobState.ENDING,
}
"""States of a job that is not over."""

ENDINGS: dict[str, ExitReason] = {
    "COMPLETED": ExitReason.COMPLETED,
    "FAILED": ExitReason.FAILED,
    "TIMEOUT": ExitReason.TIMEOUT,
    "NODE_FAIL": ExitReason.NODE_FAIL,
    "BOOT_FAIL": ExitReason.BOOT_FAIL,
    "PREEMPTED": ExitReason.PREEMPTED,
    "OUT_OF_MEMORY": ExitReason.OUT_OF_MEMORY,
    "CANCELLED": ExitReason.CANCELLED,
    "REVOKED": ExitReason.CANCELLED,
    "DEADLINE": ExitReason.DEADLINE,
    "LAUNCH_FAILED": ExitReason.LAUNCH_FAILED,
    "RECONFIG_FAIL": ExitReason.BOOT_FAIL,
}
"""States of a job that is over, wherever they are read."""

ACCOUNTING_ENDINGS: dict[str, ExitReason] = {
    **ENDINGS,
    "REQUEUED": ExitReason.REQUEUED,
}
"""The accounting closes the record of each incarnation; one that was requeued by hand ends REQUEUED there."""

HELD_REASONS = re.compile(r"JobHeld|JobHoldMaxRequeue|requeued[ _]in[ _]held|requeued[ _]held", re.IGNORECASE)
"""Reasons of a PENDING job that waits for a person to release it."""

CANNOT_LAUNCH = 53
"""Slurm's own marker in the signal half of ``ExitCode``: the script could not be started. No such signal."""
RAN_OUT_OF_MEMORY = 125
"""The same for OUT_OF_MEMORY."""

ENDINGS_THAT_TELL_AN_EXIT = frozenset(
    {
        ExitReason.COMPLETED,
        ExitReason.FAILED,
        ExitReason.OUT_OF_MEMORY,
        ExitReason.TIMEOUT,
        ExitReason.CANCELLED,
        ExitReason.PREEMPTED,
    }
)
"""Elsewhere ExitCode is a leftover: NODE_FAIL is ``1:0`` in sacct and ``0:1`` in scontrol for the same job."""

_NEVER_RUNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(QOS|Assoc)MaxWallDurationPerJobLimit", "it asks for more walltime than its QOS or account allows"),
        (r"PartitionTimeLimit", "it asks for more walltime than its partition allows"),
        (r"(QOS|Assoc)Max\w+Per(Job|Node)(Limit)?", "it asks for more than its QOS or account allows one job"),
        (r"QOSMin\w+", "it asks for less than its QOS demands"),
        # "RunMinutes" limits free themselves as jobs end; minutes that are used up do not.
        (r"(QOS|Assoc)Grp(?!\w*Run)\w*Minutes(Limit)?", "the minutes granted to its account or QOS are used up"),
        (r"(QOS|Assoc)GrpWallLimit", "the walltime granted to its account or QOS is used up"),
        (r"BadConstraints", "no node can ever satisfy its constraints"),
        (r"InvalidAccount", "its account is not valid"),
        (r"InvalidQOS", "its QOS is not valid"),
        (r"AccountNotAllowed", "its account is not allowed in its partition"),
        (r"QOSNotAllowed", "its QOS is not allowed in its partition or account"),
        (r"DependencyNeverSatisfied", "a job that it depends on ended in a way that it does not accept"),
        (r"ReservationDeleted", "its reservation was deleted"),
        (r"JobHoldMaxRequeue", "it was requeued too often and is held"),
        (r"launch[ _]failed[ _]requeued[ _]held", "its launch failed and it is held"),
    )
)
# Left out on purpose, because they pass: PartitionDown, PartitionInactive, NodeDown, ReqNodeNotAvail, limits per user,
# account or group that other jobs use up, and PartitionNodeLimit, which Slurm also prints while nodes are drained.

_STUCK: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"PartitionDown", "its partition is down"),
        (r"PartitionInactive", "its partition is inactive"),
        (r"NodeDown|ReqNodeNotAvail.*|Nodes required.*DOWN.*", "nodes that it needs are down, drained or reserved"),
        (r"PartitionNodeLimit|PartitionConfig", "its partition has not enough nodes that are up"),
        (r"Reservation|ReservationMaintenance|ReservationOverlap", "a reservation keeps the nodes"),
        (r"(QOS|Assoc)(Grp|Max)\w+", "a limit of its account or QOS is used up"),
        (r"Licenses", "licenses are used up"),
        (r"JobHeld(Admin|User)|JobHold\w*", "it is held"),
    )
)
"""What others must remove before the job has a turn at all; the rest (Priority, Resources, ...) is the queue."""

_SHOW_LIMITS = "compare the request with 'scontrol show partition' and 'sacctmgr show qos'"
_SHOW_PARTITIONS = "list the partitions with 'sinfo -s'"
_SHOW_ACCOUNTS = "list your accounts with 'sacctmgr show assoc user=$USER format=account,partition,qos'"
_SHOW_ARRAY_SIZE = "set allocations.array below MaxArraySize, which 'scontrol show config' tells"
_TRY_LATER = "nothing to do: it is tried again"

_REFUSALS: tuple[tuple[re.Pattern[str], type[ScalableError], str | None], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), error, hint)
    for pattern, error, hint in (
        # Not now. The reason line comes before Slurm's catch-all "Job violates accounting/QOS policy".
        (r"\b(QOS|Assoc)\w*Submit\w*Limit", SubmissionDeferred, _TRY_LATER),
        (r"MaxJobCount limit reached", SubmissionDeferred, _TRY_LATER),
        (r"Rate limit exceeded", SubmissionDeferred, _TRY_LATER),
        (r"Unable to contact slurm controller", SubmissionDeferred, _TRY_LATER),
        (r"Slurm temporarily unable to accept job", SubmissionDeferred, _TRY_LATER),
        (r"Resource temporarily unavailable", SubmissionDeferred, _TRY_LATER),
        (r"Socket timed out|Connection timed out|Connection refused", SubmissionDeferred, _TRY_LATER),
        (r"Connection reset by peer|Broken pipe|No route to host", SubmissionDeferred, _TRY_LATER),
        (r"Zero Bytes were transmitted or received", SubmissionDeferred, _TRY_LATER),
        (r"Message (send|receive) failure|Communication \w+ failure", SubmissionDeferred, _TRY_LATER),
        (r"Transport endpoint is not connected", SubmissionDeferred, _TRY_LATER),
        (r"backup controller in standby mode", SubmissionDeferred, _TRY_LATER),
        (r"shutting down and closing all communications", SubmissionDeferred, _TRY_LATER),
        (r"I/O error writing script/environment to file", SubmissionDeferred, _TRY_LATER),
        (r"munge\w* (encode|decode) failed|Unable to access .*munge\.socket", SubmissionDeferred, _TRY_LATER),
        # For good: the partition, or the account in it.
        (r"invalid partition( name)? specified", PartitionRefused, _SHOW_PARTITIONS),
        (r"No partition specified or system default partition", PartitionRefused, _SHOW_PARTITIONS),
        (r"Required partition not available", PartitionRefused, _SHOW_PARTITIONS),
        (r"group not permitted to use this partition", PartitionRefused, _SHOW_PARTITIONS),
        (r"Invalid account or account/partition combination", PartitionRefused, _SHOW_ACCOUNTS),
        # For good: too much.
        (r"Requested time limit is invalid", LimitRefused, _SHOW_LIMITS),
        (r"\b(QOS|Assoc)(Max|Min|Grp)\w+", LimitRefused, _SHOW_LIMITS),
        (r"Job violates accounting/QOS policy", LimitRefused, _SHOW_LIMITS),
        (r"More processors requested than permitted", LimitRefused, _SHOW_LIMITS),
        (r"Node count specification invalid", LimitRefused, _SHOW_LIMITS),
        (r"(CPU count per node|Memory specification) can ?not be satisfied", LimitRefused, _SHOW_LIMITS),
        (r"Requested node configuration is not available", LimitRefused, _SHOW_LIMITS),
        (r"Requested partition configuration not available now", LimitRefused, _SHOW_LIMITS),
        (r"Memory required by task is not available", LimitRefused, _SHOW_LIMITS),
        # For good: the rest that has a next step of its own.
        (r"Invalid qos specification", SubmissionError, _SHOW_ACCOUNTS),
        (r"Invalid job array specification", SubmissionError, _SHOW_ARRAY_SIZE),
        (r"unrecognized option", SubmissionError, "correct the '#SBATCH' line: 'sbatch --help' lists the options"),
    )
)

_ANSWER_LOST = re.compile(
    r"Socket timed out|receive failure|Zero Bytes|timed out reading|Connection reset by peer|Broken pipe", re.IGNORECASE
)
"""The request had been sent: the controller may have made the job and only the answer was lost."""

_CANCEL_IS_MOOT = re.compile(r"Invalid job id|already completing or completed|Access/permission denied", re.IGNORECASE)
"""Permission denied: the id was given to someone else's job after a controller lost ours."""


def why_it_never_runs(reason: str) -> str | None:
    """Say why a pending job with this reason will never run, or None when it may."""
    word = reason.strip().strip("()")
    return next((why for pattern, why in _NEVER_RUNS if pattern.fullmatch(word)), None)


def why_it_is_stuck(reason: str) -> str | None:
    """Say why a pending job with this reason has no turn yet, however short the queue; None: it has."""
    word = reason.strip().strip("()")
    return why_it_never_runs(reason) or next((why for pattern, why in _STUCK if pattern.fullmatch(word)), None)


def refusal_class(words: str) -> tuple[type[ScalableError], str | None]:
    """Return the error class and hint for what a failed sbatch printed; the first row that matches decides."""
    for pattern, error, hint in _REFUSALS:
        if pattern.search(words):
            return error, hint
    return SubmissionError, None


def may_have_been_taken(words: str) -> bool:
    """Whether a job may exist although sbatch failed with these words."""
    return _ANSWER_LOST.search(words) is not None


def cancel_is_moot(words: str) -> bool:
    """Whether scancel only says that there is nothing of ours to cancel."""
    return _CANCEL_IS_MOOT.search(words) is not None
