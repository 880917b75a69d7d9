"""Laws of carrying bundles, with real slots and without Dask."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

from scalable_hpc.cache.serial import loads
from scalable_hpc.cache.store import Store
from scalable_hpc.model.messages import WorkerDraining
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Receipt
from scalable_hpc.worker.context import context
from scalable_hpc.worker.recorder import read_recorder
from tests.processes import parent_of
from tests.waiting import wait_until
from tests.worker_bench import ADDRESS, CourierBench
from tests.worker_envelopes import accounted

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def bench(tmp_path):
    with CourierBench(tmp_path) as bench:
        yield bench


def double(number):
    return 2 * number


def wait_for(path):
    """Run until a file is there."""
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()


def values_of(outcomes):
    assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
    return [loads(outcome.result.inline) for outcome in outcomes]


def test_that_a_receipt_speaks_of_a_durable_result(bench):
    """Another process finds in the store exactly what the receipt says, times and places included."""
    before = time.time()

    envelopes = [bench.envelope(double, number) for number in range(20)]
    outcomes = bench.run(*envelopes)

    assert values_of(outcomes) == [2 * number for number in range(20)]
    with Store(bench.base / "store") as store:
        assert [store.lookup(one.key).digest for one in envelopes] == [one.result.digest for one in outcomes]
    assert {(one.node, one.worker, one.allocation, one.reused) for one in outcomes} == {("n1", ADDRESS, "a0001", False)}
    assert all(before <= one.started_at <= one.ended_at <= time.time() for one in outcomes)
    assert all(one.peak_memory > 1 << 20 for one in outcomes)


def test_that_what_is_in_the_store_is_not_executed(bench, tmp_path):
    """A known key gives a receipt that says so, and the function never runs."""
    log = tmp_path / "executed"
    [first] = bench.run(bench.envelope(append_line, str(log)))

    [again] = bench.run(bench.envelope(append_line, str(log), key=first.result.key, attempt=AttemptId("other", 2)))

    assert again.reused
    assert again.result.digest == first.result.digest
    assert log.read_text() == "ran\n"


def test_that_a_receipt_tells_the_first_run_of_a_function_in_its_slot(tmp_path):
    """What it imports is part of that run's time, and of no later one's; a new slot is cold again."""
    with CourierBench(tmp_path, slots=1) as bench:
        first = bench.run(*(bench.envelope(double, number) for number in range(3)))
        later = bench.run(bench.envelope(double, 3), bench.envelope(leave_mark, str(tmp_path), 0))
        bench.run(bench.envelope(die, "SIGKILL"))
        after_death = bench.run(bench.envelope(double, 4))

    assert [one.cold for one in [*first, *later, *after_death]] == [True, False, False, False, True, True]


def test_that_bundles_in_a_hurry_do_not_get_into_each_others_way(bench, tmp_path):
    """Many at once on two slots: each attempt is executed once, told once, and gets its own result."""
    envelopes = [bench.envelope(leave_mark, str(tmp_path), number) for number in range(150)]

    carried = [bench.send(one) for one in envelopes[:100]] + [bench.send(*envelopes[100:])]
    for one in carried:
        one.result(60)

    ended = accounted(bench.said)
    assert values_of([ended[one.attempt] for one in envelopes]) == list(range(150))
    assert len(bench.said) == 1 + 150
    assert {path.name: path.read_text() for path in tmp_path.glob("mark-*")} == {
        f"mark-{number}": "x" for number in range(150)
    }


def leave_mark(directory, number):
    with Path(directory, f"mark-{number}").open("a") as stream:
        stream.write("x")
    return number


def append_line(path):
    with Path(path).open("a") as stream:
        stream.write("ran\n")


def test_that_a_refreshed_call_is_computed_and_takes_the_place_of_the_old(bench, tmp_path):
    """Its key is known, and it runs all the same; from then on the new result counts."""
    numbers = iter(range(2))
    first, second = (bench.envelope(double, next(numbers), key="ab" * 32, refresh=True) for _ in range(2))

    outcomes = [*bench.run(first), *bench.run(second)]

    assert values_of(outcomes) == [0, 2]
    with Store(bench.base / "store") as store:
        assert store.fetch("ab" * 32) == 2


KILLERS = [
    ("segfault", None, signal.SIGSEGV),
    ("exit 3", 3, None),
    ("SIGKILL", None, signal.SIGKILL),
]


def die(how):
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit 3":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("how", "exit_code", "number"), KILLERS)
def test_that_a_killer_kills_its_own_slot_and_nothing_else(bench, tmp_path, how, exit_code, number):
    """The evidence is exact; the neighbour goes on in the same process; the next attempt has a slot at once."""
    release = tmp_path / "release"
    neighbour = bench.envelope(wait_for, str(release))
    carried = bench.send(neighbour)
    bench.until_running(neighbour)

    [evidence] = bench.run(bench.envelope(die, how))
    begun = time.monotonic()
    [after] = bench.run(bench.envelope(double, 4))
    elapsed = time.monotonic() - begun
    release.touch()
    carried.result(30)

    assert (evidence.ending, evidence.exit_code, evidence.signal) == (Ending.SLOT_DIED, exit_code, number)
    assert not evidence.expected
    assert evidence.ran_s >= 0
    assert evidence.peak_memory > 1 << 20
    assert values_of([after]) == [8]
    assert elapsed < 0.3
    assert isinstance(accounted(bench.said)[neighbour.attempt], Receipt)


def test_that_a_killer_in_a_bundle_costs_the_others_nothing(bench):
    """Those before it are done, those after it never started, and each is told once."""
    envelopes = [
        bench.envelope(double, 1),
        bench.envelope(double, 2),
        bench.envelope(die, "SIGKILL"),
        bench.envelope(double, 3),
        bench.envelope(double, 4),
    ]

    outcomes = bench.run(*envelopes)

    assert values_of(outcomes[:2]) == [2, 4]
    assert [one.ending for one in outcomes[2:]] == [Ending.SLOT_DIED, Ending.NEVER_STARTED, Ending.NEVER_STARTED]
    assert not any(one.expected for one in outcomes[2:])
    assert len(bench.said) == 1 + len(envelopes)


def sleep_with_children(path):
    children = [subprocess.Popen(["sleep", "600"], start_new_session=own) for own in (False, True)]
    Path(path).write_text(" ".join(str(child.pid) for child in children))
    ctypes.CDLL(None).sleep(600)


def test_that_a_timeout_kills_code_that_python_cannot_interrupt(bench, tmp_path):
    """A sleeping C call and its subprocesses are gone soon after the limit, wherever they have moved to."""
    [evidence, behind] = bench.run(
        bench.envelope(sleep_with_children, str(tmp_path / "pids"), timeout_s=0.5), bench.envelope(double, 1)
    )

    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_until("its children are gone", lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), timeout=5)
    assert evidence.ending is Ending.TIMEOUT
    assert 0.5 <= evidence.ran_s < 1.5
    assert behind.ending is Ending.NEVER_STARTED


def test_that_a_timeout_is_counted_for_each_attempt_alone(bench):
    """Five attempts of a fifth of a second do not run into half a second."""
    envelopes = [bench.envelope(time.sleep, 0.2, timeout_s=0.5) for _ in range(5)]

    outcomes = bench.run(*envelopes)

    assert all(isinstance(one, Receipt) for one in outcomes)


def test_that_cancelling_answers_for_every_attempt_once(bench, tmp_path):
    """Running, waiting for a slot, waiting in a bundle, not arrived: each is told CANCELLED, and none runs after."""
    running = [bench.envelope(wait_for, str(tmp_path / "never")) for _ in range(2)]
    in_bundle = bench.envelope(append_line, str(tmp_path / "ran"))
    waiting = bench.envelope(append_line, str(tmp_path / "ran"))
    late = bench.envelope(append_line, str(tmp_path / "ran"))
    carried = [bench.send(running[0], in_bundle), bench.send(running[1])]
    bench.until_running(*running)
    carried.append(bench.send(waiting))
    bench.until(lambda: bench.pool.waiting() == 1)

    bench.courier.cancel([one.attempt for one in [*running, in_bundle, waiting, late]])
    for one in [*carried, bench.send(late)]:
        one.result(30)

    ended = accounted(bench.said)
    assert {one.attempt: ended[one.attempt].ending for one in [*running, in_bundle, waiting, late]} == {
        one.attempt: Ending.CANCELLED for one in [*running, in_bundle, waiting, late]
    }
    assert len(bench.said) == 1 + 5
    assert not (tmp_path / "ran").exists()


def test_that_cancelling_one_of_a_bundle_leaves_the_others_innocent(bench, tmp_path):
    """Those behind it never started; nothing is blamed on them."""
    first = bench.envelope(wait_for, str(tmp_path / "never"))
    second = bench.envelope(double, 1)
    carried = bench.send(first, second)
    bench.until_running(first)

    bench.courier.cancel([first.attempt])
    carried.result(30)

    ended = accounted(bench.said)
    assert ended[first.attempt].ending is Ending.CANCELLED
    assert ended[second.attempt].ending is Ending.NEVER_STARTED


def test_that_a_drained_worker_lets_finish_and_takes_nothing(bench, tmp_path):
    """The running attempt gives its receipt; what waits behind it, or comes later, goes back as expected."""
    running = bench.envelope(wait_for, str(tmp_path / "release"))
    behind = bench.envelope(double, 1)
    other = bench.envelope(wait_for, str(tmp_path / "release"))
    waiting = bench.envelope(double, 2)
    carried = [bench.send(running, behind), bench.send(other)]
    bench.until_running(running, other)
    carried.append(bench.send(waiting))
    bench.until(lambda: bench.pool.waiting() == 1)

    bench.courier.drain("a test wants it")
    [late] = bench.run(bench.envelope(double, 3))
    is_idle = bench.courier.wait_until_idle(0)
    (tmp_path / "release").touch()
    for one in carried:
        one.result(30)

    ended = accounted(bench.said)
    assert isinstance(ended[running.attempt], Receipt)
    assert isinstance(ended[other.attempt], Receipt)
    for attempt in (behind.attempt, waiting.attempt):
        assert (ended[attempt].ending, ended[attempt].expected) == (Ending.NEVER_STARTED, True)
    assert (late.ending, late.expected) == (Ending.REFUSED, True)
    assert not is_idle
    assert bench.courier.wait_until_idle(0)
    assert [one.because for one in bench.heard(WorkerDraining)] == ["a test wants it"]


def test_that_stopping_is_quick_and_blames_nobody(bench, tmp_path):
    """What runs is killed and reported as our own doing."""
    running = bench.envelope(wait_for, str(tmp_path / "never"))
    carried = bench.send(running)
    bench.until_running(running)

    has_stopped = bench.courier.stop("the session ended", timeout_s=5)
    carried.result(30)

    evidence = accounted(bench.said)[running.attempt]
    assert has_stopped
    assert (evidence.ending, evidence.expected) == (Ending.SLOT_DIED, True)


def test_that_a_store_that_cannot_be_written_is_not_the_tasks_fault(bench, tmp_path):
    """Refused with the reason; the slot is free for others."""
    (tmp_path / "file").touch()

    [refused] = bench.run(bench.envelope(double, 1, store=str(tmp_path / "file" / "store")))
    [fine] = bench.run(bench.envelope(double, 1))

    assert refused.ending is Ending.REFUSED
    assert refused.exception.type_name.endswith("StoreError")
    assert isinstance(fine, Receipt)


def test_that_the_recorder_tells_the_same_story(bench, tmp_path):
    """What runs, what has ended and how, while it happens."""
    running = bench.envelope(wait_for, str(tmp_path / "release"))
    carried = bench.send(running)
    bench.until_running(running)
    done, raised, killed = (
        bench.envelope(double, 1),
        bench.envelope(double, None),
        bench.envelope(die, "SIGKILL"),
    )
    bench.run(done, raised, killed)

    view = read_recorder(bench.recorder.path)
    (tmp_path / "release").touch()
    carried.result(30)

    assert list(view.running) == [running.attempt]
    assert view.ended == {done.attempt: "done", raised.attempt: "exception", killed.attempt: "slot_died"}
    assert not read_recorder(bench.recorder.path).running


def hold(megabytes):
    block = bytearray(os.urandom(1 << 20) * megabytes)
    time.sleep(600)
    return len(block)


def test_that_an_attempt_over_its_memory_is_stopped(bench):
    """As a MemoryError, with what it held, long before the node is full."""
    [evidence] = bench.run(bench.envelope(hold, 200, memory=100 << 20))

    assert evidence.ending is Ending.EXCEPTION
    assert evidence.exception.type_name == "builtins.MemoryError"
    assert "of the 100 MiB it may have" in evidence.exception.message
    assert evidence.peak_memory > 100 << 20


def test_that_the_largest_goes_when_all_together_hold_too_much(tmp_path):
    """The neighbours of a worker that is nearly full are spared."""
    with CourierBench(tmp_path, memory=300 << 20) as bench:
        small = bench.envelope(wait_for, str(tmp_path / "release"))
        carried = bench.send(small)
        bench.until_running(small)

        [evidence] = bench.run(bench.envelope(hold, 400))
        (tmp_path / "release").touch()
        carried.result(30)

        assert evidence.exception.type_name == "builtins.MemoryError"
        assert isinstance(accounted(bench.said)[small.attempt], Receipt)


def threads_and_rivals(path):
    Path(f"{path}.begun").touch()
    return os.environ["OMP_NUM_THREADS"]


def test_that_a_wide_attempt_has_the_worker_to_itself(tmp_path, monkeypatch):
    """Four cpus of four: it waits until all slots are free, and is told how many threads it has."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with CourierBench(tmp_path, slots=2, cpus=4) as bench:
        narrow = bench.envelope(wait_for, str(tmp_path / "release"))
        wide = bench.envelope(threads_and_rivals, str(tmp_path / "wide"), cpus=4)
        carried = [bench.send(narrow)]
        bench.until_running(narrow)
        carried.append(bench.send(wide))
        bench.until(lambda: bench.pool.waiting() == 1)
        has_overlapped = (tmp_path / "wide.begun").exists()
        (tmp_path / "release").touch()
        for one in carried:
            one.result(30)

        ended = accounted(bench.said)
        assert not has_overlapped
        assert values_of([ended[wide.attempt]]) == ["4"]


def test_that_an_attempt_too_wide_for_the_worker_is_refused(bench):
    """It would wait for ever."""
    [evidence] = bench.run(bench.envelope(double, 1, cpus=3))

    assert isinstance(evidence, Evidence)
    assert evidence.ending is Ending.REFUSED
    assert "2 cpus" in evidence.log_tail


def test_that_evidence_says_how_much_time_was_left(bench):
    """As of the deadline that is known when it is reported."""
    bench.reporter.deadline_is(time.time() + 100)

    [evidence] = bench.run(bench.envelope(double, None))

    assert 90 < evidence.time_left_s <= 100


def run_program(signals, path):
    """Start a program that a signal to the whole job would end, and let that happen when a file is there."""
    wait_for(path)
    with subprocess.Popen(["sleep", "600"]) as program:
        for number in signals:
            os.kill(os.getpid(), number)
        program.terminate()
    raise RuntimeError(f"the program ended with {program.returncode}")


@pytest.mark.parametrize(
    ("signals", "is_retiring", "expected"),
    [
        ([signal.SIGTERM], True, True),
        ([signal.SIGTERM], False, False),
        ([signal.SIGUSR1], True, False),
        ([], True, False),
    ],
    ids=["the job is being ended", "user code signals itself", "only a warning", "no signal"],
)
def test_that_the_end_of_a_job_is_not_blamed_on_its_attempts(bench, tmp_path, signals, is_retiring, expected):
    """A program ended by the batch system makes the user's code raise; it is ours to know why."""
    envelope = bench.envelope(run_program, signals, str(tmp_path / "release"))

    carried = bench.send(envelope)
    bench.until_running(envelope)
    if is_retiring:
        bench.courier.drain("SIGTERM")
    (tmp_path / "release").touch()
    carried.result(30)

    evidence = accounted(bench.said)[envelope.attempt]
    assert evidence.exception.type_name == "builtins.RuntimeError"
    assert evidence.expected == expected


def kill_parent():
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


@pytest.mark.parametrize("beside", [0, 7])
def test_that_a_task_that_kills_its_parent_costs_its_slot_only(tmp_path, beside):
    """It is told as a slot's death, with who died first; whatever runs beside it ends as if nothing had been."""
    with CourierBench(tmp_path, slots=beside + 1) as bench:
        others = [bench.envelope(wait_for, str(tmp_path / f"release-{number}")) for number in range(beside)]
        carried = [bench.send(one) for one in others]
        for number in range(beside):
            wait_until("it has begun", (tmp_path / f"release-{number}.begun").exists, timeout=30)
        pids = {one.attempt: one.lease.slot.pid for one in bench.courier.running()}
        [death] = bench.run(bench.envelope(kill_parent))
        for number in range(beside):
            (tmp_path / f"release-{number}").touch()
        for one in carried:
            one.result(30)
        outcomes = [accounted(bench.said)[one.attempt] for one in others]

    assert (death.ending, death.signal, death.together) == (Ending.SLOT_DIED, signal.SIGKILL, None)
    assert death.ran_s is not None
    assert "its parent process was killed first (SIGKILL)" in death.log_tail
    assert values_of(outcomes) == [pids[str(one.attempt)] for one in others]
    assert not bench.collapsed


def test_that_a_task_that_kills_its_grandparent_costs_no_worker(bench, tmp_path):
    """What ran is told with how many ran, another nursery takes over, and the next attempt runs as if nothing was."""
    envelope = bench.envelope(wait_for, str(tmp_path / "never"))
    carried = bench.send(envelope)
    bench.until_running(envelope)
    wait_until("it has begun", (tmp_path / "never.begun").exists, timeout=10)
    [running] = bench.courier.running()

    os.kill(parent_of(running.lease.slot.minder), signal.SIGKILL)
    carried.result(30)

    evidence = accounted(bench.said)[envelope.attempt]
    assert (evidence.ending, evidence.together) == (Ending.WORKER_LOST, 1)
    assert "all slots, died (SIGKILL)" in evidence.worker_end
    after = bench.envelope(double, 2)
    bench.send(after).result(30)
    assert isinstance(accounted(bench.said)[after.attempt], Receipt)
    assert not bench.collapsed


def lose_the_other_node(bench, ending):
    """Return what is reported of an attempt that ends in some way while a node that it has is lost."""
    path = bench.base / "go"
    envelope = bench.envelope(end_after, str(path), ending)
    carrying = bench.send(envelope)
    wait_until("the attempt to run", Path(f"{path}.begun").exists, timeout=30)
    bench.gone = ("n2",)
    path.touch()
    carrying.result(60)
    return envelope, accounted(bench.said)[envelope.attempt]


def end_after(path, ending):
    """End well or badly when a file is there."""
    wait_for(path)
    if ending == "raises":
        raise subprocess.CalledProcessError(1, "srun")
    if ending == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    return ending


@pytest.mark.parametrize("ending", ["raises", "dies", "seems to end well"])
def test_that_an_attempt_that_lost_a_node_ends_with_it_however_it_ends(bench, ending):
    """Nothing is held against the task, nothing half done is kept, and this worker, which has not its nodes, leaves."""
    envelope, evidence = lose_the_other_node(bench, ending)

    assert isinstance(evidence, Evidence)
    assert (evidence.ending, evidence.node, evidence.allocation_reason) == (Ending.WORKER_LOST, "n2", "node_fail")
    assert evidence.exception is None
    with Store(bench.base / "store") as store:
        assert store.lookup(envelope.key) is None
    assert bench.left == ["n2, of the nodes that its tasks have, is lost"]
    assert [one.alone for one in bench.heard(WorkerDraining)] == [True]


def hosts_of_the_task():
    return context().hosts


def test_that_an_attempt_knows_the_nodes_that_its_worker_has_for_it(bench):
    """And no others, in whatever slot and after whatever death it runs."""
    assert values_of(bench.run(bench.envelope(hosts_of_the_task))) == [("n1", "n2")]
