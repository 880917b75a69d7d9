"""Every code block of "Scalable, Beginner Tutorial 7: When Things Go Wrong" runs as written and ends as it promises.

Three drivers, each run once as a reader runs them: the notebook (every block that starts a session, one after the
other, no session closed), the table of failure modes with report and exercise, and the workflow, run three times.
"""

from __future__ import annotations

import json
import re
import shutil

import pytest

from scalable_hpc.faults.retry import backoff_bound_s
from scalable_hpc.model.events import AllocationChanged, AttemptPlaced, TasksHit
from scalable_hpc.model.tasks import RetryPolicy
from tests.seeds.drivers import HERE, all_at_once, lay_out, lay_out_beside, live, quoted

pytestmark = pytest.mark.timeout(300)

AFTER_STEP_2 = """
say("step 2", [future.exception() or future.result() for future in futures])
"""
AFTER_STEP_3 = """
say("step 3", failures)
say("retried", [future.exception() or future.result() for future in retry_futures])
"""
AFTER_RETRY_SAFE = """
say("fetched", client.gather([client.submit(fetch_data_from_api, i, retries=3) for i in range(1, 5)]))
say("saved", client.gather([client.submit(process_and_save, 5, retries=3)]))
say("saved again", client.gather([client.submit(process_and_save, 5, retries=3)]))
"""


def requests_here(directory):
    """Lay out the stand-in for ``requests``."""
    package = directory / "requests"
    package.mkdir()
    shutil.copy(HERE / "requests_package.py", package / "__init__.py")
    shutil.copy(HERE / "requests_exceptions.py", package / "exceptions.py")


def live_notebook(directory):
    """All blocks but the last, in one Python, in the order in which the tutorial shows them."""
    requests_here(directory)
    (directory / "outputs").mkdir()
    driver = lay_out(
        directory,
        *quoted("Exceptions in Python"),
        *quoted("Step 1"),
        *quoted("Step 2"),
        AFTER_STEP_2,
        "import requests",
        *quoted("Writing retry-safe functions"),
        *quoted("Step 3"),
        AFTER_STEP_3,
        AFTER_RETRY_SAFE,
    )
    return live(driver)


def live_modes(directory):
    """The table of failure modes, the report and the exercise."""
    return live(lay_out_beside(directory, "failure_modes.py"))


def live_workflow(directory):
    """Step 6, by a reader who mends the input after the first run and starts a third run for nothing."""
    driver = lay_out(directory, *quoted("Step 6"), "run_workflow()")
    first = live(driver)
    executed_first = first.executions
    (directory / "input-is-mended").touch()
    second = live(driver)
    executed_second = second.executions
    third = live(driver)
    return (first, executed_first), (second, executed_second), (third, third.executions)


STORIES = {"notebook": live_notebook, "modes": live_modes, "workflow": live_workflow}


@pytest.fixture(scope="module")
def stories(tmp_path_factory, request):
    with all_at_once(request, tmp_path_factory, STORIES) as started:
        yield started


@pytest.fixture(scope="module")
def notebook(stories):
    return stories["notebook"].result()


@pytest.fixture(scope="module")
def modes(stories):
    return stories["modes"].result()


@pytest.fixture(scope="module")
def workflow(stories):
    return stories["workflow"].result()


def test_that_exceptions_in_python_are_as_shown(notebook):
    """The two blocks on exceptions need nothing of ours."""
    assert "Error: Cannot divide by zero" in notebook.lines


def test_that_a_remote_exception_is_raised_again_by_gather(notebook):
    """As its own class, caught by its own ``except``, with its own words."""
    assert "A task failed: Unlucky number: 13" in notebook.lines


def test_that_a_remote_exception_is_recorded(notebook):
    """Its type, words and traceback are in the journal, and in the report of its run."""
    run = notebook.runs[0]
    (failed,) = run.tasks["risky_function(13)"].failed

    assert (failed.error_type, failed.error) == ("builtins.ValueError", "Unlucky number: 13")
    assert 'raise ValueError(f"Unlucky number: {x}")' in failed.traceback
    shown = notebook.report(run.directory.run_id, "--failures")
    assert shown.startswith("Failures (1 of 20 tasks):\n\n1. risky_function(13)\n")


def test_that_a_remote_exception_is_recorded_in_failures_jsonl(notebook):
    """ "Recorded in telemetry (failures.jsonl)": one line for the one task that failed, with its remote traceback."""
    run = notebook.runs[0]
    lines = (run.directory.path / "failures.jsonl").read_text().splitlines()
    (failure,) = map(json.loads, lines)

    assert (failure["label"], failure["error_type"]) == ("risky_function(13)", "ValueError")
    assert failure["run_id"] == run.directory.run_id
    (attempt,) = failure["attempts"]
    assert 'raise ValueError(f"Unlucky number: {x}")' in attempt["traceback"]
    assert attempt["node"]


def test_that_retries_let_transient_failures_succeed(notebook):
    """Twenty futures: nineteen values, and the error of the one that never works."""
    expected = [-number for number in range(19)] + ["RuntimeError('number 19 never works')"]

    assert notebook.said("step 2") == expected


def test_that_retries_of_three_are_four_attempts_and_no_more(notebook):
    """The fourth failure is the last; what worked is not tried again."""
    executed = {number: notebook.executions[f"sometimes_fails {number}"] for number in range(20)}

    assert executed == {number: 4 if number == 19 else 3 if number % 5 == 0 else 1 for number in range(20)}


def test_that_each_wait_is_longer_than_the_one_before(notebook):
    """The waits before attempts 2, 3 and 4 double, and no attempt is placed before its wait is over."""
    task = notebook.runs[1].tasks["sometimes_fails(19)"]
    waits = [event.retry_at - event.at for event in task.failed[:-1]]

    assert waits == pytest.approx([0.1, 0.2, 0.4], abs=0.001)
    assert task.failed[-1].retry_at is None
    placed_early = [
        later.at
        for failed, later in zip(task.failed, task.placed[1:], strict=False)
        if failed.retry_at is None or later.at < failed.retry_at
    ]
    assert placed_early == []


def test_that_the_default_waits_are_those_of_the_text():
    """1, 2, 4, 8 seconds at most; with a base of 2 s the fifth wait is up to 32 s; jitter spreads them by default."""
    policy = RetryPolicy()

    assert policy.jitter
    assert [backoff_bound_s(policy, failures) for failures in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff_bound_s(RetryPolicy(retries=5, base_s=2.0), 5) == 32


def test_that_each_retry_is_in_the_report(notebook):
    """How many there were, and that only one of the five tasks did not succeed in the end."""
    run = notebook.runs[1]
    told = json.loads(notebook.report(run.directory.run_id, "--format", "json"))
    shown = notebook.report(run.directory.run_id)

    assert (told["upkeep"]["attempts_charged"], told["upkeep"]["extra_attempts"]) == (12, 11)
    assert (told["upkeep"]["tasks_run_again"], told["tasks"]["done"], told["tasks"]["failed"]) == (5, 19, 1)
    assert "  5 tasks run again, 11 extra attempts\n" in shown
    assert "1. sometimes_fails(19)\n   Error: RuntimeError — number 19 never works\n" in shown
    assert "   Retries attempted: 3 (all failed)\n" in shown


def test_that_retry_safe_functions_are_retried_until_the_network_answers(notebook):
    """A lost connection, an HTTP 503 and a 429 are all worth another try, with the exceptions of ``requests``."""
    asked = (notebook.directory / "requests.log").read_text().split()

    assert notebook.said("fetched") == [{"scenario": number} for number in range(1, 5)]
    assert [asked.count(str(number)) for number in range(1, 5)] == [1, 2, 3, 1]


def test_that_writing_to_the_same_path_again_is_safe(notebook):
    """A retried and a repeated call leave one file with one result."""
    saved = json.loads((notebook.directory / "outputs" / "scenario_5.json").read_text())

    assert [saved] == notebook.said("saved") == notebook.said("saved again")
    assert [path.name for path in (notebook.directory / "outputs").iterdir()] == ["scenario_5.json"]
    assert notebook.executions["expensive_computation 5"] == 3


def test_that_a_batch_keeps_what_succeeded(notebook):
    """90 results, 10 failures, each under its own index with its own words: none disturbs another."""
    failed = notebook.said("step 3")

    assert [line for line in notebook.lines if line.startswith(("Succeeded", "Failed"))] == [
        "Succeeded: 90",
        "Failed: 10",
    ]
    assert failed == [{"index": number, "error": f"cannot do {number}"} for number in range(7, 100, 10)]


def test_that_submitting_just_the_failures_again_starts_new_attempts(notebook):
    """Each failed call runs once more, and only those; the one that never works fails anew."""
    executed = {number: notebook.executions[f"maybe_fails {number}"] for number in range(100)}

    assert executed == {number: 2 if number % 10 == 7 else 1 for number in range(100)}
    assert notebook.said("retried")[:-1] == [number * number for number in range(7, 97, 10)]
    assert notebook.said("retried")[-1] == "ValueError('cannot do 97')"


def test_that_a_task_over_its_workers_memory_is_a_memory_error(modes):
    """Really allocated, stopped before the machine is short, with the numbers that say what to raise."""
    endings, words = modes.said("memory")

    assert "MemoryError" in endings.split()
    assert re.search(r"held \d+(\.\d+)? MiB .* 600 MiB", words)


def test_that_a_task_over_its_time_is_a_timeout_error(modes):
    """It is stopped, not waited for."""
    (failed,) = modes.runs[0].tasks["takes_time(60)"].failed

    assert "TimeoutError" in modes.said("slow").split()
    assert 0.5 <= failed.ran_s < 4


def test_that_what_no_worker_has_fails_at_once(modes):
    """64 GB asked for and a tenth of a GB there: no retry can help, so none is made, and no attempt either."""
    endings, words = modes.said("insufficient")

    assert "MemoryError" in endings.split()
    assert "64 GiB" in words
    assert modes.executions["takes_memory 2"] == 0


def test_that_a_network_error_is_retried(modes):
    """With retries it works the second time; without, it is the network's own error."""
    value, without_retries = modes.said("network")

    assert value == "here now"
    assert "ConnectionError" in without_retries.split()
    assert [modes.executions[f"is_cut_off {number}"] for number in (1, 2)] == [2, 1]


def test_that_a_preempted_worker_costs_its_task_nothing(modes):
    """No retries were allowed: it runs again all the same, on another allocation, and its result is cached."""
    run = modes.runs[0]
    task = run.tasks["is_preempted(1)"]
    reasons = {event.reason for event in run.of_kind(AllocationChanged) if event.name == task.placed[0].allocation}

    assert modes.said("preempted") == [2, 2]
    assert modes.executions["is_preempted 1"] == 2
    assert "preempted" in reasons
    assert [event.charged for event in task.failed] == [False]
    assert len({event.allocation for event in task.placed}) == 2
    assert sum(event.count for event in run.of_kind(TasksHit) if event.name == "is_preempted") == 1


@pytest.mark.parametrize(
    ("fact", "function", "error"),
    [
        ("dependency", "imports_what_is_not_there", "ImportError"),
        ("data", "opens_what_is_not_there", "FileNotFoundError"),
    ],
)
def test_that_a_permanent_failure_fails_at_once(modes, fact, function, error):
    """Three retries were allowed, none was wasted; the report calls it a fast fail."""
    said = modes.said(fact)
    endings = said[0] if isinstance(said, list) else said

    assert error in endings.split()
    assert modes.executions[f"{function} 1"] == 1
    shown = modes.report(modes.runs[0].directory.run_id, "--failures")
    paragraph = next(part for part in shown.split("\n\n") if f"{function}(1)" in part)
    assert "(fast fail — permanent error)" in paragraph
    assert "Retries attempted" not in paragraph


def test_that_a_failed_cacheable_call_is_not_remembered_as_failed(modes):
    """Submitted again in the same session it runs again, although its key is the same."""
    first, second = modes.said("mended")

    assert "ValueError" in first.split()
    assert second == 1
    assert modes.executions["is_mended 1"] == 2


def test_that_failures_are_reported_in_the_form_of_the_text(modes):
    """Numbered, with the call as it was written, error, worker, duration and what became of the retries."""
    shown = modes.report("--last", "--failures")

    worker = r"   Worker: a\d{4} \(\S+\)\n"
    because = r"(   Because: .*\n)?"
    expected = (
        r"Failures \(3 of 100 tasks\):\n\n"
        r"1\. run_simulation\(scenario_id=13\)\n"
        r"   Error: ValueError — invalid input data\n"
        rf"{worker}"
        rf"   Duration before failure: \d+(\.\d)?m?s \(fast fail — permanent error\)\n{because}\n"
        r"2\. run_simulation\(scenario_id=47\)\n"
        r"   Error: MemoryError — unable to allocate 4\.2GB\n"
        rf"{worker}"
        r"   Duration before failure: 0\.\ds\n"
        rf"   Retries attempted: 3 \(all failed\)\n{because}\n"
        r"3\. run_simulation\(scenario_id=92\)\n"
        r"   Error: TimeoutError — .* 1 s\n"
        rf"{worker}"
        rf"   Duration before failure: \d\.\ds\n{because}"
    )
    assert re.fullmatch(expected, shown), shown
    assert modes.said("simulated") == 97


def test_that_the_exercise_can_be_answered_from_the_report(modes):
    """How many retries there were, and whether all tasks succeeded: as the functions themselves counted."""
    done, failed = modes.said("exercise")
    failures = sum(count for line, count in modes.executions.items() if line.startswith("flaky fails"))
    stories = [task for label, task in modes.runs[0].tasks.items() if label.startswith("flaky(")]

    assert (done + failed, sum(bool(task.receipts) for task in stories)) == (50, done)
    assert sum(len(task.failed) for task in stories) == failures
    assert sum(len(task.placed) for task in stories) == done + failures
    assert all(len(task.failed) == 4 for task in stories if not task.receipts)


def test_that_the_workflow_ends_with_results_and_reasons(workflow):
    """98 of 100; the two that cannot work are named, the one out of memory through its own ``except``."""
    (first, executed), _, _ = workflow

    assert first.lines[-4:] == [
        "Completed: 98 / 100",
        "Failed: 2",
        "  Scenario 13: invalid input data",
        "  Scenario 47: OOM — needs more memory",
    ]
    assert {number: executed[f"compute {number}"] for number in (7, 13, 47)} == {7: 2, 13: 1, 47: 4}


def test_that_a_run_after_the_cause_is_mended_computes_only_what_failed(workflow):
    """Completed scenarios are cache hits; the one that succeeded on a retry is one of them."""
    (_, before), (second, after), _ = workflow

    assert second.lines[-2:] == ["Completed: 100 / 100", "Failed: 0"]
    assert after - before == {"compute 13": 1, "compute 47": 1}
    placed = [event.task_id for event in second.runs[1].of_kind(AttemptPlaced)]
    assert len(placed) == len(set(placed)) == 2
    assert "Tasks: 2 done; 98 cache hits\n" in second.report(second.runs[1].directory.run_id)


def test_that_a_run_of_which_everything_is_known_asks_for_nothing(workflow):
    """A hundred cache hits, no allocation."""
    _, (_, before), (third, after) = workflow

    assert third.lines[-2:] == ["Completed: 100 / 100", "Failed: 0"]
    assert after == before
    assert third.runs[2].of_kind(AllocationChanged) == []


def test_that_every_block_of_the_tutorial_is_run():
    """Nothing that is quoted is left out of the drivers."""
    titles = ("Exceptions in Python", "Step 1", "Step 2", "Writing retry-safe functions", "Step 3", "Step 6")

    assert (
        sum(len(quoted(title)) for title in titles) == (HERE / "tutorial_7.txt").read_text().count("```python\n") == 7
    )
