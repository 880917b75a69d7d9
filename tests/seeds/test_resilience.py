"""What Dask's page "Resilience" lists as failures, its own "fail cases" included, ends better here.

One driver for all that happens to user code and workers; two more whose own process is killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from scalable_hpc.model.events import AllocationChanged, TaskGivenUp
from tests.ensembles import make_ensemble
from tests.pages import environment
from tests.processes import processes_naming
from tests.seeds.drivers import COMMAND, Lived, all_at_once, lay_out_beside, live, run_here
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


STORIES = {
    "lived": lambda directory: live(lay_out_beside(directory, "resilience.py")),
    "hung": lambda directory: live(lay_out_beside(directory, "hung.py")),
}


@pytest.fixture(scope="module")
def stories(tmp_path_factory, request):
    with all_at_once(request, tmp_path_factory, STORIES) as started:
        yield started


@pytest.fixture(scope="module")
def lived(stories):
    return stories["lived"].result()


@pytest.fixture(scope="module")
def hung(stories):
    return stories["hung"].result()


def test_that_an_error_is_raised_where_the_result_is_asked_for(lived):
    """As it was raised, and it is no other task's and no worker's affair."""
    endings, words = lived.said("division")

    assert endings.split()[0] == "ZeroDivisionError"
    assert words == "division by zero"
    assert lived.said("after the error") == [0.5, True]


def test_that_dependents_of_a_failed_task_name_it_and_its_error(lived):
    """Submitted before or after it failed, directly or through another: none is run, each says what is to blame."""
    for _, words in lived.said("dependents"):
        assert re.search(r"was not run: .*div-00001 failed: ZeroDivisionError: division by zero", words)
    assert lived.said("cause") == "ZeroDivisionError('division by zero')"
    assert [task.placed for label, task in lived.runs[0].tasks.items() if label.startswith("add")] == [[], []]


@pytest.mark.parametrize(("how", "death"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "exit code 7")])
def test_that_a_function_that_kills_its_process_is_found_and_stopped(lived, how, death):
    """Twice and never again, whatever its retries; the error says what it died of."""
    endings, words = lived.said("killers")[how]

    assert endings.split()[0] == "TaskKilled"
    assert f"its slot died ({death})" in words
    assert lived.executions[f"{how} 1"] == 2


def test_that_a_function_that_kills_its_process_disturbs_nobody_else(lived):
    """Neighbours run once each, and the workers are the same as before."""
    values, are_workers_alive = lived.said("innocents")

    assert values == list(range(20))
    assert are_workers_alive
    assert {number: lived.executions[f"innocent {number}"] for number in range(20)} == dict.fromkeys(range(20), 1)


def test_that_a_closed_connection_is_mended_with_what_was_under_way(lived):
    """The worker lives: it comes back, with the attempt that it has in hand, which is not run again anywhere."""
    value, allocation = lived.said("after the link broke")
    task = lived.runs[0].tasks["takes_a_while(1)"]

    assert value == 1
    assert task.failed == []
    assert [event.allocation for event in task.receipts] == [allocation]
    assert lived.executions["takes_a_while 1"] == 1


def test_that_results_outlive_the_workers_that_made_them(lived):
    """All workers are killed between the ancestors and their dependent: it runs on new ones, they do not run again."""
    run = lived.runs[0]
    reasons = [event.reason for event in run.of_kind(AllocationChanged)]

    assert lived.said("total") == 15
    assert reasons.count("node_fail") == 2
    assert {number: lived.executions[f"part {number}"] for number in range(6)} == dict.fromkeys(range(6), 1)
    assert lived.executions["total 6"] == 1
    assert {event.label for event in run.tasks.values() if event.label.startswith("part") and event.failed} == set()


def test_that_only_the_guilty_fail(lived):
    """Of all that was submitted to this run, the division, what needed it, and the three killers were given up."""
    given_up = [event.task_id.rpartition("-")[0] for event in lived.runs[0].of_kind(TaskGivenUp)]

    assert sorted(given_up) == ["add", "add", "crashes", "crashes", "crashes", "div"]


def test_that_the_report_names_the_guilty_and_what_they_cost(lived):
    """One paragraph each; the first death of a slot is neither called infrastructure's fault nor counted as a try."""
    shown = lived.report("--last")
    _, *paragraphs = lived.report("--last", "--failures").split("\n\n")

    assert [paragraph.partition(".")[0] for paragraph in paragraphs] == [str(number) for number in range(1, 7)]
    assert ["   Slots that died running it: 2\n" in paragraph for paragraph in paragraphs] == [False] * 3 + [True] * 3
    assert "  3 attempts ended with a slot's death, given one more try\n" in shown
    assert "    3 slot died (killer)\n" in shown
    assert "  0 computed again after a receipt\n" in shown


def start_and_kill(words, directory, what, condition):
    """Start a driver, wait for a condition and kill it as the out-of-memory killer of a login node does."""
    driver = subprocess.Popen(
        words, cwd=directory, env=environment(directory), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(what, condition, timeout=90)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()


def test_that_what_a_dead_drivers_workers_finish_is_found_by_the_next(tmp_path):
    """Its slots go on and publish; started again, the script gets their results without running anything."""
    target = {"provider": "local", "capacity": {"cpus": 2}, "allocations": {"max": 1, "walltime": "00:05:00"}}
    ensemble = make_ensemble(tmp_path, target=target, count=2, seconds=2.0, cpus=2)
    words = [sys.executable, str(ensemble.driver)]
    start_and_kill(words, tmp_path, "both scenarios run", lambda: len(ensemble.counted()) == 2)
    ended_before = sum(ensemble.counted("end").values())
    wait_until("the orphans have been published", lambda: sum(ensemble.counted("end").values()) == 2, timeout=60)

    again = ensemble.run()

    assert ended_before == 0
    assert "complete 2" in again.stdout, again.stderr
    assert dict(ensemble.counted()) == {0: 1, 1: 1}
    wait_until("the dead driver's jobs are gone", lambda: not processes_naming(str(ensemble.runs[0].path)), timeout=20)


def test_that_a_dead_drivers_lineage_is_finished_from_its_journal(tmp_path):
    """Functions that are not cacheable, their ancestors done: ``resume`` runs what is left, and only that."""
    driver = lay_out_beside(tmp_path, "lineage.py")
    lived = Lived(tmp_path, subprocess.CompletedProcess((), 0))
    words = [sys.executable, driver.name]
    start_and_kill(words, tmp_path, "the last ancestor runs", lambda: lived.executions["takes_a_while 1"])

    run_here((*COMMAND, "resume", lived.runs[0].directory.run_id), tmp_path)

    parts = {f"part {number}": 1 for number in range(6)}
    assert lived.executions == {**parts, "takes_a_while 1": 1, "total 7": 1}
    receipts = {label: len(task.receipts) for label, task in lived.runs[0].tasks.items()}
    assert sorted(receipts.values()) == [1] * 8
    run = str(lived.runs[0].directory.path)
    wait_until("the dead driver's jobs are gone", lambda: not processes_naming(run), timeout=20)


@pytest.mark.slow
def test_that_a_hung_worker_is_noticed_by_its_silence(hung):
    """Its connection stays open and says nothing: within a minute its task runs elsewhere, at no cost."""
    value, waited_s = hung.said("hung")
    task = hung.runs[0].tasks["long_the_first_time(1)"]

    assert value == 1
    assert waited_s <= 60
    assert [(event.verdict, event.charged) for event in task.failed] == [("unknown", False)]
    assert "the batch system has not said why" in task.failed[0].because
    assert task.receipts[0].allocation != task.placed[0].allocation
    assert processes_naming(str(hung.directory)) == []
