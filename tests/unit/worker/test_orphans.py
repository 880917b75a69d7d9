"""Laws of ending the ranks that a task has left running."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker.orphans import ender_in, orphaned_steps

STEPS = """\
StepId=7.extern UserId=0 State=RUNNING NodeList=n[01-03] Name=extern CPUFreqReq=Default SrunHost:Pid=(null):0
StepId=7.batch UserId=0 State=RUNNING NodeList=n01 Name=batch CPUFreqReq=Default SrunHost:Pid=(null):0
StepId=7.0 UserId=0 State=RUNNING NodeList=n[01,03] Name=python Dist=Cyclic SrunHost:Pid=n01:2522
StepId=7.2 UserId=0 State=RUNNING NodeList=n[03-04] Name=solver Dist=Cyclic SrunHost:Pid=n03:1582
StepId=7.5 UserId=0 State=RUNNING NodeList=n[03-04] Name=solver Dist=Cyclic SrunHost:Pid=n03:1599
"""
"""Of ``scontrol -o show steps``, Slurm 22.05; shortened."""


def test_that_a_step_ends_with_what_had_started_it_here():
    """Not one whose srun lives, nor one that was started on another node: its worker sees to that."""
    assert orphaned_steps(STEPS, {"n03", "n03.cluster"}, {1599}.__contains__) == ("7.2",)
    assert orphaned_steps(STEPS, {"n03"}, {1582, 1599}.__contains__) == ()
    assert orphaned_steps(STEPS, {"n02"}, lambda _: False) == ()
    assert orphaned_steps(STEPS, {"(null)", ""}, lambda _: False) == ()


@given(st.text())
def test_that_what_cannot_be_read_ends_nothing(text):
    """Whatever is printed."""
    assert orphaned_steps(text, {"n03"}, lambda _: False) == ()


def test_that_there_is_nothing_to_end_outside_of_slurm():
    """On this machine and on PBS programs end with the task that has started them, or nobody knows of them."""
    assert ender_in({"PBS_JOBID": "1"}, "n03") is None
    assert ender_in({"SCALABLE_HPC_JOB_ID": "local-1"}, "n03") is None
