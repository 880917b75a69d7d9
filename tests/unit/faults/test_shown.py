"""Every row of the judge's table, and every way in which a batch system ends jobs, is shown with real processes.

This is the table of what shows what; it fails when a row is added, or a test renamed, without a word here.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scalable_hpc.faults.judge import ROWS
from tests.scenarios.test_verdicts import EXPECTED

TESTS = Path(__file__).parents[2]

VERDICTS = "scenarios/test_verdicts.py::test_that_a_row_is_what_real_processes_bring_about"
KILLERS = "scenarios/test_suspects.py::test_that_what_kills_a_worker_is_convicted_alone"
RULES = "scenarios/test_retry_rules.py::test_that_the_users_word_decides_about_the_users_exceptions"

OF_ROWS = {
    "asked for by us": "scenarios/test_client.py::test_that_cancel_kills_a_running_call",
    "handed back too often": (
        "scenarios/test_checkpoints.py::test_that_handing_itself_back_without_getting_on_comes_to_an_end"
    ),
    "handed back by the task": VERDICTS,
    "never started": "scenarios/test_verdicts.py::test_that_those_behind_a_killer_in_its_bundle_never_started",
    "refused": VERDICTS,
    "out of memory, there is more": (
        "scenarios/test_memory.py::test_that_a_component_is_asked_for_with_more_memory_for_a_task_that_needs_it"
    ),
    "out of memory, there is no more": (
        "scenarios/test_memory.py::test_that_a_task_that_needs_more_than_there_is_fails_with_what_it_needed"
    ),
    "out of memory, alone": (
        "scenarios/test_suspects.py::test_that_what_runs_a_whole_job_out_of_memory_is_found_by_running_alone"
    ),
    "allocation out of memory": VERDICTS,
    "allocation ended": VERDICTS,
    "slot ended from outside": VERDICTS,
    "worker died, alone": KILLERS,
    "worker died": KILLERS,
    "batch system silent": "seeds/test_resilience.py::test_that_a_hung_worker_is_noticed_by_its_silence",
    "slot died before it began": VERDICTS,
    "ran into its timeout": VERDICTS,
    "second death": VERDICTS,
    "first death": VERDICTS,
    "your rule: worth retrying": RULES,
    "your rule: not worth retrying": RULES,
    "listed as transient": RULES,
    "listed as permanent": RULES,
    "MemoryError": "seeds/test_tutorial.py::test_that_failures_are_reported_in_the_form_of_the_text",
    "transient exception": VERDICTS,
    "permanent exception": VERDICTS,
    "other exception": VERDICTS,
}
WITHOUT = {
    "worker lost": "it is there so that no ending is without a row: a job that COMPLETED under its attempts",
}

ON_SLURM = {
    "TIMEOUT": "scenarios/test_verdicts_slurm.py::test_that_a_walltime_that_ends_costs_nothing",
    "NODE_FAIL, CANCELLED": (
        "scenarios/test_node_loss.py::test_that_an_ensemble_survives_a_node_power_cut_and_a_cancelled_job"
    ),
    "PREEMPTED": "scenarios/test_verdicts_slurm.py::test_that_a_preempted_job_costs_nothing",
    "OUT_OF_MEMORY": "scenarios/test_verdicts_slurm.py::test_that_a_job_that_fills_its_memory_ends_the_guilty_alone",
    "more memory": (
        "scenarios/test_memory.py::test_that_a_task_that_its_slurm_job_has_no_room_for_is_run_in_a_larger_one"
    ),
    "requeue": "scenarios/test_verdicts_slurm.py::test_that_a_preempted_job_that_may_be_requeued_goes_on_under_its_id",
    "prologue exits 7": (
        "scenarios/test_verdicts_slurm.py::test_that_a_prologue_that_fails_is_the_allocations_failure"
    ),
    "hung node, partition": (
        "scenarios/test_verdicts_slurm.py::test_that_a_hung_and_a_partitioned_worker_are_replaced_and_come_too_late"
    ),
    "controller silent": "scenarios/test_fleet_slurm.py::test_that_work_goes_on_while_the_controller_is_silent",
}


@pytest.mark.parametrize("shown_by", sorted({*OF_ROWS.values(), *ON_SLURM.values()}))
def test_that_what_is_said_to_show_a_row_is_a_test(shown_by):
    """Of that name, in that file."""
    file, _, name = shown_by.partition("::")
    tree = ast.parse((TESTS / file).read_text())

    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_that_every_row_is_shown():
    """By a test, or with the reason why not."""
    by_verdicts = {name for name, shown_by in OF_ROWS.items() if shown_by == VERDICTS}
    assert by_verdicts == {name.partition(",")[0] for name, _, _ in EXPECTED}
    assert OF_ROWS.keys() | WITHOUT.keys() == {row.name for row in ROWS}
    assert not OF_ROWS.keys() & WITHOUT.keys()
