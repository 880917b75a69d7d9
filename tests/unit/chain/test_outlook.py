"""What is made of the batch system's word on a driver's job that waits."""

from __future__ import annotations

import pytest

from scalable_hpc.batch import pbs_text, slurm_text
from scalable_hpc.chain.outlook import read_outlook
from scalable_hpc.model.allocations import JobObservation, JobState

NEVER = "Can Never Run: Insufficient amount of resource: ncpus (R: 1000 A: 16 T: 16)"


def outlook(words: str, state: JobState = JobState.PENDING, system=pbs_text, **more):
    seen = JobObservation("12.head", state, "raw", because=words, **more)
    return read_outlook(seen, system.never_runs, system.stuck)


@pytest.mark.parametrize("state", [state for state in JobState if state not in (JobState.PENDING, JobState.HELD)])
def test_that_a_job_that_does_not_wait_has_no_outlook(state):
    """Nobody is told to be patient about a job that runs, has ended, or of which nothing is known."""
    assert outlook("Resources", state) is None


@pytest.mark.parametrize(
    ("words", "state", "system", "is_never", "is_stuck"),
    [
        (NEVER, JobState.PENDING, pbs_text, True, True),
        ("Not Running: Queue not started.", JobState.PENDING, pbs_text, False, True),
        ("Job held by me on Sun Nov 22 06:55:34 2026", JobState.HELD, pbs_text, False, True),
        ("held (Hold_Types = o)", JobState.HELD, pbs_text, False, True),
        ("waits for other jobs (depend)", JobState.HELD, pbs_text, False, False),
        ("Not Running: Insufficient amount of resource: ncpus", JobState.PENDING, pbs_text, False, False),
        ("BadConstraints", JobState.PENDING, slurm_text, True, True),
        ("JobHeldAdmin", JobState.HELD, slurm_text, False, True),
        ("PartitionDown", JobState.PENDING, slurm_text, False, True),
        ("Dependency", JobState.PENDING, slurm_text, False, False),
        ("Priority", JobState.PENDING, slurm_text, False, False),
    ],
)
def test_that_waiting_for_ever_being_held_and_the_queue_are_told_apart(words, state, system, is_never, is_stuck):
    """In the batch system's words, whichever it is."""
    seen = outlook(words, state, system)

    assert (seen.never is not None, seen.stuck is not None) == (is_never, is_stuck)
    assert str(seen).startswith(f"'{words}'")
    assert ("it will never run" in str(seen)) == is_never


def test_that_a_forecast_is_told():
    """When the batch system thinks that it will start."""
    assert "expected to start at 20" in str(outlook("Resources", system=slurm_text, expected_start=1795329704.0))


def test_that_no_word_yet_is_said_to_be_none():
    """Its scheduler has not looked at it."""
    assert str(outlook("")) == "no reason given yet"
