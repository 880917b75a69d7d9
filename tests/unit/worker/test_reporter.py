"""Laws of what a worker says to its driver."""

from __future__ import annotations

import pickle

import pytest

from scalable_hpc.model.messages import AttemptDone, AttemptEnded, WorkerDraining, WorkerHello
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Locator, Receipt
from scalable_hpc.worker.reporter import Reporter

HELLO = WorkerHello(
    address="",
    name="a0001",
    allocation="a0001",
    job_id="17",
    node="node7",
    pid=99,
    worker_type="small",
    slots=2,
    cpus=2,
    memory=None,
    gpus=0,
    deadline=None,
    started_at=100.0,
    recorder="/r",
    version="0",
)
RECEIPT = Receipt(AttemptId("task-1", 1), Locator("/s", "ab", "cd", 3), 1.0, 2.0, 4096, "", "", "", cold=True)
EVIDENCE = Evidence(AttemptId("task-2", 1), Ending.SLOT_DIED, at=3.0, signal=11)


@pytest.fixture
def letters():
    return []


@pytest.fixture
def reporter(letters):
    made = Reporter(HELLO)
    made.attach("tcp://10.0.0.1:5", letters.append)
    return made


def messages(letters):
    opened = [pickle.loads(letter["body"]) for letter in letters]
    return [one for content in opened for one in (content if isinstance(content, tuple) else (content,))]


def test_that_it_says_hello_first(reporter, letters):
    """With the address that it has only now."""
    [hello] = messages(letters)

    assert (hello.address, hello.name, hello.node) == ("tcp://10.0.0.1:5", "a0001", "node7")


def test_that_nothing_is_said_before_there_is_somebody_to_hear_it(letters):
    """A deadline that was told before is in the hello."""
    reporter = Reporter(HELLO)
    reporter.deadline_is(500.0)
    reporter.draining("too early")
    reporter.attach("tcp://10.0.0.1:5", letters.append)

    [hello] = messages(letters)
    assert hello.deadline == 500.0


def test_that_outcomes_are_signed(reporter, letters):
    """Each with node, worker and allocation; a receipt is otherwise passed on as it is."""
    reporter.report([RECEIPT, EVIDENCE])

    _, done, ended = messages(letters)
    assert isinstance(done, AttemptDone)
    assert isinstance(ended, AttemptEnded)
    for signed in (done.receipt, ended.evidence):
        assert (signed.node, signed.worker, signed.allocation) == ("node7", "tcp://10.0.0.1:5", "a0001")
    assert (done.receipt.result, done.receipt.cold, done.receipt.peak_memory) == (RECEIPT.result, True, 4096)
    assert ended.evidence.time_left_s is None


def test_that_what_is_reported_together_is_one_letter(reporter, letters):
    """In order; a lone message goes as it is."""
    reporter.report([RECEIPT] * 3)
    reporter.report([EVIDENCE])
    reporter.report([])

    assert [letter["kind"] for letter in letters] == ["WorkerHello", "Several", "AttemptEnded"]
    assert len(messages(letters)) == 1 + 3 + 1


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [(None, 500.0, True), (500.0, 900.0, True), (500.0, None, True), (500.0, 501.0, False), (None, None, False)],
)
def test_that_a_deadline_that_moved_is_told(letters, before, after, is_told):
    """By another hello; what is only rounding is not."""
    reporter = Reporter(HELLO)
    reporter.deadline_is(before)
    reporter.attach("tcp://10.0.0.1:5", letters.append)

    reporter.deadline_is(after)
    reporter.draining("now")

    *hellos, draining = messages(letters)
    assert isinstance(draining, WorkerDraining)
    assert [hello.deadline for hello in hellos] == ([before, after] if is_told else [before])
    assert draining.deadline == after
