"""Laws of the files that notes and tallies lie in."""

from __future__ import annotations

import os
import shutil

import pytest

from scalable_hpc.cache.keys import KeyMaker
from scalable_hpc.cache.notebook import JOINED_FROM, Notebook, join_notes, note_of_key, read_notes
from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
from scalable_hpc.cache.tallies import Hits, Tally, append_line, read_tallies
from tests.cache_support import load_module, run_python

_HIT = """
import os, sys
from scalable_hpc.cache.store import Store
store = Store(sys.argv[1])
for _ in range(int(sys.argv[2])):
    assert store.fetch("ab" * 32) == 7
print(os.getpid())
"""


@pytest.fixture
def maker(tmp_path):
    return KeyMaker(load_module(tmp_path, "def run(x):\n    return x\n", "notebook_model").run)


def gone(count):
    """Return the names of writers that have ended, on this host."""
    host = os.uname().nodename
    return [f"{host}-{4_000_000 + number}-{number:08x}" for number in range(count)]


def test_that_what_calls_share_stands_in_a_file_once(tmp_path, maker):
    """A note of a call is short, however much code it reaches."""
    book = Notebook(tmp_path / "notes", "host-1-aa")
    for number in range(20):
        book.write_call(maker.key((number,), {}), 0.5)
    book.close()

    [path] = (tmp_path / "notes").iterdir()
    assert path.read_text().count('"parts"') == 1
    assert len(list(read_notes(tmp_path / "notes"))) == 20


def test_that_notes_of_other_functions_are_not_read(tmp_path, maker):
    """An explanation costs what its own function's notes cost."""
    book = Notebook(tmp_path / "notes", "host-1-aa")
    book.write_call(maker.key((1,), {}), 0.5)

    assert list(read_notes(tmp_path / "notes", lambda code: code.function == "other.run")) == []


def test_that_a_note_that_cannot_be_written_is_dropped(tmp_path, maker):
    """Nothing fails for want of a note."""
    (tmp_path / "notes").write_text("a file where the directory should be")

    Notebook(tmp_path / "notes", "host-1-aa").write_call(maker.key((1,), {}), 0.5)


def test_that_joining_keeps_the_notes_of_results_that_are_there(tmp_path, maker):
    """Files of writers that are gone become one; a living writer's file stays as it is."""
    notes = tmp_path / "notes"
    keys = [maker.key((number,), {}) for number in range(JOINED_FROM)]
    for writer, key in zip(gone(JOINED_FROM), keys, strict=True):
        Notebook(notes, writer).write_call(key, 1.0)
    living = Notebook(notes, f"{os.uname().nodename}-{os.getpid()}-00000000")
    living.write_call(maker.key((99,), {}), 1.0)
    kept = {key.hex for key in keys[::2]}

    joined = join_notes(notes, kept, 1e10)

    assert joined == JOINED_FROM
    assert len(list(notes.iterdir())) == 2
    assert {note.key for note in read_notes(notes)} == kept | {maker.key((99,), {}).hex}
    assert note_of_key(notes, keys[0].hex).code.function == "notebook_model.run"
    assert note_of_key(notes, keys[1].hex) is None


def test_that_few_files_are_left_alone(tmp_path, maker):
    """Joining is work: it waits until there is something to gain."""
    for writer in gone(JOINED_FROM - 1):
        Notebook(tmp_path / "notes", writer).write_call(maker.key((1,), {}), 1.0)

    assert join_notes(tmp_path / "notes", set(), 1e10) == 0
    assert len(list((tmp_path / "notes").iterdir())) == JOINED_FROM - 1


def test_that_the_hits_of_all_processes_are_counted_in_one_file(tmp_path):
    """Each process says what it found when it ends; however many there are, it is one inode a host."""
    with Store(tmp_path) as store:
        store.publish("ab" * 32, dumps(7), core_s=7200.0)
    for count in (3, 4, 5):
        run_python(_HIT, tmp_path, count)

    assert read_tallies(tmp_path / "v1/notes") == Hits(12, 12 * 7200.0)
    assert len(list((tmp_path / "v1/notes").iterdir())) == 1


def test_that_a_forked_child_counts_its_own_hits_only(tmp_path):
    """What the parent had found before is told by the parent."""
    with Store(tmp_path) as store:
        store.publish("ab" * 32, dumps(7))
        store.fetch("ab" * 32)
        child = os.fork()
        if child == 0:
            store.fetch("ab" * 32)
            store.flush_tally()
            os._exit(0)
        os.waitpid(child, 0)

    assert read_tallies(tmp_path / "v1/notes").count == 2


def test_that_only_what_is_used_counts_as_a_hit(tmp_path):
    """Asking whether a result is known saves nothing."""
    with Store(tmp_path) as store:
        store.publish("ab" * 32, dumps(7), core_s=10.0)
        store.lookup("ab" * 32)
        store.lookup_many(["ab" * 32, "cd" * 32])
        store.lookup_many(["ab" * 32, "cd" * 32], tally=True)

    assert read_tallies(tmp_path / "v1/notes") == Hits(1, 10.0)


def test_that_a_torn_tally_costs_its_own_count_alone(tmp_path):
    """Nothing else of the file is lost with it."""
    tally = Tally(tmp_path)
    for _ in range(2):
        tally.found.append(1.0)
        tally.flush()
        [path] = tmp_path.iterdir()
        append_line(path, '{"hits": 5, "core')

    assert read_tallies(tmp_path) == Hits(2, 2.0)


def test_that_a_store_that_cannot_be_written_still_serves(tmp_path):
    """The count is lost, the result is not."""
    with Store(tmp_path) as store:
        store.publish("ab" * 32, dumps(7))
    (tmp_path / "v1/notes").write_text("a file where the directory should be")

    assert run_python(_HIT, tmp_path, 2)
    assert read_tallies(tmp_path / "v1/notes") == Hits()
    shutil.rmtree(tmp_path / "v1")
