"""What a chain keeps on disk."""

from __future__ import annotations

import pytest

from scalable_hpc.chain.book import BEGAN, ENDED, SUBMITTED, Book, Entry, Order
from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.runs import create_run

ORDER = Order("/home/me/driver.py", ("--n", "3"), "/home/me", 3600, 60.0, True, 100, "/usr/bin/python3", 2, 1 << 30)


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path)


def test_that_an_order_is_read_as_it_was_written(run):
    """Its links know nothing else of what the user wanted."""
    ORDER.write(run)

    assert Order.read(run) == ORDER
    assert run.is_chained
    assert run.driver_order.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"script": "/x"}', '{"arguments": 3}'])
def test_that_a_damaged_order_is_an_error_that_names_the_file(run, text):
    """Never a traceback in a job's log."""
    run.driver_order.write_text(text)

    with pytest.raises(RunDirectoryError, match=r"driver\.json"):
        Order.read(run)


def test_that_a_torn_line_is_passed_over(run):
    """A link that was killed while it wrote takes none of the others' words along."""
    book = Book(run)
    book.note(Entry(1, BEGAN, 1.0, job_id="7"))
    with run.links.open("ab") as file:
        file.write(b'{"link": 1, "wh\n')
    book.note(Entry(1, ENDED, 2.0, "why", job_id="7"))
    book.note(Entry(2, SUBMITTED, 2.0, job_id="8"))

    assert [entry.what for entry in book] == [BEGAN, ENDED, SUBMITTED]
    assert book.last(ENDED).because == "why"
    assert book.last(ENDED, 2) is None
    assert book.jobs() == ["7", "8"]
