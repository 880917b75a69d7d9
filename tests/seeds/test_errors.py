"""What the texts promise of an error and of the tasks behind it: raised by its dependents, permanent, recorded."""

from __future__ import annotations

import json

import pytest

from tests.seeds.drivers import lay_out, live

DRIVER = """
import operator
from scalable_hpc import ScalableSession

def div(a, b):
    execute("div", b)
    return a / b

def names(error):
    return [cls.__name__ for cls in type(error).__mro__]

with ScalableSession.from_yaml("./scalable.yaml", target="local") as client:
    x = client.submit(div, 1, 0, task="run_analysis", retries=3)
    before = client.submit(operator.add, x, 1)
    say("x", names(x.exception()))
    after = client.submit(operator.add, x, 1)
    say("dependents", [names(before.exception()), names(after.exception())])
    say("causes", [names(before.exception().__cause__), names(after.exception().__cause__)])
"""


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A division by zero, and two tasks that want its result: submitted before it failed, and after."""
    return live(lay_out(tmp_path_factory.mktemp("errors"), DRIVER))


def test_that_the_error_of_a_task_is_raised_by_its_dependents_too(lived):
    """ "Any attempt to gather that result or any dependent result will raise that exception"."""
    assert ["ZeroDivisionError" in endings for endings in lived.said("dependents")] == [True, True]


def test_that_the_error_of_a_task_is_the_cause_of_its_dependents_errors(lived):
    """Whether they were submitted before it failed or after."""
    assert ["ZeroDivisionError" in endings for endings in lived.said("causes")] == [True, True]


def test_that_dividing_by_zero_is_a_permanent_failure(lived):
    """ "Permanent failures won't be fixed by retrying: bug in your code (divide by zero)"."""
    assert lived.executions["div 0"] == 1


def test_that_failures_are_recorded_in_failures_jsonl(lived):
    """ "Recorded in telemetry (failures.jsonl)": the task, and those that were not run for it."""
    (run,) = lived.runs
    lines = [json.loads(line) for line in (run.directory.path / "failures.jsonl").read_text().splitlines()]

    assert [line["error_type"] for line in lines] == ["ZeroDivisionError", "AncestorFailed", "AncestorFailed"]
