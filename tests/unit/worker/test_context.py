"""Laws of what a task may ask about itself, in a slot and outside."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

import scalable_hpc
from scalable_hpc import Checkpointed
from scalable_hpc.cache.serial import loads
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Receipt
from tests.worker_bench import CourierBench

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def bench(tmp_path):
    with CourierBench(tmp_path, slots=1) as bench:
        yield bench


def value_of(outcome):
    assert isinstance(outcome, Receipt), outcome
    return loads(outcome.result.inline)


def result_of(bench, function_, /, *args, **options):
    [outcome] = bench.run(bench.envelope(function_, *args, **options))
    return value_of(outcome)


def ask():
    here = scalable_hpc.context()
    (here.scratch / "left").write_text("behind")
    return here.task_id, here.attempt, here.time_left, here.should_stop, str(here.scratch)


def test_that_a_task_knows_which_attempt_it_is(bench):
    """By the name that its future has; nothing is known of an end that nobody has told."""
    task_id, attempt, time_left, should_stop, scratch = result_of(bench, ask, attempt=AttemptId("model-00007", 3))

    assert (task_id, attempt, time_left, should_stop) == ("model-00007", 3, None, False)
    assert list(Path(scratch).iterdir()) == []


def write_and_list(name):
    directory = scalable_hpc.context().checkpoint_dir
    (directory / name).write_text("state")
    return str(directory), directory.stat().st_mode & 0o777, sorted(path.name for path in directory.iterdir())


def test_that_checkpoints_are_kept_from_one_attempt_to_the_next(bench):
    """Of the same task, below the run's directory, for nobody else's eyes."""
    result_of(bench, write_and_list, "one", attempt=AttemptId("model-00001", 1))
    again = result_of(bench, write_and_list, "two", attempt=AttemptId("model-00001", 2))
    other = result_of(bench, write_and_list, "one", attempt=AttemptId("../model-00002", 1))

    assert again == (str(bench.base / "checkpoints" / "model-00001"), 0o700, ["one", "two"])
    assert other[2] == ["one"]
    assert Path(other[0]).parent == bench.base / "checkpoints"


def wait_to_be_stopped(ready):
    here = scalable_hpc.context()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(scalable_hpc.context().attempt))
    thread.start()
    thread.join()
    Path(ready).touch()
    until = time.monotonic() + 20
    while not here.should_stop and time.monotonic() < until:
        time.sleep(0.01)
    return here.should_stop, here.time_left, seen


def test_that_a_running_task_is_told_of_the_drain(bench, tmp_path):
    """While it runs, with the time that is left; its threads are of the same attempt."""
    bench.courier.deadline_is(time.time() + 1000)
    envelope = bench.envelope(wait_to_be_stopped, str(tmp_path / "ready"))
    carried = bench.send(envelope)
    bench.until((tmp_path / "ready").exists)
    bench.courier.drain("SIGTERM")
    carried.result(30)
    [receipt] = [message.receipt for message in bench.said if hasattr(message, "receipt")]
    stopped, left, seen = value_of(receipt)

    assert stopped
    assert 900 < left < 1000
    assert seen == [1]


def test_that_a_task_whose_time_is_up_is_told_so_without_a_drain(bench, tmp_path):
    """The deadline alone says it."""
    bench.courier.deadline_is(time.time() - 1)

    stopped, left, _ = result_of(bench, wait_to_be_stopped, str(tmp_path / "ready"))

    assert (stopped, left) == (True, 0.0)


def save_and_raise():
    raise Checkpointed


def test_that_a_checkpoint_is_reported_as_what_it_is(bench):
    """The driver judges by the type."""
    [outcome] = bench.run(bench.envelope(save_and_raise))

    assert isinstance(outcome, Evidence)
    assert outcome.ending is Ending.EXCEPTION
    assert outcome.exception.type_name == "scalable_hpc.errors.Checkpointed"


OUTSIDE = """
import scalable_hpc
here = scalable_hpc.context()
(here.checkpoint_dir / "a").touch()
print(here.task_id, here.attempt, here.time_left, here.should_stop, here.checkpoint_dir == here.scratch)
print(here.scratch)
print(scalable_hpc.context().checkpoint_dir)
"""


def test_that_outside_a_task_there_is_a_context_too():
    """A first attempt with all the time in the world, whose directories go with the process."""
    ran = subprocess.run([sys.executable, "-c", OUTSIDE], capture_output=True, text=True, check=True)
    words, *paths = ran.stdout.splitlines()

    assert words == "None 1 None False False"
    assert len(paths) == 2
    assert not any(Path(path).exists() for path in paths)


def save_and_stop(text):
    if text is not None:
        (scalable_hpc.context().checkpoint_dir / "state").write_text(text)
    raise Checkpointed


def test_that_a_checkpoint_is_marked_by_what_was_saved(bench):
    """Nothing: an empty mark. The same as before: the same. Anything else: another."""

    def mark(text, attempt):
        [outcome] = bench.run(bench.envelope(save_and_stop, text, attempt=attempt))
        return outcome.exception.checkpoint

    first, second = AttemptId("model-00001", 1), AttemptId("model-00001", 2)
    marks = [mark(None, first), mark("one", first), mark(None, second), mark("two!", second)]

    assert marks[0] == ""
    assert marks[1] == marks[2]
    assert len(set(marks)) == 3
