"""A whole worker, launcher to slot, under a plain Dask scheduler: what becomes of it when things are killed or lost."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

from scalable_hpc.cache.serial import loads
from scalable_hpc.cache.store import Store
from scalable_hpc.model.messages import AttemptDone, WorkerDraining, WorkerHello
from scalable_hpc.model.tasks import Ending, Receipt
from scalable_hpc.worker import kin
from scalable_hpc.worker.recorder import read_recorder
from tests.worker_rig import WorkerRig, is_alive

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def base(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def local(base, monkeypatch):
    """A node's own disk."""
    directory = base / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def double(number):
    return 2 * number


def wait_for(path):
    """Say which process runs, then run until a file is there."""
    aside = Path(f"{path}.aside")
    aside.write_text(str(os.getpid()))
    aside.rename(f"{path}.pid")
    while not Path(path).exists():
        time.sleep(0.02)
    return os.getpid()


async def pid_of(rig, path):
    """Wait until ``wait_for(path)`` runs and return its slot's pid."""
    said = Path(f"{path}.pid")
    await rig.until(said.exists)
    return int(said.read_text())  # noqa: ASYNC240  a few bytes


async def ended(rig, launcher):
    """Wait for a launcher's end and return its exit status."""
    await rig.until(lambda: launcher.poll() is not None)
    return launcher.returncode


def story(coroutine_function, *args, **options):
    """Run one test's story in a rig of its own."""

    async def run():
        async with WorkerRig(*args, **options) as rig:
            return await coroutine_function(rig)

    return asyncio.run(run())


def test_that_a_hundred_tasks_give_a_hundred_durable_results(base):
    """Receipts for all, each result in the store; a second sending executes none of them."""

    async def tell(rig):
        worker = await rig.worker(slots=2)
        envelopes = [rig.envelope(double, number) for number in range(100)]
        for envelope in envelopes[:50]:
            rig.send(worker, envelope)
        rig.send(worker, *envelopes[50:])
        outcomes = await rig.outcomes(*envelopes)
        with Store(base / "store") as store:
            stored = [store.lookup(envelope.key) for envelope in envelopes]
        again = await rig.run(worker, *(rig.envelope(double, 0, key=envelope.key) for envelope in envelopes))
        return worker, outcomes, stored, again

    worker, outcomes, stored, again = story(tell, base)

    assert [loads(one.result.inline) for one in outcomes] == [2 * number for number in range(100)]
    assert [one.digest for one in stored] == [one.result.digest for one in outcomes]
    assert {one.worker for one in outcomes} == {worker.address}
    assert {one.reused for one in again} == {True}
    assert [one.result.digest for one in again] == [one.result.digest for one in outcomes]


def test_that_the_link_is_encrypted_where_the_run_says_so(base):
    """With the run's own certificates; a hello and a receipt come through."""

    async def tell(rig):
        worker = await rig.worker()
        return worker, await rig.run(worker, rig.envelope(double, 1))

    worker, [receipt] = story(tell, base, tls=True)

    assert worker.address.startswith("tls://")
    assert isinstance(receipt, Receipt)


def die(how):
    if how == "segfault":
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    if how == "exit 3":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


KILLERS = {"segfault": (None, signal.SIGSEGV), "abort": (None, signal.SIGABRT), "exit 3": (3, None), "kill": (None, 9)}


def test_that_killers_are_told_exactly_and_at_once(base):
    """Below a real launcher, whose blocked signals nobody may inherit: evidence and a new slot in half a second."""

    async def tell(rig):
        worker = await rig.worker(slots=2)
        neighbour = rig.envelope(wait_for, str(base / "release"))
        rig.send(worker, neighbour)
        await pid_of(rig, base / "release")
        told, took_s = {}, {}
        for how in KILLERS:
            begun = time.monotonic()
            [evidence] = await rig.run(worker, rig.envelope(die, how))
            [after] = await rig.run(worker, rig.envelope(double, 1))
            told[how] = (evidence.exit_code, evidence.signal)
            took_s[how] = time.monotonic() - begun
            assert (evidence.ending, isinstance(after, Receipt)) == (Ending.SLOT_DIED, True)
        (base / "release").touch()
        [untouched] = await rig.outcomes(neighbour)
        return told, took_s, untouched

    told, took_s, untouched = story(tell, base)

    assert told == KILLERS
    assert max(took_s.values()) < 0.5
    assert isinstance(untouched, Receipt)


def blocked_signals():
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_that_user_code_finds_no_signal_blocked(base):
    """The launcher blocks what it waits for; programs that inherited that could not be ended."""

    async def tell(rig):
        worker = await rig.worker(slots=1)
        return await rig.run(worker, rig.envelope(blocked_signals))

    [receipt] = story(tell, base)

    assert loads(receipt.result.inline) == []


def hold_the_lock(seconds):
    """Hold the interpreter lock as a careless C extension does."""
    ctypes.PyDLL(None).sleep(seconds)


def test_that_a_task_that_holds_the_interpreter_does_not_silence_the_heartbeat(base):
    """The scheduler hears from the worker all the time."""

    async def tell(rig):
        worker = await rig.worker(slots=1)
        envelope = rig.envelope(hold_the_lock, 3)
        rig.send(worker, envelope)
        gaps = []
        while envelope.attempt not in rig.ended():
            gaps.append(time.time() - rig.scheduler.workers[worker.address].last_seen)
            await asyncio.sleep(0.1)
        return rig.ended()[envelope.attempt], gaps

    receipt, gaps = story(tell, base)

    assert receipt.ended_at - receipt.started_at >= 3
    assert len(gaps) > 10
    assert max(gaps) < 2


def test_that_the_driver_can_cancel_and_drain(base):
    """Through Dask's own remote call, as the link does it."""

    async def tell(rig):
        worker = await rig.worker(slots=1)
        envelope = rig.envelope(wait_for, str(base / "never"))
        rig.send(worker, envelope)
        slot = await pid_of(rig, base / "never")
        await rig.cancel(worker, envelope)
        [cancelled] = await rig.outcomes(envelope)
        await rig.drain(worker, "the fleet is too large")
        [refused] = await rig.run(worker, rig.envelope(double, 1))
        return cancelled, is_alive(slot), refused, rig.heard(WorkerDraining)

    cancelled, slot_lives, refused, drains = story(tell, base)

    assert cancelled.ending is Ending.CANCELLED
    assert not slot_lives
    assert (refused.ending, refused.expected) == (Ending.REFUSED, True)
    assert [one.because for one in drains] == ["the fleet is too large"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_that_a_signal_drains_and_ends_well(base, number):
    """The batch system's warning or order: the running attempt finishes, the next is refused, exit status 0."""

    async def tell(rig):
        worker = await rig.worker(slots=1)
        [launcher] = rig.launchers
        running = rig.envelope(wait_for, str(base / "release"))
        rig.send(worker, running)
        slot = await pid_of(rig, base / "release")
        os.killpg(launcher.pid, number)
        os.kill(slot, number)
        await rig.until(lambda: rig.heard(WorkerDraining))
        [refused] = await rig.run(worker, rig.envelope(double, 1))
        (base / "release").touch()
        [finished] = await rig.outcomes(running)
        return refused, finished, await ended(rig, launcher), rig.heard(WorkerDraining), worker

    refused, finished, status, drains, worker = story(tell, base)

    assert (refused.ending, refused.expected) == (Ending.REFUSED, True)
    assert isinstance(finished, Receipt)
    assert status == 0
    assert len(drains) == 1
    assert read_recorder(Path(worker.recorder)).was_closed


def test_that_an_early_warning_is_only_taken_note_of(base):
    """Slurm's comes up to a minute early, and limits are extended: with the end far away the worker goes on."""
    far = str(time.time() + 3600)

    async def tell(rig):
        worker = await rig.worker(env={"SCALABLE_HPC_JOB_END_TIME": far})
        os.kill(rig.launchers[0].pid, signal.SIGUSR1)
        await rig.until(lambda: "warning signal, but the deadline is" in rig.log())
        return worker, await rig.run(worker, rig.envelope(double, 1)), rig.heard(WorkerDraining)

    worker, [receipt], drains = story(tell, base)

    assert worker.deadline == pytest.approx(float(far), abs=0.01)
    assert isinstance(receipt, Receipt)
    assert drains == []


def test_that_a_worker_leaves_before_its_deadline_without_any_signal(base):
    """PBS sends no warning that could be relied on."""

    async def tell(rig):
        worker = await rig.worker(env={"SCALABLE_HPC_JOB_END_TIME": str(time.time() + 8)})
        status = await ended(rig, rig.launchers[0])
        return worker.deadline - time.time(), status, rig.heard(WorkerDraining)

    left, status, [draining] = story(tell, base)

    assert status == 0
    assert 0 < left < 4
    assert "before the deadline" in draining.because


def processes_of(courier):
    """Return the courier and all its descendants."""
    return kin.descendants([courier], kin.process_table())


def test_that_a_killed_courier_is_replaced(base):
    """Its slots die at once with their children, and another says hello under the same name."""

    async def tell(rig):
        first = await rig.worker(slots=2)
        rig.send(first, rig.envelope(wait_for, str(base / "never")))
        await pid_of(rig, base / "never")
        family = processes_of(first.pid)
        begun = time.monotonic()
        os.kill(first.pid, signal.SIGKILL)
        await rig.until(lambda: not any(map(is_alive, family)))
        gone_after = time.monotonic() - begun
        await rig.until(lambda: len(rig.heard(WorkerHello)) == 2)
        second = rig.heard(WorkerHello)[-1]
        return first, family, gone_after, second, await rig.run(second, rig.envelope(double, 3))

    first, family, gone_after, second, [receipt] = story(tell, base)

    assert len(family) >= 6  # courier, nursery, two minders, two slots
    assert gone_after < 2
    assert second.name == first.name
    assert second.pid != first.pid
    assert isinstance(receipt, Receipt)
    assert len(read_recorder(Path(first.recorder)).running) == 1


def test_that_nothing_outlives_a_killed_launcher(base, local):
    """The batch job is over: courier and slots must not go on in its node, nor leave anything there."""

    async def tell(rig):
        worker = await rig.worker(slots=2)
        rig.send(worker, rig.envelope(wait_for, str(base / "never")))
        await pid_of(rig, base / "never")
        family = processes_of(worker.pid)
        rig.launchers[0].kill()
        await rig.until(lambda: not any(map(is_alive, family)), bound_s=10)
        return len(family), read_recorder(Path(worker.recorder))

    size, view = story(tell, base)

    assert size >= 6
    assert (len(view.running), len(view.ended)) == (1, 0)
    assert list(local.glob("scalable-hpc-*")) == []


def test_that_the_recorder_names_what_ran_when_a_node_died(base):
    """Everything killed in one moment: read from elsewhere, the file tells which attempts were running."""

    async def tell(rig):
        worker = await rig.worker(slots=2)
        done = rig.envelope(double, 1)
        running = [rig.envelope(wait_for, str(base / f"never-{number}")) for number in range(2)]
        waiting = rig.envelope(double, 2)
        await rig.run(worker, done)
        for envelope in [*running, waiting]:
            rig.send(worker, envelope)
        for number in range(2):
            await pid_of(rig, base / f"never-{number}")
        family = [rig.launchers[0].pid, *processes_of(worker.pid)]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)  # a power cut leaves nobody the time to note another's death
        kin.kill_all(family)
        return read_recorder(Path(worker.recorder)), done, running

    view, done, running = story(tell, base)

    assert set(view.running) == {one.attempt for one in running}
    assert view.ended == {done.attempt: "done"}
    assert not view.was_closed


def test_that_an_orphan_joins_the_next_driver_with_what_it_has_in_hand(base):
    """One attempt ends before that driver comes and one after: both are reported to it, neither is executed again."""

    async def tell(rig):
        worker = await rig.worker(slots=2)
        early, late = (rig.envelope(wait_for, str(base / name)) for name in ("early", "late"))
        rig.send(worker, early)
        rig.send(worker, late)
        slots = [await pid_of(rig, base / "early"), await pid_of(rig, base / "late")]
        await rig.lose_driver()
        await rig.until(lambda: "The link to the driver broke" in rig.log())
        (base / "early").touch()
        with Store(base / "store") as store:
            await rig.until(lambda: store.lookup(early.key))
        await rig.open_driver()
        await rig.until(lambda: len(rig.heard(WorkerHello)) == 2)
        (base / "late").touch()
        receipts = await rig.outcomes(early, late)
        return worker, rig.heard(WorkerHello)[-1], {early.attempt, late.attempt}, receipts, slots

    worker, second, attempts, receipts, slots = story(tell, base)

    assert (second.pid, second.name, second.former) == (worker.pid, worker.name, (worker.address,))
    assert {attempt for held in second.holding for attempt in held.attempts} == attempts
    assert [loads(one.result.inline) for one in receipts] == slots


def test_that_a_broken_link_to_a_living_driver_is_mended_at_once(base):
    """While one attempt runs on, the other slot is of use again, and nothing that was said near the break is lost."""

    async def tell(rig):
        worker = await rig.worker(slots=2)
        [before] = await rig.run(worker, rig.envelope(double, 1))
        long = rig.envelope(wait_for, str(base / "release"))
        rig.send(worker, long)
        slot = await pid_of(rig, base / "release")
        rig.scheduler.stream_comms[worker.address].abort()
        await rig.until(lambda: len(rig.heard(WorkerHello)) == 2)
        second = rig.heard(WorkerHello)[-1]
        [beside] = await rig.run(second, rig.envelope(double, 2))
        (base / "release").touch()
        [outcome] = await rig.outcomes(long)
        again = [one for one in rig.heard(AttemptDone) if one.repeated]
        return worker, second, before, beside, outcome, slot, again

    worker, second, before, beside, outcome, slot, again = story(tell, base)

    assert second.former == (worker.address,)
    assert beside.worker == second.address
    assert loads(outcome.result.inline) == slot
    assert [one.receipt.attempt for one in again] == [before.attempt]


def test_that_of_a_worker_that_was_cut_off_and_its_replacement_the_first_result_counts(base):
    """Both run the same task to its end: whoever publishes first is right, and the other one's receipt says so too."""

    async def tell(rig):
        cut_off, other = await rig.worker(slots=1), await rig.worker(slots=1)
        first = rig.envelope(wait_for, str(base / "first"))
        second = rig.envelope(wait_for, str(base / "second"), key=first.key)
        rig.send(cut_off, first)
        slot = await pid_of(rig, base / "first")
        rig.scheduler.stream_comms[cut_off.address].abort()
        rig.send(other, second)
        other_slot = await pid_of(rig, base / "second")
        (base / "first").touch()
        [late] = await rig.outcomes(first)
        (base / "second").touch()
        return slot, other_slot, [late, *await rig.outcomes(second)], first.key

    slot, other_slot, receipts, key = story(tell, base)

    assert slot != other_slot
    with Store(base / "store") as store:
        place = store.lookup(key)
        assert store.load(place) == slot
    assert [one.result.digest for one in receipts] == [place.digest] * 2
    assert [loads(one.result.inline) for one in receipts if one.result.inline is not None] in ([slot], [slot] * 2)


def test_that_what_a_hung_worker_does_when_it_is_back_changes_nothing(base):
    """It was given up and its task run elsewhere: it ends in good order, and the result that was taken stays."""

    async def tell(rig):
        hung, other = await rig.worker(slots=1), await rig.worker(slots=1)
        first = rig.envelope(wait_for, str(base / "first"))
        second = rig.envelope(wait_for, str(base / "second"), key=first.key)
        rig.send(hung, first)
        slot = await pid_of(rig, base / "first")
        family = processes_of(hung.pid)
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        await rig.scheduler.remove_worker(address=hung.address, stimulus_id="check-worker-ttl-test")
        (base / "second").touch()
        [receipt] = await rig.run(other, second)
        (base / "first").touch()
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        status = await ended(rig, rig.launchers[0])
        return slot, receipt, rig.ended().get(first.attempt), status, [pid for pid in family if is_alive(pid)]

    slot, receipt, late, status, left = story(tell, base)

    assert loads(receipt.result.inline) != slot
    with Store(base / "store") as store:
        assert store.lookup(receipt.result.key).digest == receipt.result.digest
    assert not isinstance(late, Receipt) or late.result.digest == receipt.result.digest
    assert (status, left) == (0, [])


def test_that_an_orphan_does_not_wait_for_ever(base):
    """After its grace the running attempt is killed and the job ends."""

    async def tell(rig):
        worker = await rig.worker(slots=1, orphan_grace=1)
        rig.send(worker, rig.envelope(wait_for, str(base / "never")))
        slot = await pid_of(rig, base / "never")
        await rig.lose_driver()
        status = await ended(rig, rig.launchers[0])
        await rig.open_driver()
        return status, is_alive(slot), rig.log()

    status, slot_lives, log = story(tell, base)

    assert status != 0
    assert not slot_lives
    assert "no driver came back in time" in log


def test_that_a_worker_ends_well_when_its_session_does(base):
    """A closing scheduler tells workers to close: what runs is killed, the job ends with status 0, quickly."""

    async def tell(rig):
        worker = await rig.worker(slots=1)
        rig.send(worker, rig.envelope(wait_for, str(base / "never")))
        slot = await pid_of(rig, base / "never")
        begun = time.monotonic()
        await rig.close_driver()
        status = await ended(rig, rig.launchers[0])
        took_s = time.monotonic() - begun
        await rig.open_driver()
        return status, is_alive(slot), took_s

    status, slot_lives, took_s = story(tell, base)

    assert status == 0
    assert not slot_lives
    assert took_s < 10


def test_that_nothing_is_left_on_the_node(base, local):
    """The worker's directory in TMPDIR is gone with it."""

    async def tell(rig):
        worker = await rig.worker()
        await rig.run(worker, rig.envelope(double, 1))
        while_up = sorted(path.name for path in local.glob("scalable-hpc-*"))
        rig.launchers[0].terminate()
        await ended(rig, rig.launchers[0])
        return while_up

    while_up = story(tell, base)

    assert len(while_up) == 1
    assert list(local.glob("scalable-hpc-*")) == []


def test_that_a_scheduler_file_of_others_is_refused(base):
    """Exit status of a run directory error, and a sentence that says what to do."""

    async def tell(rig):
        (rig.run_dir / "scheduler.json").chmod(0o644)
        status = await ended(rig, rig.launch())
        return status, rig.log()

    status, log = story(tell, base)

    assert status == 24
    assert "not trusted" in log
    assert "hint: chmod" in log
