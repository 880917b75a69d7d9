"""Laws of telling why a worker went."""

from __future__ import annotations

import pytest

from scalable_hpc.cluster.departures import Known, added_worker, departure, removed_worker
from scalable_hpc.model.messages import WorkerGone


def event(**facts):
    return {"action": "remove-worker", "worker": "tls://w", "expected": False, **facts}


@pytest.mark.parametrize(
    ("facts", "known", "expected", "because"),
    [
        ({"stimulus_id": "handle-worker-cleanup-1.5"}, Known(), False, "its connection to the driver closed"),
        ({"stimulus_id": "check-worker-ttl-1.5"}, Known(), False, "it sent no heartbeat for too long"),
        ({"stimulus_id": "retire-workers-1", "expected": True}, Known(), True, "it retired"),
        ({"stimulus_id": "something-new"}, Known(), False, "Dask removed it (something-new)"),
        ({}, Known(), False, "Dask removed it ()"),
        ({"stimulus_id": "handle-worker-cleanup-1"}, Known(close_asked="idle"), True, "it was closed: idle"),
        (
            {"stimulus_id": "handle-worker-cleanup-1"},
            Known(draining="warned by signal"),
            False,
            "its connection to the driver closed, while draining: warned by signal",
        ),
    ],
)
def test_that_a_departure_is_expected_only_if_asked_for(facts, known, expected, because):
    """Closed by us or retired through the scheduler; a drain alone excuses nothing."""
    assert departure(event(**facts), 7.0, known) == WorkerGone("tls://w", 7.0, expected, because)


def test_that_other_events_are_nobodys_departure():
    """Only remove-worker removes, only add-worker adds."""
    assert removed_worker({"action": "retire-workers", "retired": []}) is None
    assert added_worker(event()) is None
    assert added_worker({"action": "add-worker", "worker": "tls://w"}) == "tls://w"
    assert removed_worker(event()) == "tls://w"
