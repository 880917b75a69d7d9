"""Runs the commands of a batch system: in time, a few at once, in a plain locale, never leaving one behind.

Rule 1: thin. What a command printed means is for the ``*_text`` modules.
Rule 2: a command that gives no answer is silence (``BatchSilent``), never a fact about a job.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from scalable_hpc.errors import BatchSilent

AT_ONCE = 4
"""Commands under way together: enough to hide one that hangs, few enough for a controller that serves thousands."""

_LAST_WORDS_S = 2.0
"""How long a killed command may take to close its pipes: its own children die with its process group."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command answered; a return code other than 0 is an answer too."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    duration_s: float


class CommandRunner:
    """Runs commands on the asyncio loop it is used from, at most ``at_once`` together."""

    def __init__(self, *, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    async def run(
        self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
    ) -> CommandResult:
        """Run a command to its end; ``timeout_s`` counts from its start, not from the wait for its turn.

        Args:
            argv: the command and its arguments; never a shell line.
            timeout_s: after this many seconds the command's whole process group is killed.
            env: the environment; None: ours with ``LC_ALL=C``, so that messages are in the words we know.

        Raises:
            BatchSilent: it could not be started, or was killed for taking too long.
        """
        async with self._turn():
            began = time.monotonic()
            process = await self._start(argv, {**os.environ, "LC_ALL": "C"} if env is None else env)
            answered = False
            try:
                stdout, stderr = await asyncio.wait_for(process.communicate(), timeout_s)
                answered = True
            except asyncio.TimeoutError as err:
                raise BatchSilent(
                    f"no answer within {timeout_s:g} s from: '{shlex.join(argv)}'",
                    hint=f"run it by hand: {shlex.join(argv)}",
                ) from err
            finally:
                if not answered:
                    await self._bury(process)
            return CommandResult(
                tuple(argv),
                process.returncode if process.returncode is not None else -1,
                stdout.decode(errors="replace"),
                stderr.decode(errors="replace"),
                time.monotonic() - began,
            )

    async def _start(self, argv: Sequence[str], env: Mapping[str, str]) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=dict(env),
            )
        except (OSError, ValueError) as err:
            raise BatchSilent(f"could not start '{shlex.join(argv)}': {err}") from err

    async def _bury(self, process: asyncio.subprocess.Process) -> None:
        """Leave no process of the command's group behind, when it took too long or our caller was cancelled.

        The command itself may be gone already and a child of its be what holds the pipes: the group is killed anyway.
        """
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(
                process.communicate(), _LAST_WORDS_S
            )  # to the end of its pipes: they are closed then

    def _turn(self) -> asyncio.Semaphore:
        """Return the semaphore of the running loop; a semaphore serves one loop only."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = (loop, asyncio.Semaphore(self._at_once))
        return self._gate[1]
