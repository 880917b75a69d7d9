"""The journal on a real disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from scalable_hpc.errors import JournalError, RunDirectoryError
from scalable_hpc.lineage.journal import Journal, JournalReader, read_events
from scalable_hpc.model.events import FleetNote, TaskCancelled
from tests.unit.lineage.support import NOW, placed, submitted

EVENTS = [
    submitted("a"),
    placed("a"),
    TaskCancelled(NOW, "a", "über: „nicht mehr“ nötig"),
    FleetNote(NOW, "pause", "x"),
]


def written(path, events=EVENTS) -> bytes:
    journal = Journal(path, "r1")
    for event in events:
        journal.append(event)
    journal.close()
    return path.read_bytes()


@contextmanager
def largest_file(size: int):
    """Let the kernel refuse to grow any file beyond a size, as a full disk or a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_that_events_come_back_in_order(tmp_path):
    """What was committed is read as it was appended, by any later process."""
    written(tmp_path / "j")

    assert list(read_events(tmp_path / "j")) == EVENTS


def test_that_nothing_is_on_disk_before_the_commit(tmp_path):
    """append buffers; commit writes the whole batch and says how large it was."""
    journal = Journal(tmp_path / "j", "r1")
    for event in EVENTS:
        journal.append(event)

    assert list(read_events(tmp_path / "j")) == []
    assert journal.commit() == len(EVENTS)
    assert list(read_events(tmp_path / "j")) == EVENTS
    assert journal.commit() == 0
    journal.close()


def test_that_only_its_owner_can_read_it(tmp_path):
    """Arguments and paths are nobody else's business."""
    written(tmp_path / "j")

    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_that_a_tail_torn_at_any_byte_is_cut_and_reported(tmp_path):
    """Wherever a crash cut the file, whole lines survive, the rest is cut, and writing goes on."""
    path = tmp_path / "j"
    whole = written(path)
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        survivors = sum(end <= size for end in ends)
        intact = max([end for end in ends if end <= size], default=0)

        replayed = []
        journal = Journal(path, "r1", each=replayed.append, fsync=False)
        journal.append(EVENTS[-1])
        journal.close()

        assert replayed == EVENTS[: max(0, survivors - 1)]
        assert journal.torn_bytes == size - intact
        assert list(read_events(path)) == [*replayed, EVENTS[-1]]


def test_that_a_torn_tail_does_not_disturb_readers(tmp_path):
    """A report may read a journal while its last line is being written, and says how much it left out."""
    path = tmp_path / "j"
    whole = written(path)
    path.write_bytes(whole[:-5])

    reader = JournalReader(path)

    assert list(reader) == EVENTS[:-1]
    assert reader.torn_bytes > 0
    assert reader.run_id == "r1"


@pytest.mark.parametrize("line", range(1, len(EVENTS) + 2))
def test_that_a_changed_byte_is_found_with_its_line(tmp_path, line):
    """Damage anywhere but in a torn tail is an error that names the line."""
    path = tmp_path / "j"
    lines = written(path).splitlines(keepends=True)
    for index in range(0, len(lines[line - 1]) - 1, 7):
        damaged = bytearray(lines[line - 1])
        damaged[index] ^= 0x04
        path.write_bytes(b"".join([*lines[: line - 1], bytes(damaged), *lines[line:]]))

        with pytest.raises(JournalError, match=f"line {line}[^0-9]"):
            list(read_events(path))


@pytest.mark.parametrize("change", ["lost", "twice", "swapped"])
def test_that_a_line_lost_doubled_or_moved_is_found(tmp_path, change):
    """Each line is chained to the one before it."""
    path = tmp_path / "j"
    lines = written(path).splitlines(keepends=True)
    changed = {
        "lost": lines[:2] + lines[3:],
        "twice": lines[:3] + lines[2:],
        "swapped": [lines[0], lines[2], lines[1], *lines[3:]],
    }[change]
    path.write_bytes(b"".join(changed))

    with pytest.raises(JournalError):
        list(read_events(path))


def test_that_damage_is_not_taken_for_a_torn_tail_by_the_writer(tmp_path):
    """A writer that met damage must not cut what follows it."""
    path = tmp_path / "j"
    whole = written(path).replace(b'"pause"', b'"poise"')
    path.write_bytes(whole)

    with pytest.raises(JournalError):
        Journal(path, "r1")
    assert path.read_bytes() == whole


def test_that_another_version_is_refused_by_name(tmp_path):
    """A journal of a later format says so, and which release to use."""
    path = tmp_path / "j"
    journal = Journal(path, "r1")
    journal.close()
    path.write_bytes(_with_version_2())

    with pytest.raises(JournalError, match="version 2"):
        list(read_events(path))


def _with_version_2() -> bytes:
    import zlib

    body = b'{"format":"scalable-hpc journal","version":2,"run_id":"r1"}'
    return b'%b,"c":"%08x"}\n' % (body[:-1], zlib.crc32(body))


def test_that_another_runs_journal_is_refused(tmp_path):
    """A journal belongs to one run."""
    written(tmp_path / "j")

    with pytest.raises(JournalError, match="'r1'"):
        Journal(tmp_path / "j", "r2")


def test_that_a_missing_journal_is_an_error_of_the_run_directory(tmp_path):
    """Not a traceback of open()."""
    with pytest.raises(RunDirectoryError, match="missing"):
        list(read_events(tmp_path / "missing"))


def test_that_an_unwritable_directory_is_told_at_once(tmp_path):
    """The journal is opened when the run begins, not when the first task is done."""
    with pytest.raises(RunDirectoryError, match="nowhere"):
        Journal(tmp_path / "nowhere" / "j", "r1")


def test_that_a_full_disk_loses_nothing(tmp_path):
    """A batch that does not fit is taken back whole and kept; with space again, it is written."""
    path = tmp_path / "j"
    journal = Journal(path, "r1")
    journal.append(EVENTS[0])
    journal.commit()
    before = path.read_bytes()
    for event in EVENTS[1:]:
        journal.append(event)
    with largest_file(len(before) + 100), pytest.raises(RunDirectoryError, match="File too large"):
        journal.commit()

    assert path.read_bytes() == before
    assert journal.is_waiting
    journal.close()
    assert list(read_events(path)) == EVENTS


def test_that_appends_from_many_threads_are_all_kept(tmp_path):
    """The fleet journals from where it is, while a commit is under way."""
    journal = Journal(tmp_path / "j", "r1", fsync=False)

    def append(number: int) -> None:
        for index in range(50):
            journal.append(FleetNote(NOW, str(number), str(index)))
            journal.commit() if number == 0 else None

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    notes = list(read_events(tmp_path / "j"))

    assert len(notes) == 200
    for number in range(4):
        assert [note.because for note in notes if note.kind == str(number)] == [str(index) for index in range(50)]


def test_that_a_killed_writer_loses_nothing_it_had_committed(tmp_path):
    """SIGKILL in the middle of writing: every event that was acknowledged is there, and the journal can go on."""
    path = tmp_path / "j"
    script = (
        "import sys, itertools\n"
        "from pathlib import Path\n"
        "from scalable_hpc.lineage.journal import Journal\n"
        "from scalable_hpc.model.events import FleetNote\n"
        "journal = Journal(Path(sys.argv[1]), 'r1')\n"
        "for number in itertools.count():\n"
        "    journal.append(FleetNote(float(number), 'x' * 3000, str(number)))\n"
        "    journal.commit()\n"
        "    print(number, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(20):
        acknowledged = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    replayed = []
    Journal(path, "r1", each=replayed.append).close()

    assert len(replayed) > acknowledged
    assert [event.because for event in replayed] == [str(number) for number in range(len(replayed))]
