"""Laws of opening what workers send."""

from __future__ import annotations

import pickle

import pytest

from scalable_hpc.cluster.mailbox import open_letter
from scalable_hpc.model.messages import WorkerDraining


def test_that_a_letter_is_what_was_put_in():
    """The body is the message, whatever the kind is called."""
    message = WorkerDraining("tls://w", "warned", 12.0)

    assert open_letter({"kind": "x", "body": pickle.dumps(message)}) == message


@pytest.mark.parametrize(
    "letter", [{}, None, 7, {"body": b"torn"}, {"body": pickle.dumps("no message of ours")}, {"body": None}]
)
def test_that_what_cannot_be_read_ends_nothing(letter, caplog):
    """It is logged as an error, and the listening goes on."""
    assert open_letter(letter) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
