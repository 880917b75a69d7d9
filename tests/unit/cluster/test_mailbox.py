"""Laws of opening what workers send."""

from __future__ import annotations

import pickle

import pytest

from scalable_hpc.cluster.mailbox import open_letter
from scalable_hpc.model.messages import WorkerDraining


def test_that_a_letter_is_what_was_put_in():
    """The body is the message, whatever the kind is called."""
    message = WorkerDraining("tls://w", "warned", 12.0)

    assert open_letter({"kind": "x", "body": pickle.dumps(message)}) == (message,)


def test_that_several_messages_in_one_letter_keep_their_order(caplog):
    """A tuple is opened message by message; a stranger among them costs the others nothing."""
    first, second = (WorkerDraining("tls://w", because, None) for because in ("first", "second"))

    assert open_letter({"kind": "Several", "body": pickle.dumps((first, 7, second))}) == (first, second)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    "letter", [{}, None, 7, {"body": b"torn"}, {"body": pickle.dumps("no message of ours")}, {"body": None}]
)
def test_that_what_cannot_be_read_ends_nothing(letter, caplog):
    """It is logged as an error, and the listening goes on."""
    assert open_letter(letter) == ()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
