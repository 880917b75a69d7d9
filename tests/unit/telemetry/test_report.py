"""A report says what the journal says."""

import json
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.reported import AttemptCount
from scalable_hpc.telemetry.text import render_failures, render_report
from tests.unit.telemetry.a_run import (
    AttemptExplained,
    AttemptPlaced,
    allocation,
    first_driver,
    receipt,
    second_driver,
)

EVENTS = first_driver() + second_driver()


def test_that_tasks_are_counted_by_how_they_stand():
    """Three done, one failed, one cancelled; hits were never tasks."""
    tasks = build_report(EVENTS).tasks

    assert (tasks.submitted, tasks.done, tasks.failed, tasks.cancelled, tasks.unfinished) == (5, 3, 1, 1, 0)
    assert tasks.hits == 40


def test_that_a_run_that_is_not_over_reports_what_is_unfinished():
    """Without a second driver two tasks are unfinished, and the run is not closed."""
    report = build_report(first_driver())

    assert (report.tasks.unfinished, report.is_closed, report.drivers) == (2, False, 1)


def test_that_attempts_are_counted_by_ending_and_reason():
    """What the batch system said later is counted as if it had been said then."""
    attempts = build_report(EVENTS).attempts

    assert set(attempts) == {
        AttemptCount("exception", "", "transient", True, 2),
        AttemptCount("worker_lost", "node_fail", "infrastructure", False, 1),
        AttemptCount("never_started", "", "infrastructure", False, 1),
    }


def test_that_an_allocation_that_ended_well_explains_no_loss():
    """A worker was killed, its allocation went on and was completed later: that is not why."""
    late = AttemptExplained(134.0, "t2", 1, "a0001", "completed", "allocation completed")

    assert AttemptCount("worker_lost", "", "infrastructure", False, 1) in build_report([*EVENTS, late]).attempts


def test_that_node_hours_are_counted_from_the_start_of_the_job():
    """Two nodes for 24 seconds and one for 36: waiting in the queue costs nothing."""
    report = build_report(EVENTS)

    assert [round(each.node_hours * 3600, 6) for each in report.allocations] == [48.0, 36.0]
    assert round(report.node_hours * 3600, 6) == 84.0


def test_that_allocations_say_how_they_ended_and_what_they_did():
    """Reason and raw words as the batch system gave them; receipts and losses."""
    first, second = build_report(EVENTS).allocations

    assert (first.reason, first.raw, first.job_id, first.nodes) == ("node_fail", "NODE_FAIL", "7", ("node01", "node02"))
    assert (first.receipts, first.lost) == (2, 2)
    assert (second.reason, second.receipts, second.lost) == ("completed", 2, 0)


def test_that_an_allocation_that_was_asked_for_less_time_says_so():
    """Both walltimes; one that was asked for the usual time says nothing of it."""
    short = allocation(101.0, "a0009", "submitting", walltime_s=1800, configured_s=14_400)
    usual = allocation(101.0, "a0010", "submitting", walltime_s=14_400)

    text = render_report(build_report([*EVENTS, short, usual]))

    [first, second] = [line for line in text.splitlines() if "a0009" in line or "a0010" in line]
    assert "never ran, asked for 00:30:00 of 04:00:00, 0 receipts" in first
    assert "asked for" not in second


def test_that_what_was_lost_run_again_and_skipped_is_told_apart():
    """Lost is not charged; run again is what had begun twice; skipped is what was known, found or done before."""
    upkeep = build_report(EVENTS).upkeep

    assert (upkeep.attempts_lost, upkeep.attempts_charged) == (2, 2)
    assert (upkeep.tasks_run_again, upkeep.extra_attempts) == (2, 2)
    assert (upkeep.reused, upkeep.done_before, upkeep.done_twice) == (1, 1, 0)


def test_that_a_task_which_is_placed_again_after_its_receipt_is_told_on():
    """The one number that must be zero is not taken for granted."""
    again = AttemptPlaced(300.0, "t1", 2, "tcp://x", "a0002")

    assert build_report([*EVENTS, again, receipt(301.0, "t1", 2, "a0002")]).upkeep.done_twice == 1


def test_that_a_failure_has_its_last_attempts_facts():
    """Label, error, place, time and tries."""
    (failure,) = build_report(EVENTS).failures

    assert failure.label == "run_simulation(scenario_id=13)"
    assert (failure.error_type, failure.error) == ("builtins.ValueError", "invalid input data")
    assert (failure.worker, failure.node, failure.ran_s, failure.retries) == ("a0001", "node01", 0.1, 1)


def test_that_a_failed_task_that_is_done_later_is_no_failure():
    """A receipt outweighs what was given up before it."""
    assert build_report([*EVENTS, receipt(301.0, "t4", 3, "a0002")]).failures == ()


@given(st.sets(st.integers(0, len(EVENTS) - 1)))
def test_that_a_torn_journal_still_reports(missing):
    """Whichever events are lost, there is a report, its sums hold, and it can be printed and dumped."""
    report = build_report([event for number, event in enumerate(EVENTS) if number not in missing])

    tasks = report.tasks
    assert tasks.submitted == tasks.done + tasks.failed + tasks.cancelled + tasks.unfinished
    assert report.node_hours >= 0
    assert render_report(report)
    assert json.loads(json.dumps(asdict(report)))["run_id"] == report.run_id


def test_that_no_events_are_a_report_too():
    """An empty journal is a run of which nothing is known."""
    assert build_report([]).tasks.submitted == 0


def test_that_failures_are_printed_in_their_form():
    """Numbered, with error, worker, duration and retries, as people are used to."""
    text = render_failures(build_report(EVENTS))

    assert text.splitlines() == [
        "Failures (1 of 45 tasks):",
        "",
        "1. run_simulation(scenario_id=13)",
        "   Error: ValueError — invalid input data",
        "   Worker: a0001 (node01)",
        "   Duration before failure: 0.1s",
        "   Retries attempted: 1 (all failed)",
        "   Because: its 1 retry is used up",
    ]


def test_that_no_failures_are_said_to_be_none():
    """The failures of a run without failures are one line."""
    assert render_failures(build_report(EVENTS[:3])) == "No failures (41 tasks)."


def test_that_a_report_shows_allocations_and_what_was_skipped():
    """The overview has the batch system's words, the node-hours and the sums of what faults cost."""
    text = render_report(build_report(EVENTS))

    assert "Run 20261122T084512Z-ab12cd on target 'slurm'" in text
    assert "Tasks: 3 done, 1 failed, 1 cancelled; 40 cache hits" in text
    assert "ended node_fail    job 7 on node01, node02, waited 9.0s, ran 24.0s, 2 receipts, 2 attempts lost" in text
    assert "[NODE_FAIL]" in text
    assert "2 attempts lost to infrastructure, charged to no task" in text
    assert "42 skipped: 40 cache hits, 1 found in the store, 1 done before this driver" in text
    assert "0 computed again after a receipt" in text
    assert "+21.0s pause: 1 allocation in a row ended before any worker registered" in text
