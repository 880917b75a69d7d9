"""The judge's table, row by row."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import socket
import subprocess
import urllib.error
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.errors import Checkpointed
from scalable_hpc.faults.evidence import facts_of
from scalable_hpc.faults.judge import ROWS, TaskHistory, judge
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, RetryPolicy, Verdict
from tests.unit.faults.support import NOW, ended, foreign, raised

FRESH = TaskHistory()
POLICY = RetryPolicy(retries=3)

V = Verdict
E = Ending
INFRASTRUCTURE_ENDS = ["timeout", "node_fail", "boot_fail", "preempted", "requeued", "cancelled", "deadline"]


class Reschedule(Exception):
    """Stands in for Dask's Reschedule."""


class SavedAndGone(Checkpointed):
    """A library's own kind of checkpoint."""


class SolverDiverged(ValueError):
    """A library's own error that is a ValueError for convenience."""


class LinkBroke(ConnectionResetError):
    """A library's own kind of connection error."""


Reschedule.__module__, Reschedule.__qualname__ = "distributed.exceptions", "Reschedule"

NO_SUCH_PAGE = urllib.error.HTTPError("http://x", 404, "not found", {}, None)  # type: ignore[arg-type]
TOO_MANY = urllib.error.HTTPError("http://x", 429, "slow down", {}, None)  # type: ignore[arg-type]
BAD_GATEWAY = urllib.error.HTTPError("http://x", 502, "bad gateway", {}, None)  # type: ignore[arg-type]

UNCHARGED = {
    "our drain": (ended(E.WORKER_LOST, expected=True, ran_s=9.0), V.EXPECTED),
    "our retire while a slot ran": (ended(E.SLOT_DIED, expected=True, signal=9, ran_s=1.0), V.EXPECTED),
    "our cancel": (ended(E.CANCELLED, ran_s=1.0), V.EXPECTED),
    "a checkpoint": (raised(Checkpointed()), V.EXPECTED),
    "a checkpoint of a kind": (raised(SavedAndGone("x")), V.EXPECTED),
    "a checkpoint as Dask has it": (raised(Reschedule()), V.EXPECTED),
    "never started": (ended(E.NEVER_STARTED), V.INFRASTRUCTURE),
    "never started on a node out of memory": (
        ended(E.NEVER_STARTED, allocation_reason="out_of_memory"),
        V.INFRASTRUCTURE,
    ),
    "refused": (ended(E.REFUSED), V.INFRASTRUCTURE),
    "refused with an exception": (ended(E.REFUSED, exception=raised(ValueError()).exception), V.INFRASTRUCTURE),
    "worker lost, node out of memory": (
        ended(E.WORKER_LOST, allocation_reason="out_of_memory", ran_s=1.0),
        V.RESOURCE,
    ),
    "worker lost, batch system silent": (ended(E.WORKER_LOST, ran_s=1.0), V.UNKNOWN),
    "worker lost, unknown state": (ended(E.WORKER_LOST, allocation_reason="unknown", ran_s=1.0), V.UNKNOWN),
    "worker lost, job failed": (ended(E.WORKER_LOST, allocation_reason="failed", ran_s=1.0), V.INFRASTRUCTURE),
    "worker lost, job completed": (ended(E.WORKER_LOST, allocation_reason="completed", ran_s=1.0), V.INFRASTRUCTURE),
    "slot died before it began": (ended(E.SLOT_DIED, signal=11), V.INFRASTRUCTURE),
    "slot died by SIGTERM": (ended(E.SLOT_DIED, signal=15, ran_s=5.0), V.INFRASTRUCTURE),
    "slot killed at its allocation's end": (
        ended(E.SLOT_DIED, signal=9, ran_s=5.0, time_left_s=0.5),
        V.INFRASTRUCTURE,
    ),
    "slot died, allocation cancelled": (
        ended(E.SLOT_DIED, signal=9, ran_s=5.0, allocation_reason="cancelled"),
        V.INFRASTRUCTURE,
    ),
    "first death": (ended(E.SLOT_DIED, signal=11, ran_s=5.0, time_left_s=500.0), V.KILLER),
    "first death by exit code": (ended(E.SLOT_DIED, exit_code=3, ran_s=5.0), V.KILLER),
}

CHARGED = {
    "timeout": (ended(E.TIMEOUT, ran_s=60.0, time_left_s=1.0), V.RESOURCE),
    "MemoryError": (raised(MemoryError()), V.RESOURCE),
    "ENOMEM": (raised(OSError(errno.ENOMEM, "no memory")), V.RESOURCE),
    "ConnectionResetError": (raised(ConnectionResetError()), V.TRANSIENT),
    "TimeoutError raised by code": (raised(TimeoutError()), V.TRANSIENT),
    "concurrent TimeoutError": (raised(concurrent.futures.TimeoutError()), V.TRANSIENT),
    "gaierror": (raised(socket.gaierror(-3, "try again")), V.TRANSIENT),
    "EAGAIN": (raised(OSError(errno.EAGAIN, "again")), V.TRANSIENT),
    "ESTALE": (raised(OSError(errno.ESTALE, "stale")), V.TRANSIENT),
    "ESTALE under a permanent name": (
        foreign("builtins.FileNotFoundError", OSError, errno=errno.ESTALE),
        V.TRANSIENT,
    ),
    "a kind of connection error": (raised(LinkBroke()), V.TRANSIENT),
    "requests' own": (foreign("requests.exceptions.ConnectionError", OSError), V.TRANSIENT),
    "HTTP 429": (raised(TOO_MANY), V.TRANSIENT),
    "HTTP 502": (raised(BAD_GATEWAY), V.TRANSIENT),
    "ValueError": (raised(ValueError()), V.PERMANENT),
    "UnicodeDecodeError": (raised(UnicodeDecodeError("utf-8", b"", 0, 1, "")), V.PERMANENT),
    "JSONDecodeError": (raised(json.JSONDecodeError("", "", 0)), V.PERMANENT),
    "TypeError": (raised(TypeError()), V.PERMANENT),
    "FileNotFoundError": (raised(FileNotFoundError(errno.ENOENT, "x")), V.PERMANENT),
    "PermissionError": (raised(PermissionError(errno.EACCES, "x")), V.PERMANENT),
    "ImportError": (raised(ImportError()), V.PERMANENT),
    "ModuleNotFoundError": (raised(ModuleNotFoundError()), V.PERMANENT),
    "another's ValueError": (raised(SolverDiverged()), V.TRANSIENT),
    "RuntimeError": (raised(RuntimeError()), V.TRANSIENT),
    "CalledProcessError": (raised(subprocess.CalledProcessError(1, "x")), V.TRANSIENT),
    "SystemExit": (raised(SystemExit(1)), V.TRANSIENT),
    "disk full": (raised(OSError(errno.ENOSPC, "full")), V.TRANSIENT),
    "HTTP 404": (raised(NO_SUCH_PAGE), V.TRANSIENT),
    "an exception that nobody described": (ended(E.EXCEPTION), V.TRANSIENT),
}


@pytest.mark.parametrize(("evidence", "verdict"), UNCHARGED.values(), ids=UNCHARGED)
def test_that_what_is_not_the_tasks_fault_is_not_charged(evidence, verdict):
    """Walltime, nodes, workers, our own wishes and first suspicions cost a task none of its retries."""
    judgement = judge(evidence, FRESH, POLICY)

    assert (verdict, False) == (judgement.verdict, judgement.charged)


@pytest.mark.parametrize(("evidence", "verdict"), CHARGED.values(), ids=CHARGED)
def test_that_the_tasks_own_failures_are_charged(evidence, verdict):
    """What the task's own code did is judged by type, errno and HTTP status, and costs a retry."""
    judgement = judge(evidence, FRESH, POLICY)

    assert (verdict, True) == (judgement.verdict, judgement.charged)


@pytest.mark.parametrize("reason", INFRASTRUCTURE_ENDS)
@pytest.mark.parametrize("ending", [E.WORKER_LOST, E.SLOT_DIED])
def test_that_an_allocations_end_is_never_the_tasks_fault(reason, ending):
    """An attempt that its allocation took along is INFRASTRUCTURE, whatever the slot's exit looked like."""
    judgement = judge(ended(ending, allocation_reason=reason, signal=11, ran_s=3.0), TaskHistory(deaths=1), POLICY)

    assert (judgement.verdict, judgement.charged) == (V.INFRASTRUCTURE, False)


def test_that_the_second_death_convicts():
    """A task whose slot died once before is a KILLER for good at the next death, and that one is charged."""
    judgement = judge(ended(E.SLOT_DIED, signal=11, ran_s=5.0), TaskHistory(deaths=1, uncharged=1), POLICY)

    assert (judgement.verdict, judgement.charged) == (V.KILLER, True)
    assert "SIGSEGV" in judgement.because


def test_that_a_verdict_says_what_it_saw():
    """The because names the ending, the node and the batch system's own words."""
    lost = ended(E.WORKER_LOST, allocation_reason="node_fail", allocation_raw="NODE_FAIL", ran_s=12.0, node="n7")

    because = judge(lost, FRESH, POLICY).because

    assert "NODE_FAIL" in because
    assert "n7" in because
    assert "12.0 s" in because


def test_that_rows_have_names_of_their_own():
    """A row can be spoken of."""
    names = [row.name for row in ROWS]

    assert len(names) == len(set(names))


@given(
    st.builds(
        Evidence,
        attempt=st.just(AttemptId("f-1", 1)),
        ending=st.sampled_from(Ending),
        at=st.just(NOW),
        exception=st.sampled_from([None, raised(ValueError()).exception, raised(OSError(11, "")).exception]),
        exit_code=st.none() | st.integers(-64, 255),
        signal=st.none() | st.integers(0, 200),
        ran_s=st.none() | st.floats(0, 1e6),
        time_left_s=st.none() | st.floats(-100, 1e6),
        allocation_reason=st.none() | st.sampled_from([reason.value for reason in ExitReason]) | st.text(),
        expected=st.booleans(),
    ),
    st.builds(TaskHistory, charged=st.integers(0, 9), uncharged=st.integers(0, 30), deaths=st.integers(0, 2)),
)
def test_that_no_ending_is_without_a_verdict(evidence, history):
    """Whatever the evidence, there is one verdict with a because, and only the task's own doing is charged."""
    judgement = judge(evidence, history, POLICY)

    assert judgement.because
    if judgement.charged:
        assert evidence.ending in (E.EXCEPTION, E.TIMEOUT, E.SLOT_DIED)
        assert not evidence.expected


class Flooded(ConnectionError):
    """A user's own."""


def ruled(error: BaseException, *, worth_retrying: bool) -> Evidence:
    facts = replace(facts_of(error), worth_retrying=worth_retrying)
    return ended(E.EXCEPTION, exception=facts, ran_s=1.0)


RULES = RetryPolicy(retries=3, transient=(ValueError, MemoryError), permanent=(Flooded, Checkpointed))
USERS_WORD = {
    "listed as transient": (raised(ValueError()), V.TRANSIENT),
    "a subclass of it": (raised(UnicodeDecodeError("utf-8", b"", 0, 1, "")), V.TRANSIENT),
    "listed before the table": (raised(MemoryError()), V.TRANSIENT),
    "listed as permanent": (raised(Flooded()), V.PERMANENT),
    "not listed": (raised(TypeError()), V.PERMANENT),
    "asked: yes": (ruled(Flooded(), worth_retrying=True), V.TRANSIENT),
    "asked: no": (ruled(ValueError(), worth_retrying=False), V.PERMANENT),
    "a refusal is not the task's": (ended(E.REFUSED, exception=raised(Flooded()).exception), V.INFRASTRUCTURE),
}


@pytest.mark.parametrize(("evidence", "verdict"), USERS_WORD.values(), ids=USERS_WORD)
def test_that_the_users_rules_come_before_the_table(evidence, verdict):
    """What its function says first, then its lists; both about exceptions only."""
    assert verdict is judge(evidence, FRESH, RULES).verdict


def test_that_a_checkpoint_is_none_of_the_rules_business():
    """A task that handed itself back goes on, whatever the lists say."""
    assert judge(raised(Checkpointed()), FRESH, RULES).verdict is V.EXPECTED


def test_that_a_rule_that_could_not_be_asked_is_told():
    """The table decides, and the because says why it had to."""
    facts = replace(facts_of(ValueError()), rule_failed="raised KeyError: 'code'")

    judgement = judge(ended(E.EXCEPTION, exception=facts, ran_s=1.0), FRESH, POLICY)

    assert judgement.verdict is V.PERMANENT
    assert "worth_retrying raised KeyError: 'code'" in judgement.because


def handed_back(mark: str) -> Evidence:
    return ended(E.EXCEPTION, exception=replace(facts_of(Checkpointed()), checkpoint=mark), ran_s=1.0)


@pytest.mark.parametrize(
    ("mark", "history", "policy", "verdict"),
    [
        ("", TaskHistory(idle_legs=18), RetryPolicy(), V.EXPECTED),
        ("", TaskHistory(idle_legs=19), RetryPolicy(), V.PERMANENT),
        ("a", TaskHistory(idle_legs=19), RetryPolicy(), V.EXPECTED),
        ("a", TaskHistory(checkpoint="a", idle_legs=19), RetryPolicy(), V.PERMANENT),
        ("a", TaskHistory(checkpoint="a", idle_legs=19), RetryPolicy(infrastructure_limit=21), V.EXPECTED),
        ("a", TaskHistory(limited=(("expected", 1),)), RetryPolicy(limits={"EXPECTED": 2}), V.EXPECTED),
        ("a", TaskHistory(limited=(("expected", 2),)), RetryPolicy(limits={"EXPECTED": 2}), V.PERMANENT),
    ],
)
def test_that_a_task_that_hands_itself_back_must_get_on(mark, history, policy, verdict):
    """A change in its checkpoint directory is getting on; without one it is bounded, and by the user's limit anyway."""
    judgement = judge(handed_back(mark), history, policy)

    assert judgement.verdict is verdict
    assert judgement.is_final is (verdict is V.PERMANENT)
