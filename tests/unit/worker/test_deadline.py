"""Laws of the deadline and of warnings."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scalable_hpc.worker.deadline import (
    MARGIN_MOST_S,
    Deadline,
    DeadlineSources,
    answer_warning,
    ask_squeue,
    decide_deadline,
    gather_sources,
    parse_squeue_end,
    retire_at,
)

START = 1_790_000_000.0
QSTAT = "Job Id: 1.head\n    job_state = R\n    Resource_List.walltime = 00:10:00\n    stime = 1790000100\n"


@pytest.fixture
def utc(monkeypatch):
    """Slurm prints local time; tests live in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A squeue on PATH that prints what it is told and keeps its arguments and environment."""

    def install(body):
        program = tmp_path / "squeue"
        program.write_text(f'#!/bin/sh\necho "$@" "$SLURM_TIME_FORMAT" >> {tmp_path}/asked\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "asked"

    return install


@pytest.mark.parametrize(
    ("sources", "at"),
    [
        ({"declared": "1790000100", "slurm_env": "1790000200", "squeue": "2026-09-21T14:18:20"}, 1790000100),
        ({"slurm_env": "1790000200", "squeue": "2026-09-21T14:18:20", "walltime_s": 1}, 1790000300),
        ({"slurm_env": "1790000200", "walltime_s": 1}, 1790000200),
        ({"squeue": "N/A\n", "slurm_env": "soon", "declared": "", "walltime_s": 60}, START + 60),
        ({"squeue": "Unknown"}, None),
        ({"qstat": QSTAT, "walltime_s": 60}, 1790000700),
        ({"qstat": QSTAT, "declared": "1790000100"}, 1790000100),
        ({"qstat": QSTAT.replace("R", "Q"), "walltime_s": 60}, START + 60),
        ({"qstat": "qstat: no such job", "walltime_s": 60}, START + 60),
        ({}, None),
    ],
)
@pytest.mark.usefixtures("utc")
def test_that_the_most_binding_word_counts(sources, at):
    """The script's own word first, then squeue's of now, Slurm's of the start, and start plus walltime."""
    deadline = decide_deadline(DeadlineSources(started_at=START, **sources))

    assert deadline.at == at
    assert deadline.because


@given(st.text())
def test_that_no_text_of_squeue_is_an_error(text):
    """Whatever a command prints, the answer is a time or None."""
    assert isinstance(parse_squeue_end(text), float | None)


@given(length=st.floats(1, 1e7), started_at=st.just(START))
def test_that_a_worker_stops_taking_work_in_its_last_moments_only(length, started_at):
    """Before the deadline, by at least seconds and at most a minute."""
    at = retire_at(Deadline(started_at + length, "test"), started_at=started_at)

    assert started_at + length - MARGIN_MOST_S <= at < started_at + length


def test_that_an_unknown_deadline_never_retires():
    """What is not known is not now."""
    assert retire_at(Deadline(None, "test"), started_at=START) is None


@given(left=st.integers(-10_000, 1_000_000))
def test_that_only_an_early_warning_is_not_believed(left):
    """Near the deadline, past it or without one, a warning means the end; far from it, it does not."""
    assume(not 179 < left < 181)

    answer = answer_warning(Deadline(START + left, "squeue"), now=START)

    assert answer.retires == (left < 180)
    assert f"{left:.0f} s" in answer.because
    assert answer_warning(Deadline(None, "test"), now=START).retires


def test_that_squeue_is_asked_for_standard_time(squeue):
    """A site's SLURM_TIME_FORMAT would make the answer unreadable."""
    asked = squeue("echo 2026-09-21T14:18:20")

    assert ask_squeue("4711") == "2026-09-21T14:18:20\n"
    assert asked.read_text() == "-h -j 4711 -o %e standard\n"


@pytest.mark.parametrize("body", ["exit 1", "exec sleep 60", "kill -9 $$"])
def test_that_a_squeue_that_fails_is_no_answer(squeue, body):
    """Refused, silent or dead: None, and in time."""
    squeue(body)

    assert ask_squeue("4711", timeout_s=0.3) is None


def test_that_a_missing_squeue_is_no_answer(monkeypatch):
    """A PBS node has none."""
    monkeypatch.setenv("PATH", "/nonexistent")

    assert ask_squeue("4711") is None


@pytest.mark.parametrize(
    ("environ", "rereads", "asks"),
    [
        ({"SLURM_JOB_ID": "1"}, False, True),
        ({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "1790000200"}, False, False),
        ({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "1790000200"}, True, True),
        ({"SLURM_JOB_ID": "1", "SCALABLE_HPC_JOB_END_TIME": "1790000200"}, True, False),
        ({}, True, False),
    ],
)
def test_that_squeue_is_asked_only_where_it_can_tell_more(squeue, environ, rereads, asks):
    """A thousand starting workers must not all ask the controller what their environment tells."""
    asked = squeue("echo 2026-09-21T14:18:20")

    gather_sources(environ, started_at=START, walltime_s=None, rereads=rereads)

    assert asked.exists() == asks
