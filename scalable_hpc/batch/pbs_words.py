"""PBS's vocabulary as tables: job states, ends, comments that never change, qsub's refusals.

Rule 1: pure; tables and look-ups only, reading text is ``pbs_text``'s work.
Rule 2: a word that is in no table is UNKNOWN, or a plain ``SubmissionError``; it is never guessed.
What is in the tables was seen in transcripts of OpenPBS, but for rows marked "by its source".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from scalable_hpc.errors import LimitRefused, PartitionRefused, ScalableError, SubmissionDeferred, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobState

STATES: dict[str, JobState] = {
    "Q": JobState.PENDING,
    "W": JobState.PENDING,  # waits for a time, or for files to be staged
    "T": JobState.PENDING,  # on its way to another queue
    "H": JobState.HELD,
    "B": JobState.RUNNING,  # an array, some of whose jobs have begun
    "R": JobState.RUNNING,
    "S": JobState.SUSPENDED,
    "U": JobState.SUSPENDED,  # a workstation's owner came back
    "E": JobState.ENDING,
}
"""States of a job that is not over. M (moved to another server) is left out: what it does there nobody tells here."""

FINISHED = frozenset({"F", "X"})
"""States of a job that is over: kept in the history; an array's own job that has left it."""

DELETED, FINISHED_WELL, FAILED = 91, 92, 93
"""Substates of a finished job."""

WAITS_FOR_OTHERS = 22
"""Substate of a job that PBS holds until the jobs that it depends on have ended."""

CAN_NEVER_RUN = re.compile(r"^Can Never Run\b")
"""The scheduler's comment on a request that no node can satisfy; qsub takes such jobs, and they wait for ever."""
_TOO_MANY_ATTEMPTS = re.compile(r"too many failed attempts to run", re.IGNORECASE)

_COMMENT_ENDS: tuple[tuple[re.Pattern[str], ExitReason], ...] = (
    (re.compile(r"\band exceeded resource walltime$"), ExitReason.TIMEOUT),
    (re.compile(r"\band exceeded resource cput$"), ExitReason.TIMEOUT),
    (re.compile(r"\band exceeded resource v?mem$"), ExitReason.OUT_OF_MEMORY),
    (re.compile(r"\band exceeded resource \S+$"), ExitReason.FAILED),
    (re.compile(r"\band terminated(?: by \S+)?$"), ExitReason.CANCELLED),
)
"""What PBS appends to a job's comment at its end."""

NEGATIVE_STATUSES: dict[int, ExitReason] = {
    # by its source, but for -4, -11, -20, -27 and -29, which were seen
    **dict.fromkeys((-1, -2, -3, -7, -10, -13, -16, -17, -21, -22, -23), ExitReason.LAUNCH_FAILED),
    **dict.fromkeys((-4, -5, -6), ExitReason.NODE_FAIL),  # ended when its node's daemon started again
    **dict.fromkeys((-14, -20), ExitReason.NODE_FAIL),  # a node of it was lost
    -30: ExitReason.BOOT_FAIL,  # a node would not join
    -11: ExitReason.REQUEUED,
    **dict.fromkeys((-12, -15, -18), ExitReason.REQUEUED),
    -19: ExitReason.CANCELLED,  # deleted by a site's hook
    -24: ExitReason.FAILED,
    -25: ExitReason.FAILED,
    -26: ExitReason.OUT_OF_MEMORY,
    -27: ExitReason.OUT_OF_MEMORY,
    -28: ExitReason.TIMEOUT,
    -29: ExitReason.TIMEOUT,
}
"""``Exit_status`` below zero: the end was PBS's doing, not the script's."""

CANNOT_START = 254
"""The shell that should run the script could not be started; known from a script's own 254 by its having no time."""
_INSTANT_S = 2.0
_SESSION_SIGNAL = 256
"""Above it: the signal that ended the job's first process, the login shell."""
_SHELL_SIGNAL = 128
_MOST_SIGNAL = 64
_OOM_NOTE = re.compile(r"\bmem limit exceeded", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finish:
    """What PBS keeps of a job's end, read."""

    exit_status: int | None = None
    """None: it never ran, or was removed by force."""
    substate: int | None = None
    comment: str = ""
    diagnosis: str = ""
    """``resources_used.diag_messages``: what the cgroups hook has to say."""
    used_s: float | None = None
    walltime_s: float | None = None

    @property
    def signal(self) -> int | None:
        """The signal that ended the session or, by the shell's word (128 + signal), the script."""
        for base in (_SESSION_SIGNAL, _SHELL_SIGNAL):
            if self.exit_status is not None and 0 < self.exit_status - base <= _MOST_SIGNAL:
                return self.exit_status - base
        return None

    @property
    def is_out_of_time(self) -> bool:
        """Whether it ran for as long as it was allowed to, by whole seconds."""
        return self.walltime_s is not None and self.used_s is not None and self.used_s >= self.walltime_s


def _ran_badly(end: Finish) -> bool:
    return end.exit_status is not None and end.exit_status != 0


END_ROWS: tuple[tuple[str, Callable[[Finish], bool], ExitReason], ...] = (
    (
        "the cgroups hook saw it reach its memory limit",
        lambda end: _OOM_NOTE.search(end.diagnosis) is not None and _ran_badly(end),
        ExitReason.OUT_OF_MEMORY,
    ),
    ("deleted before it ran, or by force", lambda end: end.exit_status is None and end.substate == DELETED,
     ExitReason.CANCELLED),
    ("never ran: what it depended on ended otherwise", lambda end: end.exit_status is None and end.substate ==
     FINISHED_WELL, ExitReason.CANCELLED),
    ("no exit status, and no word why", lambda end: end.exit_status is None, ExitReason.UNKNOWN),
    # Servers before 2020-12 say 271 of a walltime, as of a qdel; qdel's substate and comment come first.
    ("deleted", lambda end: end.substate == DELETED, ExitReason.CANCELLED),
    (
        "ended by SIGTERM or SIGKILL after all its walltime",
        lambda end: (end.exit_status or 0) > _SESSION_SIGNAL and end.signal in (9, 15) and end.is_out_of_time,
        ExitReason.TIMEOUT,
    ),
    ("failed although its script ended well: a node of it was lost",
     lambda end: end.exit_status == 0 and end.substate == FAILED, ExitReason.NODE_FAIL),
    ("exit status 0", lambda end: end.exit_status == 0, ExitReason.COMPLETED),
    (
        "its shell could not be started",
        lambda end: end.exit_status == CANNOT_START and (end.used_s or 0.0) < _INSTANT_S,
        ExitReason.LAUNCH_FAILED,
    ),
    ("exit status above 0", lambda end: (end.exit_status or 0) > 0, ExitReason.FAILED),
)  # fmt: skip
"""Read after the comment's last words and the statuses below zero; the first row that holds decides."""


def why_ended(end: Finish) -> ExitReason:
    """Return why a finished job ended: the comment's last words, a status below zero, then ``END_ROWS``."""
    for pattern, reason in _COMMENT_ENDS:
        if pattern.search(end.comment):
            return reason
    if end.exit_status is not None and end.exit_status < 0:
        return NEGATIVE_STATUSES.get(end.exit_status, ExitReason.UNKNOWN)
    return next((reason for _, holds, reason in END_ROWS if holds(end)), ExitReason.UNKNOWN)


def why_it_never_runs(comment: str) -> str | None:
    """Say why a job that waits with this comment will never run, or None when it may."""
    if CAN_NEVER_RUN.search(comment):
        return "no node can ever satisfy its request"
    if _TOO_MANY_ATTEMPTS.search(comment):
        return "its start failed too often, and it is held"
    return None


_STUCK: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"Queue not (started|enabled)", re.IGNORECASE), "its queue takes or starts no jobs"),
    (re.compile(r"limit reached|job limit", re.IGNORECASE), "a limit of its queue or user is used up"),
    (re.compile(r"dedicated time|primetime", re.IGNORECASE), "the machine is kept for others at this time"),
    (re.compile(r"\bheld\b", re.IGNORECASE), "it is held"),
)
"""What others must remove before the job has a turn at all; the rest is the queue."""


def why_it_is_stuck(comment: str) -> str | None:
    """Say why a job that waits with this comment has no turn yet, however short the queue; None: it has."""
    return why_it_never_runs(comment) or next((why for pattern, why in _STUCK if pattern.search(comment)), None)


_SHOW_QUEUES = "list the queues with 'qstat -Q', and what one allows with 'qstat -Qf QUEUE'"
_SHOW_SERVER = "what the server is asked with: 'echo $PBS_SERVER; cat /etc/pbs.conf'"
_TRY_LATER = "nothing to do: it is tried again"
_FIX_OPTION = "correct the option in extra_directives, resources or select_extras: 'man qsub' lists what there is"

_REFUSALS: dict[int, tuple[type[ScalableError], str, str | None]] = {
    # exit code of qsub (PBS's error number, its last eight bits): class, what the code means, next step
    1: (SubmissionError, "the script or an option cannot be read", "scalable-hpc render   # look at the job script"),
    2: (SubmissionError, "an option cannot be read", _FIX_OPTION),
    3: (LimitRefused, "the array is too long", None),
    5: (SubmissionError, "an option contradicts the select statement", "use select_extras instead of '-l'"),
    6: (SubmissionError, "an option contradicts the select statement", "use select_extras instead of '-l nodes='"),
    32: (SubmissionError, "a hook of the site refused it", None),
    38: (SubmissionDeferred, "too many of your jobs are there already", _TRY_LATER),
    154: (SubmissionError, "the server does not know an attribute (the text may be of an earlier error)", _FIX_OPTION),
    159: (PartitionRefused, "you may not use this queue", _SHOW_QUEUES),
    160: (SubmissionError, "the server's host is not known", _SHOW_SERVER),
    162: (SubmissionDeferred, "the server does not answer", _TRY_LATER),
    166: (SubmissionError, "an attribute or resource has a value that PBS does not take", _FIX_OPTION),
    170: (PartitionRefused, "there is no such queue", _SHOW_QUEUES),
    173: (PartitionRefused, "the queue is closed", _SHOW_QUEUES),
    174: (PartitionRefused, "you may not use this queue", _SHOW_QUEUES),  # by its source
    175: (SubmissionError, "PBS runs no jobs of this user", None),
    185: (SubmissionDeferred, "the server has no connection left", _TRY_LATER),  # by its source
    187: (SubmissionError, "PBS does not know a resource", _FIX_OPTION),
    188: (LimitRefused, "it asks for more, or less, than its queue allows", _SHOW_QUEUES),
}
"""The text beside the code is a hint only: qsub's background process may print that of an earlier failure."""

_ANSWER_LOST = re.compile(r"End of File|timed? ?out|Premature end of message|reset by peer", re.IGNORECASE)
"""The connection broke after the request was sent: the server may have made the job."""

SERVER_IS_AWAY = re.compile(
    r"cannot connect to server|Couldn't connect to cluster|Connection (refused|timed out|reset)|Unknown Host"
    r"|No route to host|End of File|Premature end of message",
    re.IGNORECASE,
)
"""Words of any command that reached no server; whatever else it printed, nothing was said about a job."""
HISTORY_IS_OFF = re.compile(r"not configured to maintain job history")
UNKNOWN_JOB = re.compile(r"Unknown Job Id(?: Error)?\s+(\S+)")
HAS_FINISHED = re.compile(r"(\S+) Job has finished, use -x")
NO_SUCH_NODE_DAEMON = re.compile(r"Server could not connect to MOM\s+(\S+)")
"""qdel of a job whose node is down: the job stays, unless it is removed by force."""
_CANCEL_IS_MOOT = re.compile(
    # Unauthorized: the id is someone else's by now. Invalid state: it is being torn down already.
    r"Job has finished|Unknown Job Id|Unauthorized Request|Request invalid for state of job|illegally formed job id"
)


def refusal_class(rc: int) -> tuple[type[ScalableError], str, str | None]:
    """Return the error class, the meaning and the hint of qsub's exit code."""
    return _REFUSALS.get(rc, (SubmissionError, "", None))


def may_have_been_taken(rc: int, words: str) -> bool:
    """Whether a job may exist although qsub failed with this code and these words."""
    return rc not in _REFUSALS and _ANSWER_LOST.search(words) is not None


def cancel_is_moot(line: str) -> bool:
    """Whether a line of qdel only says that there is nothing of ours to delete."""
    return _CANCEL_IS_MOOT.search(line) is not None
