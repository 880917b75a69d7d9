"""Laws of the spool's files: whole or not there, one claim per job, and nobody mistaken for somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from scalable_hpc.batch import spool
from tests.waiting import wait_until


def test_that_only_one_of_many_gets_the_claim(tmp_path):
    """Shepherds and those who cancel race for it."""
    won = []
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait()
        if spool.claim(str(tmp_path), {"number": number}):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert spool.claimed_by(str(tmp_path)) == {"number": won[0]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["claim"]


def test_that_a_torn_file_counts_as_not_there(tmp_path):
    """Half a file, nothing, or something else than an object: no facts."""
    path = tmp_path / "state.json"
    for torn in (b"", b'{"state": "run', b"[1]", b"\xff\xfe"):
        path.write_bytes(torn)

        assert spool.read_json(str(path)) is None
    assert spool.read_json(str(tmp_path / "nowhere")) is None


def test_that_readers_never_see_half_a_file(tmp_path):
    """A state is replaced, not rewritten."""
    path = str(tmp_path / "state.json")
    spool.write_json(path, {"n": 0})
    seen = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(spool.read_json(path))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        spool.write_json(path, {"n": number, "filler": "x" * (number * 50)})
    done.set()
    reader.join()

    assert None not in seen


def test_that_threads_that_write_the_same_file_do_not_trip_each_other(tmp_path):
    """Several may find the same shepherd dead at once."""
    path = str(tmp_path / "state.json")
    failures = []

    def write() -> None:
        try:
            for number in range(100):
                spool.write_json(path, {"n": number})
        except OSError as err:
            failures.append(err)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert spool.read_json(path) == {"n": 99}


def test_that_a_process_is_alive_until_it_is_a_zombie():
    """One that nobody has waited for yet is dead all the same."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = spool.identity_of(process.pid)

    assert spool.life_of(identity) == spool.ALIVE
    process.kill()
    wait_until("it is dead", lambda: spool.life_of(identity) == spool.DEAD, timeout=5, every=0.01)
    process.communicate()


def test_that_a_reused_process_id_is_somebody_else():
    """Same pid, other start time or other boot: the one we knew is dead."""
    me = spool.identity_of(os.getpid())

    assert spool.life_of(me) == spool.ALIVE
    assert spool.life_of({**me, "start": 1}) == spool.DEAD
    assert spool.life_of({**me, "boot": "another"}) == spool.DEAD
    assert spool.life_of({}) in (spool.DEAD, spool.ELSEWHERE)


def test_that_a_process_on_another_host_lives_while_it_beats(tmp_path):
    """We cannot look at it; its heartbeat tells."""
    there = {**spool.identity_of(os.getpid()), "host": "login02"}
    spool.claim(str(tmp_path), there)

    assert spool.life_of(there, str(tmp_path)) == spool.ELSEWHERE
    os.utime(tmp_path / "claim" / "by.json", (1, 1))
    assert spool.life_of(there, str(tmp_path)) == spool.DEAD
    spool.beat(str(tmp_path))
    assert spool.life_of(there, str(tmp_path)) == spool.ELSEWHERE
