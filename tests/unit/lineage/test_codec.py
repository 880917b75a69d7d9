"""Events to JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.lineage.codec import KINDS, decode_event, encode_event
from scalable_hpc.model.events import AllocationChanged, ReceiptTaken, TaskSubmitted
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Payload, RetryPolicy
from tests.policies import POLICIES
from tests.unit.lineage.support import NOW, submitted

st.register_type_strategy(RetryPolicy, POLICIES)
any_event = st.one_of([st.from_type(cls) for cls in KINDS.values()]).filter(lambda event: "nan" not in repr(event))
"""Not-a-number is equal to nothing, so such events are left out."""


@given(any_event)
def test_that_every_event_survives_the_journal(event):
    """Encoded, written as JSON, read and decoded, it is equal, bytes and nesting included."""
    assert event == decode_event(json.loads(json.dumps(encode_event(event))))


def test_that_defaults_are_left_out():
    """A line holds what is particular to the event, not what every event has."""
    line = encode_event(ReceiptTaken(NOW, "f-1", 1, "d", 3, NOW, NOW, 0, "n1", "a1"))

    assert not {"reused", "late", "at"} & line.keys()
    assert line["e"] == "receipt_taken"
    assert line["t"] == NOW


def test_that_nested_values_come_back_as_their_classes():
    """Payload, Needs and RetryPolicy are not left as dicts, nor tuples as lists."""
    event = submitted("b", "a", needs=Needs(cpus=2, memory=1 << 30), policy=RetryPolicy(retries=3))

    decoded = decode_event(json.loads(json.dumps(encode_event(event))))

    assert isinstance(decoded, TaskSubmitted)
    assert isinstance(decoded.function, Payload)
    assert decoded.needs == event.needs
    assert decoded.policy == event.policy
    assert decoded.ancestors == event.ancestors


def test_that_fields_of_a_newer_release_are_ignored():
    """A journal may hold more than this release knows."""
    line = encode_event(AllocationChanged(NOW, "a0001", "live", "registered")) | {"mood": "good"}

    assert decode_event(line) == AllocationChanged(NOW, "a0001", "live", "registered")


@pytest.mark.parametrize("line", [{}, {"e": "nonsense", "t": 1}, {"e": "task_cancelled", "t": 1}, {"e": ["x"]}])
def test_that_what_is_no_event_is_refused(line):
    """Unknown kinds and missing fields are errors, never half an event."""
    with pytest.raises(ValueError, match="event"):
        decode_event(line)


@pytest.mark.parametrize("kind", KINDS)
def test_that_every_kind_has_a_time(kind):
    """``t`` is the field ``at``, first and required in every event."""
    first = fields(KINDS[kind])[0]

    assert first.name == "at"
    assert first.default is MISSING


def test_that_infinity_can_be_journaled():
    """A user's policy without a cap is no reason to stop."""
    event = submitted("a", policy=RetryPolicy(cap_s=math.inf))

    assert decode_event(json.loads(json.dumps(encode_event(event)))) == event
