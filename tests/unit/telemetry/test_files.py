"""Laws of the files that other programs read, and of what a report tells of an ended attempt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scalable_hpc.model.events import AttemptFailed
from scalable_hpc.telemetry.files import failures_jsonl, summary_json
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.text import render_attempts
from tests.unit.telemetry.a_run import first_driver, second_driver

EVENTS = [*first_driver(), *second_driver()]

KILLED = AttemptFailed(
    150.0,
    "t1",
    3,
    "slot_died",
    "killer",
    charged=True,
    decision="give_up",
    because="killed twice",
    worker="tls://10.0.0.1:1",
    allocation="a0001",
    node="node07",
    signal=11,
    ran_s=12.5,
    peak_memory=3 << 30,
    time_left_s=77.0,
    traceback="Fatal Python error: Segmentation fault",
    worker_end="SIGKILL",
)


def test_that_each_failure_is_a_line_with_its_attempts():
    """In the order of the tasks; as many lines as failures, each an object of its own."""
    report = build_report(EVENTS)
    lines = [json.loads(line) for line in failures_jsonl(report).splitlines()]

    assert [line["task_id"] for line in lines] == [failure.task_id for failure in report.failures]
    assert all(line["attempts"] for line in lines)
    assert {line["run_id"] for line in lines} == {report.run_id}


def test_that_a_run_without_failures_leaves_an_empty_file():
    """A reader need not ask whether it is there."""
    assert failures_jsonl(build_report([])) == ""


def test_that_the_summary_has_the_figures_of_the_report():
    """And nothing that grows with the number of tasks."""
    report = build_report(EVENTS)
    told = json.loads(summary_json(report))

    assert told["tasks"]["done"] == report.tasks.done
    assert told["node_hours"] == pytest.approx(report.node_hours)
    assert told["wall_s"] == pytest.approx(report.wall_s)
    assert not {"failures", "ended", "notes"} & told.keys()


@pytest.mark.parametrize(
    "words",
    ["ended by SIGSEGV", "its worker: SIGKILL", "a0001 (node07)", "12.5s", "3 GiB", "77.0s", "Segmentation fault",
     "killed twice", "node_fail [NODE_FAIL]", "attempt 3 (t1)"],
)  # fmt: skip
def test_that_an_ended_attempt_is_shown_with_all_that_is_known(words):
    """Signal, worker, place, time, memory, time left, output, and what the batch system says of its allocation."""
    explained = replace(KILLED, allocation_reason="node_fail")

    assert words in render_attempts(build_report([*EVENTS, explained]))


def test_that_every_ended_attempt_is_shown():
    """Of tasks that were done in the end too."""
    report = build_report(EVENTS)

    assert len(report.ended) == sum(isinstance(event, AttemptFailed) for event in EVENTS)
    assert render_attempts(report).count("ended: ") >= len(report.ended)
