"""What pytest says and does where no Slurm can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

TESTS = """
import pytest

def test_that_needs_no_slurm():
    pass

def test_that_asks_for_slurm(slurm):
    pass

@pytest.mark.slurm
def test_that_is_marked():
    pass
"""


@pytest.fixture
def without_slurm(tmp_path):
    """Run pytest on ``TESTS`` with an instance that cannot exist: the same way as with packages that cannot."""
    (tmp_path / "test_something.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slurm: real Slurm\n")
    options = ["-p", "tests.slurm_support", "-p", "no:cacheprovider", "--rig-instance=100"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", *options, *arguments, str(tmp_path)]
        clean = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60)

    return run


def test_that_tests_without_a_slurm_are_left_out_and_named_with_the_reason(without_slurm):
    """One block at the end: how many, why, and which."""
    done = without_slurm()

    block = done.stdout[done.stdout.index("tests that were left out") :]
    assert done.returncode == 0
    assert "1 passed, 2 skipped" in done.stdout
    assert "2 because: no real Slurm here: instance must be 0..99: 100" in block
    assert "::test_that_asks_for_slurm" in block
    assert "::test_that_is_marked" in block


def test_that_a_required_slurm_that_cannot_be_had_is_an_error(without_slurm):
    """``--require-slurm``: nothing is left out in silence where it must not be."""
    done = without_slurm("--require-slurm")

    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert "no real Slurm here: instance must be 0..99: 100" in done.stdout


def test_that_a_test_that_asks_for_slurm_is_deselected_with_the_mark(without_slurm):
    """``-m 'not slurm'`` needs no knowledge of which tests forgot the mark."""
    done = without_slurm("-m", "not slurm")

    assert "1 passed, 2 deselected" in done.stdout
