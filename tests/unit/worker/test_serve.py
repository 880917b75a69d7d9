"""Laws of a courier's identity; what its process does is told in the scenarios."""

from __future__ import annotations

import pytest

from scalable_hpc.worker.identity import first_of, worker_name


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "a0001"),
        ({"SLURM_PROCID": "0"}, "a0001"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, "a0001"),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, "a0001-3"),
    ],
)
def test_that_each_node_of_an_allocation_has_a_worker_of_its_own_name(environ, name):
    """Numbered where ``srun`` started several; in a batch script Slurm sets a rank too, of nothing."""
    assert worker_name("a0001", environ) == name


def test_that_an_empty_variable_is_no_word():
    """Batch systems export variables that they leave empty."""
    assert first_of({"A": "", "B": "b", "C": "c"}, ("A", "B", "C")) == "b"
    assert first_of({}, ("A",)) is None
