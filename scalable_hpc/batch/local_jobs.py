"""A local job as its directory tells it: observed, put in order after an accident, signalled.

Rule 1: what is on disk is the only truth, so a new driver sees the jobs of a dead one as its own.
Rule 2: whoever finds a shepherd dead ends what is left of its job and says so: NODE_FAIL, since nobody watched its end.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from scalable_hpc.batch import process_tree, spool
from scalable_hpc.errors import BatchSilent
from scalable_hpc.model.allocations import ExitReason, JobEnding, JobObservation, JobState

_STATES = {"running": JobState.RUNNING, "ending": JobState.ENDING, "ended": JobState.ENDED}


def observe(directory: Path) -> JobObservation:
    """Return what a job is doing; UNKNOWN for a directory that is none. Settles a job whose shepherd is dead."""
    request = spool.read_json(str(directory / spool.REQUEST))
    if request is None:
        return JobObservation(directory.name, JobState.UNKNOWN, "", because="the spool has no such job")
    told = _told(directory)
    if told is None or told.get("state") != "ended":
        told = _before_the_end(directory, request)
    return _observation(directory, request, told)


def _before_the_end(directory: Path, request: dict[str, object]) -> dict[str, object]:
    """Return the state of a job that has not told its end yet."""
    by = spool.claimed_by(str(directory))
    if by is None:
        driver = request.get("driver")
        if not isinstance(driver, dict) or spool.life_of(driver) == spool.DEAD:
            give_up_before_start(directory, "its driver died before it started")
            return _told(directory) or {"state": "pending"}
        return {"state": "pending", "because": "Resources"}
    if spool.life_of(by, str(directory)) == spool.DEAD:
        guard = by.get("guard")
        if isinstance(guard, dict) and spool.life_of(guard) == spool.ALIVE:
            told = _told(directory) or {}
            return told if told.get("state") == "ended" else {**told, "state": "ending"}
        settle(directory)
    # Read after the look at the shepherd: had it ended in between, its last state is there now.
    return _told(directory) or {"state": "pending", "because": "Prolog"}


def give_up_before_start(directory: Path, because: str) -> bool:
    """End a job that has no shepherd yet as CANCELLED; False when it has one, or is over."""
    if not spool.claim(str(directory), spool.identity_of(os.getpid())):
        return False
    _end(directory, ExitReason.CANCELLED, f"CANCELLED ({because})")
    return True


def settle(directory: Path) -> None:
    """End what a dead shepherd left of its job; does nothing where it told the end itself."""
    told = _told(directory) or {}
    if told.get("state") == "ended":
        return
    process_tree.kill_all(lambda: _left_over(directory, told))
    _end(directory, ExitReason.NODE_FAIL, "NODE_FAIL (its shepherd process is gone)", told)


def _left_over(directory: Path, told: dict[str, object]) -> set[int]:
    """Return the processes of a job that has no shepherd to be descendants of."""
    found = process_tree.marked(str(directory))
    script = told.get("script")
    # A program may overwrite its environment (setproctitle does): the script itself is known by its identity.
    if isinstance(script, dict) and spool.life_of(script) == spool.ALIVE:
        found.add(int(script["pid"]))
    return found | process_tree.below(found)


def fail_to_launch(directory: Path, because: str) -> None:
    """End a job whose shepherd could not be started."""
    if spool.claim(str(directory), spool.identity_of(os.getpid())):
        _end(directory, ExitReason.LAUNCH_FAILED, f"LAUNCH_FAILED ({because})")


def order(directory: Path, number: signal.Signals) -> None:
    """Send an order to a job's shepherd; nothing happens when the job is over.

    Raises:
        BatchSilent: the shepherd lives on another host.
    """
    by = spool.claimed_by(str(directory))
    if by is None or (_told(directory) or {}).get("state") == "ended":
        return
    life = spool.life_of(by, str(directory))
    if life == spool.ELSEWHERE:
        raise BatchSilent(
            f"local job '{directory.name}' runs on another host: '{by.get('host')}'", hint="cancel it from there"
        )
    pid = by.get("pid")
    if life == spool.DEAD or not isinstance(pid, int):
        return  # whoever looks at it next settles it
    with suppress(ProcessLookupError):
        _send_to(pid, by, number)


def _send_to(pid: int, identity: dict[str, object], number: signal.Signals) -> None:
    """Signal the process of this identity and no other that got its pid since."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        os.kill(pid, number)  # Linux before 5.3 has no handles; the identity was right a moment ago
        return
    try:
        if spool.life_of(identity) == spool.ALIVE:
            signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _told(directory: Path) -> dict[str, object] | None:
    return spool.read_json(str(directory / spool.STATE))


def _end(directory: Path, reason: ExitReason, raw: str, told: dict[str, object] | None = None) -> None:
    ended = {"state": "ended", "reason": reason.value, "raw": raw, "ended_at": time.time()}
    started = {"started_at": (told or {}).get("started_at")}
    spool.write_json(str(directory / spool.STATE), {**started, **ended}, durable=True)


def _observation(directory: Path, request: dict[str, object], told: dict[str, object]) -> JobObservation:
    state = _STATES.get(str(told.get("state")), JobState.PENDING)
    places = spool.places_of(str(directory)) or (os.uname().nodename,)
    nodes = places if told.get("started_at") is not None else ()
    ending = None
    if state is JobState.ENDED:
        reason = told.get("reason")
        known = {member.value for member in ExitReason}
        ending = JobEnding(
            reason=ExitReason(reason) if reason in known else ExitReason.UNKNOWN,
            raw=str(told.get("raw", "")),
            exit_code=_whole(told.get("exit_code")),
            signal=_whole(told.get("signal")),
            ended_at=_seconds(told.get("ended_at")),
            nodes=nodes,
        )
    return JobObservation(
        job_id=directory.name,
        state=state,
        raw=ending.raw if ending is not None else state.name,
        because=str(told.get("because", "")),
        name=str(request.get("job_name", "")),
        comment=str(request.get("comment", "")),
        submitted_at=_seconds(request.get("submitted_at")),
        started_at=_seconds(told.get("started_at")),
        ends_at=_seconds(told.get("ends_at")) if ending is None else None,
        nodes=nodes,
        ending=ending,
    )


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
