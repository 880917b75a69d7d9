"""Run directories."""

from __future__ import annotations

import stat

import pytest

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.runs import create_run, find_run, list_runs


def test_that_a_run_directory_is_its_owners_alone(tmp_path):
    """0700, and everything below it that is made with it."""
    run = create_run(tmp_path / "runs")

    for path in (run.path, run.scripts, run.logs, run.path / "recorders"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_that_runs_are_found_by_the_start_of_their_name(tmp_path):
    """The newest without a name; an ambiguous start is refused."""
    runs = [create_run(tmp_path, now) for now in (1_000_000.0, 2_000_000.0, 3_000_000.0)]
    (tmp_path / "notes.txt").write_text("not a run")

    assert list_runs(tmp_path) == runs
    assert find_run(tmp_path) == runs[-1]
    assert find_run(tmp_path, runs[1].run_id[:12]) == runs[1]
    with pytest.raises(RunDirectoryError, match="3 runs named '1970'"):
        find_run(tmp_path, "1970")
    with pytest.raises(RunDirectoryError, match="no run named 'x'"):
        find_run(tmp_path, "x")


def test_that_the_tail_of_a_log_is_its_last_bytes(tmp_path):
    """Also of a log that is not there, or holds what is no text."""
    run = create_run(tmp_path)
    run.log_of("a0001").write_bytes(b"x" * 10_000 + b"\xff the end")

    assert run.log_tail("a0001").endswith("the end")
    assert len(run.log_tail("a0001")) <= 4096
    assert run.log_tail("a0002") == ""
