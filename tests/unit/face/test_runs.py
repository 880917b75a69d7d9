"""Run directories."""

from __future__ import annotations

import os
import stat

import pytest

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.runs import create_run, find_run, list_runs


def test_that_a_run_directory_is_its_owners_alone(tmp_path):
    """0700, and everything below it that is made with it."""
    run = create_run(tmp_path / "runs")

    for path in (run.path, run.scripts, run.logs, run.path / "recorders"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_that_what_is_made_on_the_way_is_nobody_elses_to_write(tmp_path):
    """Whatever the umask: who can write in a directory can put another one in the place of what lies there."""
    before = os.umask(0)
    try:
        create_run(tmp_path / "project" / ".scalable" / "runs")
    finally:
        os.umask(before)

    for path in (tmp_path / "project", tmp_path / "project" / ".scalable", tmp_path / "project" / ".scalable" / "runs"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022


@pytest.mark.parametrize("which", [".scalable", ".scalable/runs"])
def test_that_runs_are_not_kept_where_others_can_exchange_them(tmp_path, which):
    """Everybody may write and nothing is sticky: what is submitted there might be somebody else's by then."""
    (tmp_path / ".scalable" / "runs").mkdir(parents=True, mode=0o700)
    (tmp_path / which).chmod(0o777)
    with pytest.raises(RunDirectoryError, match="can be written by everybody"):
        create_run(tmp_path / ".scalable" / "runs")

    (tmp_path / which).chmod(0o1777)
    assert create_run(tmp_path / ".scalable" / "runs").path.is_dir()


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
