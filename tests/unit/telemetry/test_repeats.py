"""A script that goes on with its run makes its calls again: the report counts calls, not submissions."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.model.events import AttemptPlaced, RunOpened, TaskGivenUp, TasksHit
from scalable_hpc.telemetry.repeats import Repeats
from scalable_hpc.telemetry.report import build_report
from tests.unit.telemetry.a_run import receipt, submitted

OPENED = RunOpened(100.0, "20261122T084512Z-ab12cd", "slurm", 1, "login", "0.1.0")
LISTS = st.lists(st.sampled_from("abc"), max_size=6)


def key(call):
    return hashlib.sha256(call.encode()).hexdigest()


def hit(*calls):
    keys = b"".join(bytes.fromhex(key(call))[:8] for call in calls)
    return TasksHit(201.0, "run_simulation", len(calls), keys)


def counts(*events):
    found = build_report(events).tasks
    return found.submitted, found.done, found.failed, found.cancelled, found.unfinished, found.hits


def placed(task_id):
    return AttemptPlaced(202.0, task_id, 1, "tcp://w", "a0001")


GIVEN_UP = TaskGivenUp(150.0, "t1", "builtins.ValueError", "bad", "bad")


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param([submitted(200, "t3", call="t1")], (2, 1, 0, 0, 1, 0), id="waits for what still runs"),
        pytest.param([submitted(200, "t3", call="t1"), receipt(210, "t3", 0)], (2, 2, 0, 0, 0, 0), id="done"),
        pytest.param([hit("t2")], (2, 1, 0, 0, 1, 0), id="its own result"),
        pytest.param([hit("t2", "t2")], (2, 1, 0, 0, 1, 1), id="once more than before"),
        pytest.param([hit("z")], (2, 1, 0, 0, 1, 1), id="somebody else's"),
        pytest.param([submitted(200, "t3", call="t9")], (3, 1, 0, 0, 2, 0), id="a new call"),
        pytest.param([GIVEN_UP, submitted(200, "t3", call="t1")], (2, 1, 0, 0, 1, 0), id="failed and tried again"),
        pytest.param(
            [GIVEN_UP, submitted(200, "t3", call="t1"), receipt(210, "t3", 1)], (2, 2, 0, 0, 0, 0), id="done at last"
        ),
    ],
)
def test_that_a_call_that_two_drivers_make_is_counted_once(second, expected):
    """By what the later one made of it, unless it was done before; as a hit only if nobody of the run had run it."""
    first = [OPENED, submitted(100, "t1"), submitted(100, "t2"), receipt(110, "t2", 1)]

    assert counts(*first, OPENED, *second) == expected


def test_that_equal_calls_of_one_driver_are_each_a_call():
    """They were made twice, and are twice the work of one that is not cached."""
    once = [submitted(100, "t1", call="x"), submitted(100, "t2", call="x")]
    again = [submitted(200, "t3", call="x"), submitted(200, "t4", call="x"), submitted(200, "t5", call="x")]

    assert counts(OPENED, *once)[0] == 2
    assert counts(OPENED, *once, OPENED, *again)[0] == 3


def test_that_a_call_which_a_later_driver_runs_again_although_it_was_done_is_told_on():
    """Unless it was asked for."""
    first = [OPENED, submitted(100, "t1"), receipt(110, "t1", 1), OPENED]

    assert build_report([*first, submitted(200, "t2", call="t1"), placed("t2")]).upkeep.done_twice == 1
    assert build_report([*first, submitted(200, "t2", call="t1", refresh=True), placed("t2")]).upkeep.done_twice == 0


@given(st.lists(LISTS, max_size=4))
def test_that_of_equal_calls_as_many_count_as_the_driver_made_that_made_most(drivers):
    """However many drivers there were, and in whatever order they made their calls."""
    repeats, new = Repeats(), []
    for number, calls in enumerate(drivers):
        repeats.begin_driver()
        new += [call for at, call in enumerate(calls) if repeats.submitted(f"{number}-{at}", key(call)) is None]

    assert {each: new.count(each) for each in "abc"} == {
        each: max((calls.count(each) for calls in drivers), default=0) for each in "abc"
    }
