"""Laws of running a batch system's commands: real processes, killed for real."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from scalable_hpc.batch.commands import CommandRunner
from scalable_hpc.errors import BatchSilent
from tests.waiting import wait_until


def run(*argv, timeout_s=20.0, env=None):
    return asyncio.run(CommandRunner().run(argv, timeout_s=timeout_s, env=env))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_that_an_answer_has_both_streams_and_the_return_code():
    """A return code other than 0 is an answer, not silence."""
    result = run("bash", "-c", "echo out; echo err >&2; exit 8")

    assert (result.stdout, result.stderr, result.rc) == ("out\n", "err\n", 8)
    assert 0 < result.duration_s < 20


def test_that_messages_come_in_the_plain_locale(monkeypatch):
    """Parsers know the English words only."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")

    assert run("bash", "-c", "echo $LC_ALL").stdout == "C\n"


def test_that_bytes_that_are_no_text_do_not_raise():
    """Job names may hold anything."""
    assert run("printf", r"a\xff\n").stdout == "a\ufffd\n"


def test_that_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path):
    """Its whole process group goes, also a child that ignores SIGTERM."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 100 & echo $! > {pids}; echo $$ >> {pids}; wait"
    began = time.monotonic()

    with pytest.raises(BatchSilent, match=r"no answer within 0\.5 s"):
        run("bash", "-c", script, timeout_s=0.5)

    assert time.monotonic() - began < 5
    for pid in pids.read_text().split():
        wait_until(f"{pid} is gone", lambda pid=pid: is_gone(int(pid)), timeout=2, every=0.02)


def test_that_a_child_that_keeps_the_pipe_open_does_not_hold_us(tmp_path):
    """The command ended but nobody closed its output: silence in time, and the child is killed."""
    pid = tmp_path / "pid"

    with pytest.raises(BatchSilent):
        run("bash", "-c", f"sleep 100 & echo $! > {pid}; exit 0", timeout_s=0.5)

    wait_until("the child is gone", lambda: is_gone(int(pid.read_text())), timeout=2, every=0.02)


def test_that_a_command_that_is_not_there_is_silence():
    """The words say which command."""
    with pytest.raises(BatchSilent, match="no-such-command"):
        run("no-such-command-of-any-batch-system")


def test_that_giving_up_a_query_ends_its_command(tmp_path):
    """A cancelled caller leaves no process behind."""
    pid = tmp_path / "pid"

    async def give_up() -> None:
        task = asyncio.create_task(CommandRunner().run(["bash", "-c", f"echo $$ > {pid}; sleep 100"], timeout_s=60))
        await asyncio.to_thread(wait_until, "it runs", lambda: pid.exists() and pid.read_text(), timeout=10, every=0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())

    wait_until("the command is gone", lambda: is_gone(int(pid.read_text())), timeout=2, every=0.02)


def test_that_only_so_many_commands_run_at_once(tmp_path):
    """A slow controller is not stormed."""
    script = (
        f"import os, time; d = {str(tmp_path)!r}; p = os.path.join(d, str(os.getpid())); open(p, 'w').close(); "
        "print(len(os.listdir(d))); time.sleep(0.1); os.unlink(p)"
    )

    async def storm() -> list[int]:
        runner = CommandRunner(at_once=2)
        argv = [sys.executable, "-I", "-S", "-c", script]
        results = await asyncio.gather(*(runner.run(argv, timeout_s=30) for _ in range(6)))
        return [int(result.stdout) for result in results]

    seen = asyncio.run(storm())

    assert max(seen) == 2


def test_that_a_runner_serves_one_loop_after_another():
    """Tests and drivers that restart their loop need no new backend."""
    runner = CommandRunner(at_once=1)

    async def two() -> int:
        results = await asyncio.gather(*(runner.run(["true"], timeout_s=10) for _ in range(2)))
        return sum(result.rc for result in results)

    assert [asyncio.run(two()), asyncio.run(two())] == [0, 0]


def test_that_the_environment_is_the_callers_when_given():
    """Nothing is added to it."""
    assert run("env", env={"ONLY": "this", "PATH": os.environ["PATH"]}).stdout.splitlines() == [
        "ONLY=this",
        f"PATH={os.environ['PATH']}",
    ]
