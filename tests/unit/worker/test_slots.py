"""Laws of a worker's seats and the processes in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from scalable_hpc.cache.serial import loads
from scalable_hpc.model.tasks import Ending
from scalable_hpc.worker import kin, wire
from scalable_hpc.worker.handles import Doom
from scalable_hpc.worker.shares import share_out
from scalable_hpc.worker.slots import SlotPool
from tests.processes import parent_of, state_of
from tests.waiting import wait_until
from tests.worker_envelopes import Envelopes


@pytest.fixture
def pool(tmp_path):
    made = pool_of(tmp_path, slots=2)
    made.start()
    yield made
    made.close()


def pool_of(tmp_path, *, slots, **options):
    seats = share_out(slots=slots, cpus=slots, available=[], is_confined=False)
    return SlotPool(seats, name="a0001", scratch=tmp_path, checkpoints=tmp_path / "checkpoints", **options)


def ask(lease, function, *args, store=Path("/nowhere")):
    """Have one function run in a leased slot whose pid is known, and return its reply."""
    wait_until("the slot is born", lambda: lease.slot.pid, timeout=10, every=0.01)
    lease.slot.pipe.send(lease.order([Envelopes(store)(function, *args)], os.environ))
    assert lease.slot.pipe.receive() == wire.Begun()
    reply = lease.slot.pipe.receive()
    assert lease.slot.pipe.receive() == wire.Finished(1)
    return reply


def test_that_a_killed_slot_is_back_within_a_fifth_of_a_second(pool):
    """From the kill to the answer of its successor in the same seat, where nobody else takes the processor."""
    elapsed = []
    for _ in range(5):
        lease = pool.lend(1)
        ask(lease, os.getpid)
        begun = time.monotonic()
        os.kill(lease.slot.pid, signal.SIGKILL)
        pool.exit_of(lease.slot)
        pool.give_back(lease)
        successor = pool.lend(1)
        assert isinstance(ask(successor, os.getpid), wire.Computed)
        elapsed.append(time.monotonic() - begun)
        assert successor.slot.seat == lease.slot.seat
        pool.give_back(successor)

    assert min(elapsed) < 0.2


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("ctypes.string_at(0)", None, signal.SIGSEGV),
        ("os._exit(3)", 3, None),
        ("os._exit(0)", 0, None),
        ("os.kill(os.getpid(), 9)", None, signal.SIGKILL),
        ("os.abort()", None, signal.SIGABRT),
    ],
)
def test_that_an_exit_is_told_exactly(pool, code, exit_code, number):
    """Exit code or signal, and the peak memory, from the kernel itself."""
    lease = pool.lend(1)
    order = lease.order([Envelopes(Path("/nowhere"))(exec, f"import ctypes, os; {code}", {})], os.environ)

    lease.slot.pipe.send(order)
    assert lease.slot.pipe.receive() == wire.Begun()
    with pytest.raises(EOFError):
        lease.slot.pipe.receive()
    end = pool.exit_of(lease.slot)
    pool.give_back(lease)

    assert (end.exit_code, end.signal) == (exit_code, number)
    assert end.peak_memory > 1 << 20


def test_that_a_slot_that_closes_its_pipe_is_not_waited_for_forever(pool):
    """User code that closes every descriptor is killed, and its seat is free again."""
    lease = pool.lend(1)
    order = lease.order(
        [Envelopes(Path("/nowhere"))(exec, "import os, time; os.closerange(3, 99); time.sleep(600)", {})], {}
    )
    lease.slot.pipe.send(order)
    assert lease.slot.pipe.receive() == wire.Begun()
    with pytest.raises(EOFError):
        lease.slot.pipe.receive()

    end = pool.exit_of(lease.slot)
    pool.give_back(lease)

    assert end.signal == signal.SIGKILL


def grow_a_tree(path):
    """Start a child in the group, one in a session of its own, one whose parent is dead, and fork another."""
    nap = [sys.executable, "-c", "import time; time.sleep(600)"]
    orphan = f"import subprocess; print(subprocess.Popen({nap!r}, start_new_session=True, stdout=2).pid)"
    forked = os.fork()
    if forked == 0:
        signal.pause()
    pids = [
        forked,
        subprocess.Popen(nap).pid,
        subprocess.Popen(nap, start_new_session=True).pid,
        int(subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, check=True).stdout),
    ]
    Path(path).write_text(" ".join(map(str, pids)))
    return pids


def is_alive(pid):
    return state_of(pid) not in ("", "Z")


@pytest.mark.parametrize("how", ["killed by us", "killed from outside", "its parent is killed", "the courier closes"])
def test_that_a_slot_takes_its_whole_family_along(tmp_path, how):
    """Children that left the process group, and those whose parents have died, too."""
    pool = pool_of(tmp_path, slots=1)
    pool.start()
    lease = pool.lend(1)
    ask(lease, grow_a_tree, str(tmp_path / "pids"))
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    were_alive = [is_alive(pid) for pid in pids]
    counted = kin.family(lease.slot.minder)

    if how == "killed by us":
        pool.kill(lease.slot, Doom("", Ending.CANCELLED, "test"))
    elif how == "killed from outside":
        os.kill(lease.slot.pid, signal.SIGSEGV)
    elif how == "its parent is killed":
        os.kill(parent_of(lease.slot.pid), signal.SIGKILL)
    else:
        pool.close()

    wait_until("the family is gone", lambda: not any(map(is_alive, pids)), timeout=10, every=0.01)
    pool.close()
    assert were_alive == [True] * 4
    assert set(pids) <= counted, "what they hold is not seen by the memory guard"


def test_that_no_slot_outlives_a_courier_that_was_killed(tmp_path):
    """Not even one that holds the interpreter lock in C code, nor its children."""
    script = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from scalable_hpc.worker import wire
        from tests.unit.worker.test_slots import Envelopes, ask, grow_a_tree, pool_of

        def hold_the_lock():
            import ctypes
            ctypes.PyDLL(None).sleep(600)

        scratch = Path(sys.argv[1])
        pool = pool_of(scratch, slots=2)
        pool.start()
        one, other = pool.lend(1), pool.lend(1)
        ask(one, grow_a_tree, str(scratch / "pids"))
        other.slot.pipe.send(other.order([Envelopes(scratch)(hold_the_lock)], {}))
        while not all(lease.slot.pid for lease in (one, other)):
            time.sleep(0.01)
        print(one.slot.pid, other.slot.pid, (scratch / "pids").read_text(), flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as courier:
        pids = [int(pid) for pid in courier.stdout.readline().split()]
        were_alive = [is_alive(pid) for pid in pids]
        courier.kill()

    wait_until("all slots and their children are gone", lambda: not any(map(is_alive, pids)), timeout=10, every=0.01)
    assert were_alive == [True] * 6


def kill_parent(whom, number):
    """Send a signal to the slot's parent, or to the group that it is in; return this slot's pid if that is survived."""
    parent = os.getppid()
    if whom == "parent":
        os.kill(parent, number)
    else:
        os.killpg(os.getpgid(parent), number)
    while number == signal.SIGKILL:
        signal.pause()
    return os.getpid()


@pytest.mark.parametrize("whom", ["parent", "group of the parent"])
def test_that_a_task_that_kills_its_parent_kills_its_own_slot_only(pool, whom):
    """Its end says so; the slot beside it goes on, and is none the wiser."""
    killer, other = pool.lend(1), pool.lend(1)
    [before] = {loads(ask(other, os.getpid).data)}
    nursery = parent_of(parent_of(other.slot.pid))

    killer.slot.pipe.send(killer.order([Envelopes(Path("/nowhere"))(kill_parent, whom, signal.SIGKILL)], {}))
    assert killer.slot.pipe.receive() == wire.Begun()
    with pytest.raises(EOFError):
        killer.slot.pipe.receive()
    end = pool.exit_of(killer.slot)
    pool.give_back(killer)

    assert (end.exit_code, end.signal, end.because, end.together) == (None, signal.SIGKILL, "", None)
    assert end.first_of_parent() == "its parent process was killed first (SIGKILL), and it went along"
    assert loads(ask(other, os.getpid).data) == before
    successor = pool.lend(1)
    assert successor.slot.seat == killer.slot.seat
    ask(successor, os.getpid)
    assert parent_of(parent_of(successor.slot.pid)) == nursery


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGSEGV])
def test_that_no_signal_but_sigkill_ends_the_parent_of_a_slot(pool, number):
    """Batch systems send them to every process of a job; what runs goes on."""
    lease = pool.lend(1)
    ask(lease, os.getpid)
    minder = lease.slot.minder

    assert loads(ask(lease, kill_parent, "parent", number).data) == lease.slot.pid
    assert parent_of(lease.slot.pid) == minder
    os.kill(lease.slot.pid, signal.SIGKILL)
    assert pool.exit_of(lease.slot).signal == signal.SIGKILL


def test_that_a_task_that_stops_its_parent_cannot_keep_its_seat(pool):
    """Its death is found, with its family, although the process that waits for it is frozen."""
    lease = pool.lend(1)
    ask(lease, kill_parent, "parent", signal.SIGSTOP)
    slot, minder = lease.slot.pid, lease.slot.minder
    wait_until("the parent is stopped", lambda: state_of(minder) == "T", timeout=10, every=0.01)

    os.kill(slot, signal.SIGABRT)
    end = pool.exit_of(lease.slot)
    pool.give_back(lease)

    assert end.signal == signal.SIGABRT
    wait_until("both are gone", lambda: not (state_of(slot) or state_of(minder)), timeout=10, every=0.01)


def test_that_slot_parent_and_nursery_are_in_groups_of_their_own(pool):
    """What user code sends to its group, or to its parent's, reaches nobody else."""
    leases = [pool.lend(1), pool.lend(1)]
    for lease in leases:
        ask(lease, os.getpid)
    line = [pid for lease in leases for pid in (lease.slot.pid, lease.slot.minder)]

    groups = [os.getpgid(pid) for pid in line]

    assert groups == line
    assert os.getpgid(parent_of(leases[0].slot.minder)) not in groups


def killed_nursery(pool):
    """Lend a slot, kill the nursery under it, give the slot back; return its pid and how it ended."""
    lease = pool.lend(1)
    slot_pid = wait_until("the slot is born", lambda: lease.slot.pid, timeout=10, every=0.01)
    os.kill(parent_of(parent_of(slot_pid)), signal.SIGKILL)
    with pytest.raises((EOFError, OSError)):
        lease.slot.pipe.receive()
    end = pool.exit_of(lease.slot)
    pool.give_back(lease)
    return slot_pid, end


def test_that_a_dead_nursery_is_replaced(tmp_path):
    """Slots die with it, and are told how many were at work; the next slot is another nursery's."""
    told = []
    pool = pool_of(tmp_path, slots=2, on_collapse=told.append)
    pool.start()
    slot_pid, end = killed_nursery(pool)

    wait_until("the slot is gone", lambda: not is_alive(slot_pid), timeout=10, every=0.01)
    lease = pool.lend(1)
    wait_until("the next slot is born", lambda: lease.slot.pid, timeout=10, every=0.01)
    pool.close()
    assert "all slots, died (SIGKILL)" in end.because
    assert end.together == 1
    assert told == []


def test_that_nurseries_that_keep_dying_end_the_worker(tmp_path):
    """The fifth in a minute is nothing that another one would help with."""
    told = []
    pool = pool_of(tmp_path, slots=1, on_collapse=told.append)
    pool.start()
    for _ in range(4):
        killed_nursery(pool)
    assert told == []
    killed_nursery(pool)

    wait_until("it is told", lambda: told, timeout=10, every=0.01)
    pool.close()
    assert "nursery" in told[0]


def test_that_a_wide_attempt_is_not_overtaken_for_ever(pool):
    """Who came first is served first, even if he needs more seats than are free now."""
    first = pool.lend(1)
    got = {}
    wide = threading.Thread(target=lambda: got.update(wide=pool.lend(2)))
    wide.start()
    wait_until("the wide one waits", lambda: pool.waiting() == 1, timeout=10, every=0.01)
    narrow = threading.Thread(target=lambda: got.update(narrow=pool.lend(1)))
    narrow.start()
    wait_until("the narrow one waits behind it", lambda: pool.waiting() == 2, timeout=10, every=0.01)

    pool.give_back(first)
    wide.join(10)
    has_overtaken = "narrow" in got
    pool.give_back(got["wide"])
    narrow.join(10)

    assert not has_overtaken
    assert [seat.index for seat in got["wide"].seats] == [0, 1]
    assert "narrow" in got


def test_that_who_gives_up_leaves_the_queue(pool):
    """And those behind him move up."""
    leases = [pool.lend(1), pool.lend(1)]
    gives_up, got = threading.Event(), {}
    patient = threading.Thread(target=lambda: got.update(patient=pool.lend(1)))
    impatient = threading.Thread(target=lambda: got.update(impatient=pool.lend(2, gives_up=gives_up.is_set)))
    impatient.start()
    wait_until("one waits", lambda: pool.waiting() == 1, timeout=10, every=0.01)
    patient.start()
    wait_until("two wait", lambda: pool.waiting() == 2, timeout=10, every=0.01)

    gives_up.set()
    pool.nudge()
    impatient.join(10)
    pool.give_back(leases[0])
    patient.join(10)

    assert got["impatient"] is None
    assert got["patient"].seats == leases[0].seats
