"""Laws of what a script may ask of this machine, and of whose turn it is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.batch.local_text import (
    Capacity,
    LocalRequest,
    Wait,
    Waiting,
    next_to_start,
    parse_script,
    refuse_what_never_fits,
)
from scalable_hpc.errors import LimitRefused, SubmissionError

WHOLE = """#!/bin/bash
#LOCAL job-name=scalable-r1-a0001
#LOCAL comment=scalable-hpc run=r1 (a = b)
# An ordinary comment, and #LOCAL in the middle of one
#LOCAL cpus=4
#LOCAL memory=1073741824
#LOCAL walltime=90
#LOCAL signal-lead=30.5
#LOCAL output=logs/%j with blank.txt
#LOCAL chdir=/tmp
#LOCAL nodes=1

echo
#LOCAL cpus=9
"""


def test_that_directives_above_the_first_command_are_read():
    """As sbatch reads ``#SBATCH``: what stands below a command is a comment."""
    assert parse_script(WHOLE) == LocalRequest(
        job_name="scalable-r1-a0001",
        comment="scalable-hpc run=r1 (a = b)",
        nodes=1,
        cpus=4,
        memory=2**30,
        walltime_s=90.0,
        signal_lead_s=30.5,
        output="logs/%j with blank.txt",
        chdir="/tmp",
    )


def test_that_a_script_that_asks_nothing_gets_one_cpu():
    """No walltime means none."""
    assert parse_script("#!/bin/sh\ntrue\n") == LocalRequest()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo hi\n", "no batch script: 'echo hi'"),
        ("", "no batch script"),
        ("#!/bin/sh\n#LOCAL cpu=2\n", "line 2 of the job script asks for an unknown 'cpu'"),
        ("#!/bin/sh\n#LOCAL cpus\n", "'cpus' must be a whole number"),
        ("#!/bin/sh\n#LOCAL cpus=0\n", "'cpus' must be a whole number from 1 on, not '0'"),
        ("#!/bin/sh\n#LOCAL walltime=1:00:00\n", "'walltime' must be a number of seconds, not '1:00:00'"),
        ("#!/bin/sh\n#LOCAL walltime=0\n", "longer than zero"),
        ("#!/bin/sh\n#LOCAL walltime=inf\n", "'walltime' must be"),
        ("#!/bin/sh\n#LOCAL cpus=1\n#LOCAL cpus=2\n", "line 3"),
        ("#!/bin/sh\n#LOCAL walltime=10\n#LOCAL signal-lead=10\n", "signal lead of 10 s is not shorter"),
    ],
)
def test_that_what_cannot_be_understood_is_refused_with_its_line(script, words):
    """Nothing asked for is ignored."""
    with pytest.raises(SubmissionError) as caught:
        parse_script(script)

    assert words in caught.value.message


def test_that_a_misspelt_key_gets_the_nearest_one():
    """The hint saves a look into the manual."""
    with pytest.raises(SubmissionError) as caught:
        parse_script("#!/bin/sh\n#LOCAL wall-time=3\n")

    assert caught.value.hint == "did you mean 'walltime'?"


@given(st.one_of(st.text(), st.text().map("#!/bin/sh\n#LOCAL {}".format)))
def test_that_no_script_does_worse_than_be_refused(script):
    """Whatever is in the file."""
    with contextlib.suppress(SubmissionError):
        assert isinstance(parse_script(script), LocalRequest)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (LocalRequest(cpus=5), "asks for 5 cpus, this machine offers 4"),
        (LocalRequest(memory=101), "asks for 101 bytes of memory, this machine offers 100"),
        (LocalRequest(nodes=2), "asks for 2 nodes, this machine offers 1"),
    ],
)
def test_that_what_never_fits_is_refused_at_once(request_, words):
    """It would wait for ever."""
    with pytest.raises(LimitRefused, match=words):
        refuse_what_never_fits(request_, Capacity(4, 100))


def test_that_a_step_may_have_several_nodes_of_its_job():
    """And no more than those."""
    refuse_what_never_fits(LocalRequest(nodes=3, cpus=3), Capacity(3, nodes=3))

    with pytest.raises(LimitRefused, match="asks for 4 nodes, this machine offers 3"):
        refuse_what_never_fits(LocalRequest(nodes=4, cpus=3), Capacity(3, nodes=3))


def test_that_memory_is_not_counted_where_none_is_given():
    """Any amount fits."""
    refuse_what_never_fits(LocalRequest(memory=10**15), Capacity(1))


jobs = st.builds(
    Waiting,
    job_id=st.uuids().map(str),
    cpus=st.integers(1, 4),
    memory=st.none() | st.integers(1, 9),
    eligible_at=st.floats(0, 9),
)


@given(st.lists(jobs), st.integers(0, 4), st.none() | st.integers(0, 9), st.floats(0, 9))
def test_that_only_the_first_may_start_and_only_within_capacity(waiting, used_cpus, memory, now):
    """First come, first served; never more than the machine has."""
    total = Capacity(4, memory)
    found = next_to_start(waiting, Capacity(used_cpus, 0), total, now)

    if isinstance(found, Waiting):
        assert found is waiting[0]
        assert found.cpus + used_cpus <= 4
        assert memory is None or (found.memory or 0) <= memory
        assert found.eligible_at <= now
    elif waiting and waiting[0].eligible_at > now:
        assert found == Wait("BeginTime", until=waiting[0].eligible_at)
    else:
        assert found.until is None
