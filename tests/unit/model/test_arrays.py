"""Ids and names of the members of an array of jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.model.arrays import array_name, array_of, is_job_id, member_id, name_of_member, unfold


@given(number=st.integers(1, 123_456), ahead=st.integers(0, 999))
def test_that_a_member_has_the_name_that_it_would_have_alone(number, ahead):
    """From the array's job name and the member's id, both of which the batch system prints."""
    first = f"a{number:04d}"
    own = f"a{min(number + ahead, number - number % 1000 + 999):04d}"
    job_id = member_id("4711", own)

    assert name_of_member(array_name(f"scalable-RUN-{first}"), job_id) == f"scalable-RUN-{own}"
    assert array_of(job_id) == "4711"
    assert is_job_id(job_id)


@pytest.mark.parametrize(
    ("job_name", "job_id"), [("scalable-RUN-a0001", "12"), ("mine", "12_3"), ("mine+", "12"), ("mine+", "12_[1-2]")]
)
def test_that_other_jobs_keep_their_names(job_name, job_id):
    """Arrays of the user's own, and jobs that are none."""
    assert name_of_member(job_name, job_id) == job_name


@pytest.mark.parametrize(
    ("printed", "ids"),
    [
        ("12", ["12"]),
        ("12_0", ["12_0"]),
        ("12_[0-2,7]", ["12_0", "12_1", "12_2", "12_7"]),
        ("12_[3-6%2]", ["12_3", "12_4", "12_5", "12_6"]),
        ("12_[1-9:4]", ["12_1", "12_5", "12_9"]),
        ("12_[1,3,...]", []),
        ("12_[1,3", []),
        ("12_[5-1]", []),
        ("12_[0-999999999]", []),
        ("12.batch", []),
        ("12+1", []),
        ("", []),
    ],
)
def test_that_a_folded_id_stands_for_each_of_its_members(printed, ids):
    """Members that wait are printed as one; what is cut off, a step, or no id at all stands for none."""
    assert list(unfold(printed)) == ids


@given(st.text(alphabet="0123456789_[]-,:%x", max_size=30))
def test_that_no_text_raises_and_what_is_found_are_ids(text):
    """Whatever is printed where an id should be."""
    assert all(is_job_id(each) for each in unfold(text))
