"""Laws of asking for the nodes of a task after it has ended."""

from __future__ import annotations

import pytest

from scalable_hpc.worker.roll_call import RollCall, roll_call_in

HOSTS = ("a", "b", "c")


@pytest.mark.parametrize(
    ("granted", "heard", "expected"),
    [
        (HOSTS, HOSTS, ()),
        (("a", "c", "other"), HOSTS, ("b",)),
        (HOSTS, ("a", "b"), ("c",)),
        (HOSTS, (), ()),
        (HOSTS, ("b", "c"), ()),
        ((), ("a", "c"), ("b",)),
        ((), (), ()),
        (("other",), HOSTS, ()),
    ],
)
def test_that_a_node_is_lost_where_the_workers_own_is_not(granted, heard, expected):
    """A batch system that does not answer, or knows nothing of this very node, says nothing of the others."""
    call = RollCall(HOSTS, lambda: granted, lambda _: heard)

    assert call.missing(failed=True) == expected


def test_that_nobody_is_disturbed_after_a_success():
    """The batch system is asked alone: it has given up a node whose ranks a launcher does not miss."""
    asked = []

    assert RollCall(HOSTS, lambda: ("a", "b"), asked.append).missing(failed=False) == ("c",)
    assert RollCall(HOSTS, lambda: HOSTS, asked.append).missing(failed=False) == ()
    assert asked == []


def test_that_a_node_taken_away_just_now_is_known():
    """Nothing can be started on the others together with it: then the batch system has news."""
    answers = iter([HOSTS, ("a", "b")])

    assert RollCall(HOSTS, lambda: next(answers), lambda _: ()).missing(failed=True) == ("c",)


def test_that_there_is_nobody_to_ask_for_but_in_a_job_of_slurm():
    """A task of one node, and one elsewhere, has none to lose but its worker's."""
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a,b,c"}

    assert roll_call_in(job, HOSTS) is not None
    assert roll_call_in(job, ("a",)) is None
    assert roll_call_in({"PBS_JOBID": "1"}, HOSTS) is None
