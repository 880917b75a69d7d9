"""Laws of what a courier tells running attempts about its end."""

from __future__ import annotations

import pytest

from scalable_hpc.worker.outlook import Outlook, OutlookBoard, read_outlook


def test_that_both_words_are_kept(tmp_path):
    """A deadline that moves does not take back the drain."""
    board = OutlookBoard(tmp_path / "node" / "outlook.json")
    board.deadline_is(100.0)
    board.draining("SIGTERM")
    board.deadline_is(200.0)

    assert read_outlook(tmp_path / "node" / "outlook.json") == Outlook(200.0, "SIGTERM")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '"x"', '{"deadline": 1.0}'])
def test_that_an_unreadable_outlook_tells_nothing(tmp_path, content):
    """An attempt that asks is not failed for it."""
    path = tmp_path / "outlook.json"
    if content is not None:
        path.write_text(content)

    assert read_outlook(path) == Outlook()


def test_that_a_new_courier_does_not_inherit_the_word_of_the_one_before(tmp_path):
    """Its launcher started it to work on."""
    OutlookBoard(tmp_path / "outlook.json").draining("lost its driver")
    OutlookBoard(tmp_path / "outlook.json")

    assert read_outlook(tmp_path / "outlook.json") == Outlook()


def test_that_a_directory_that_cannot_be_written_stops_nobody(tmp_path):
    """A full or broken disk on the node."""
    (tmp_path / "file").write_text("")

    OutlookBoard(tmp_path / "file" / "outlook.json").draining("SIGTERM")
