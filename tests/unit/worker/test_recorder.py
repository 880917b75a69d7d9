"""Laws of the flight recorder."""

from __future__ import annotations

import json
import resource
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.model.tasks import AttemptId
from scalable_hpc.worker.recorder import Recorder, died, ended, held, read_recorder, started

ATTEMPTS = [AttemptId(f"run.model-{number:03d}", number % 3 + 1) for number in range(20)]


def recorder(tmp_path, name="a0001-node7-99.rec"):
    return Recorder(tmp_path / "recorders" / name, allocation="a0001", node="node7", pid=99, at=100.0)


def test_that_it_tells_what_was_running(tmp_path):
    """Begun and not ended, with the time of the beginning."""
    book = recorder(tmp_path)
    book.append(started(ATTEMPTS[0], at=101.0, seat=0), started(ATTEMPTS[1], at=102.0, seat=1))
    book.append(ended(ATTEMPTS[0], at=103.0, how="done"), started(ATTEMPTS[2], at=103.5, seat=0))
    book.append(held(ATTEMPTS[1], at=104.0, memory=4096), held(ATTEMPTS[1], at=105.0, memory=1024))
    book.append(died(at=106.0, seat=0, exit_code=None, signal=11, peak_memory=512))

    view = read_recorder(book.path)

    assert view.running == {ATTEMPTS[1]: 102.0, ATTEMPTS[2]: 103.5}
    assert view.ended == {ATTEMPTS[0]: "done"}
    assert view.memory == {ATTEMPTS[1]: 4096}
    assert (view.allocation, view.node, view.pid) == ("a0001", "node7", 99)
    assert (view.opened_at, view.last_at) == (100.0, 106.0)
    assert (view.torn, view.damaged, view.was_closed) == (False, 0, False)


def test_that_an_abandoned_one_says_no_more(tmp_path):
    """What ran when the worker was left behind is still running to whoever reads."""
    book = recorder(tmp_path)
    book.append(started(ATTEMPTS[0], at=1.0, seat=0))

    book.abandon()
    book.append(ended(ATTEMPTS[0], at=2.0, how="slot_died"))

    view = read_recorder(book.path)
    assert list(view.running) == ATTEMPTS[:1]
    assert not view.was_closed


@given(cut=st.integers(0, 10_000))
def test_that_a_crash_costs_the_last_line_at_most(tmp_path_factory, cut):
    """Cut at any byte after the first line, it tells exactly what the whole lines say."""
    book = recorder(tmp_path_factory.mktemp("cut"))
    begun = [started(attempt, at=200.0 + number, seat=0) for number, attempt in enumerate(ATTEMPTS)]
    book.append(*begun)
    whole = book.path.read_bytes()
    head = whole.index(b"\n") + 1
    kept = whole[: head + cut % (len(whole) - head + 1)]
    book.path.write_bytes(kept)

    view = read_recorder(book.path)

    assert list(view.running) == ATTEMPTS[: kept.count(b"\n") - 1]
    assert view.torn == (not kept.endswith(b"\n"))
    assert view.damaged == 0


def test_that_damage_in_the_middle_is_counted_and_passed_over(tmp_path):
    """A bad block hides its own line, not those after it."""
    book = recorder(tmp_path)
    book.append(*(started(attempt, at=1.0, seat=0) for attempt in ATTEMPTS[:3]))
    lines = book.path.read_bytes().splitlines(keepends=True)
    book.path.write_bytes(b"".join([*lines[:2], b"\0\0\0\xff\n", *lines[3:]]))

    view = read_recorder(book.path)

    assert list(view.running) == [ATTEMPTS[0], ATTEMPTS[2]]
    assert view.damaged == 1


def test_that_lines_of_many_threads_stay_whole(tmp_path):
    """Each append is one write."""
    book = recorder(tmp_path)

    def work(number):
        for _ in range(50):
            book.append(started(ATTEMPTS[number], at=1.0, seat=number), ended(ATTEMPTS[number], at=2.0, how="done"))
            book.sync()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    view = read_recorder(book.path)
    assert (view.damaged, view.torn, dict(view.running)) == (0, False, {})
    assert len(book.path.read_bytes().splitlines()) == 1 + 8 * 50 * 2


def test_that_an_orderly_end_is_told_from_a_crash(tmp_path):
    """The last line says so, and nothing is written after it."""
    book = recorder(tmp_path)
    book.close(at=300.0)
    book.append(started(ATTEMPTS[0], at=301.0, seat=0))

    view = read_recorder(book.path)

    assert view.was_closed
    assert not view.running


def test_that_a_full_disk_ends_the_recording_and_nothing_else(tmp_path, caplog, no_room_beyond):
    """Attempts go on, the log says once that the recorder does not, and what is there can be read."""
    book = recorder(tmp_path)

    with no_room_beyond(book.path.stat().st_size + 60):
        for attempt in ATTEMPTS[:3]:
            book.append(started(attempt, at=1.0, seat=0))

    view = read_recorder(book.path)
    assert list(view.running) == ATTEMPTS[:1]
    assert view.torn
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "ends here" in caplog.text


@pytest.fixture
def no_room_beyond():
    """A file-size limit stands in for a full disk: writes come short, then fail."""

    @contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.mark.parametrize("content", ["", "not json\n", json.dumps({"v": 2}) + "\n", "[]\n"])
def test_that_what_is_no_recorder_is_an_error(tmp_path, content):
    """It names the file; nothing is made up."""
    path = tmp_path / "x.rec"
    path.write_text(content)

    with pytest.raises(RunDirectoryError, match=r"x\.rec"):
        read_recorder(path)


def test_that_a_recorder_is_never_continued_by_another_process(tmp_path):
    """A name that is taken is an error: two writers would tell one wrong story."""
    recorder(tmp_path)

    with pytest.raises(RunDirectoryError):
        recorder(tmp_path)
