"""Retry policies as data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.faults.evidence import facts_of
from scalable_hpc.lineage.codec import decode_event, encode_event
from scalable_hpc.model.events import TaskSubmitted
from scalable_hpc.model.retry import RetryPolicy, Verdict, class_names, is_named
from scalable_hpc.model.tasks import Payload
from tests.policies import POLICIES

PAYLOAD = Payload("00", 1, offset=0)


class Flooded(Exception):
    """A user's own."""


class VeryFlooded(Flooded):
    """A kind of it."""


def word(policy: RetryPolicy, error: BaseException) -> Verdict | None:
    said = policy.word_on(facts_of(error).bases)
    return None if said is None else said[0]


def test_that_attempts_are_one_more_than_retries():
    """Both words say the same, and contradicting each other they are refused."""
    assert RetryPolicy(attempts=5).retries == 4
    assert replace(RetryPolicy(attempts=5), retries=1).retries == 1
    with pytest.raises(ValueError, match="give one of them"):
        RetryPolicy(retries=2, attempts=2)


def test_that_a_listed_class_covers_its_subclasses():
    """A class or its name: subclasses are found by their recorded ancestry."""
    by_class = RetryPolicy(permanent=(Flooded,))
    by_name = RetryPolicy(permanent=[f"{Flooded.__module__}.Flooded"])

    assert by_class == by_name
    assert word(by_class, VeryFlooded()) is Verdict.PERMANENT
    assert word(by_class, KeyError()) is None


def test_that_the_nearest_listed_class_decides():
    """A special case may be taken out of a general rule, in either direction."""
    policy = RetryPolicy(transient=(OSError, VeryFlooded), permanent=(FileNotFoundError, Flooded))

    assert word(policy, FileNotFoundError()) is Verdict.PERMANENT
    assert word(policy, PermissionError()) is Verdict.TRANSIENT
    assert word(policy, VeryFlooded()) is Verdict.TRANSIENT
    assert word(policy, Flooded()) is Verdict.PERMANENT


@pytest.mark.parametrize(
    ("recorded", "name", "same"),
    [
        ("requests.exceptions.Timeout", "requests.Timeout", True),
        ("requests.exceptions.Timeout", "requests.exceptions.Timeout", True),
        ("requests.exceptions.ConnectTimeout", "requests.Timeout", False),
        ("urllib3.exceptions.Timeout", "requests.Timeout", False),
        ("builtins.TimeoutError", "requests.TimeoutError", False),
    ],
)
def test_that_a_name_may_leave_out_modules_in_the_middle(recorded, name, same):
    """Libraries show their errors at the top, and define them further down."""
    assert is_named(recorded, name) is same


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"transient": "Flooded"}, "package.module.Flooded"),
        ({"transient": "a. b"}, "a. b"),
        ({"transient": ValueError, "permanent": "ValueError"}, "both transient and permanent"),
        ({"limits": {"KILLER": 3}}, "RESOURCE"),
        ({"limits": {"RESOURCE": -1}}, "-1"),
        ({"worth_retrying": "mine.rule"}, "package.module:function"),
        ({"retries": -1}, "-1"),
        ({"retries": True}, "True"),
        ({"factor": 0.5}, "0.5"),
        ({"base_s": float("nan")}, "nan"),
        ({"attempts": 0}, "0"),
    ],
)
def test_that_a_policy_that_cannot_be_is_refused_where_it_is_made(options, told):
    """The error has the value, or what to write."""
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        RetryPolicy(**options)


@pytest.mark.parametrize("options", [{"transient": (int,)}, {"permanent": 7}, {"worth_retrying": 7}])
def test_that_what_is_no_exception_is_no_rule(options):
    """A class that cannot be raised, or no class at all, is a TypeError."""
    with pytest.raises(TypeError):
        RetryPolicy(**options)


@given(POLICIES)
def test_that_a_policy_comes_back_from_the_journal(policy):
    """What was written as a line of JSON is the same policy, rules included."""
    event = TaskSubmitted(1.0, "f-1", "f", "00", "/s", PAYLOAD, PAYLOAD, policy=policy, rule=PAYLOAD)

    assert decode_event(json.loads(json.dumps(encode_event(event)))) == event
    assert hash(policy) == hash(replace(policy))


@given(POLICIES, st.sampled_from(Verdict))
def test_that_a_limit_is_found_by_its_verdict(policy, verdict):
    """However it was written: verdict, name in capitals or not."""
    again = replace(policy, limits={Verdict(name).name: most for name, most in policy.limits})

    assert again.limit_of(verdict) == dict(policy.limits).get(verdict.value)


def test_that_a_name_is_told_once():
    """Names are kept in order, each once, built-in ones with their module."""
    assert class_names(["ValueError", ValueError, "a.B"]) == ("builtins.ValueError", "a.B")
