"""A run's driver side in miniature, for tests of workers: a plain Dask scheduler, a client, and real launchers.

What a worker says is collected as messages; waiting is on conditions, with one generous bound for a slow machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import distributed

from scalable_hpc.cluster.security import TlsFiles, create_tls_files
from scalable_hpc.model.messages import TOPIC, Bundle, Envelope, WorkerDraining, WorkerHello
from scalable_hpc.model.tasks import AttemptId, Evidence, Receipt
from scalable_hpc.worker.verbs import cancel_attempts, drain, run_bundle
from tests.worker_envelopes import Envelopes, accounted

BOUND_S = 60.0
SETTINGS = {
    "distributed.scheduler.allowed-failures": 10**9,
    "distributed.scheduler.http.routes": [],
    "distributed.comm.timeouts.tcp": "12s",
}


class WorkerRig:
    """One run directory, its scheduler, and the launchers that were started in it."""

    def __init__(self, base: Path, *, tls: bool = False) -> None:
        self._has_tls = tls
        self._tls: TlsFiles | None = None
        self.run_dir = base / "run"
        self.envelope = Envelopes(base / "store")
        self.said: list[Any] = []
        self.launchers: list[subprocess.Popen[bytes]] = []
        self._news = asyncio.Condition()
        self._carriers: list[distributed.Future] = []
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> WorkerRig:  # noqa: PYI034  typing.Self needs Python 3.11
        for directory in (self.run_dir, self.run_dir / "recorders", self.run_dir / "logs"):
            directory.mkdir(mode=0o700)
        self._settings = dask.config.set(SETTINGS)
        self._settings.__enter__()
        if self._has_tls:
            self._tls = create_tls_files(self.run_dir, "test")
        await self.open_driver()
        return self

    async def __aexit__(self, *_: object) -> None:
        for launcher in self.launchers:
            if launcher.poll() is None:
                launcher.kill()
            launcher.wait()
        await self.close_driver()
        self._settings.__exit__(None, None, None)

    async def open_driver(self) -> None:
        """Start scheduler and client, and announce them."""
        security = self._tls.security() if self._tls else None
        self.scheduler = await distributed.Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", security=security
        )
        self.client = await distributed.Client(
            self.scheduler.address, asynchronous=True, set_as_default=False, security=security
        )
        self.client.subscribe_topic(TOPIC, self._hear)
        self.announce(self.scheduler.address)

    async def close_driver(self) -> None:
        """Close both as a session's end does: workers are told to close."""
        await self.client.close()
        await self.scheduler.close()

    async def lose_driver(self) -> None:
        """End both as SIGKILL does: every connection breaks, nobody is told anything."""
        for comm in list(self.scheduler.stream_comms.values()):
            comm.abort()
        await self.close_driver()

    def announce(self, address: str) -> None:
        """Write ``scheduler.json``."""
        path = self.run_dir / "scheduler.json"
        driver = {"host": "localhost", "pid": os.getpid()}
        tls = self._tls.as_dict() if self._tls else None
        content = {"version": 1, "run_id": "test", "address": address, "tls": tls, "driver": driver}
        aside = path.with_suffix(".new")
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(content))
        aside.rename(path)

    async def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        async with self._news:
            message = pickle.loads(event[1]["body"])
            self.said.extend(message if isinstance(message, tuple) else [message])
            self._news.notify_all()

    def launch(
        self, *, slots: int = 2, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.Popen[bytes]:
        """Start a launcher in a process group of its own, as a batch system does."""
        name = options.pop("allocation", f"a{next(self._numbers):04d}")
        argv = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        log = (self.run_dir / "logs" / f"{name}.out").open("ab")
        launcher = subprocess.Popen(
            [
                *(sys.executable, "-m", "scalable_hpc.worker"),
                *(f"--run-dir={self.run_dir}", f"--allocation={name}", "--worker-type=small"),
                *(f"--slots={slots}", f"--cpus={slots}", *argv),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        log.close()
        self.launchers.append(launcher)
        return launcher

    async def worker(self, **options: Any) -> WorkerHello:
        """Start a launcher and wait for its worker's hello."""
        known = len(self.heard(WorkerHello))
        launcher = self.launch(**options)
        await self.until(lambda: len(self.heard(WorkerHello)) > known or launcher.poll() is not None)
        assert launcher.poll() is None, self.log()
        return self.heard(WorkerHello)[-1]

    def log(self) -> str:
        """Return what all launchers have written."""
        return "\n".join(path.read_text() for path in sorted((self.run_dir / "logs").iterdir()))

    def heard(self, kind: type) -> list[Any]:
        """Return the messages of one kind."""
        return [message for message in self.said if isinstance(message, kind)]

    async def until(self, holds: Callable[[], object], bound_s: float = BOUND_S) -> None:
        """Wait until something holds; looks at every message and ten times a second."""
        ends = time.monotonic() + bound_s
        while not holds():
            assert time.monotonic() < ends, f"not within {bound_s} s:\n{self.log()}\n{self.said[-3:]}"
            async with self._news:
                try:
                    await asyncio.wait_for(self._news.wait(), 0.1)
                except asyncio.TimeoutError:
                    continue

    def send(self, to: WorkerHello, *envelopes: Envelope) -> distributed.Future:
        """Send one bundle."""
        bundle = Bundle(f"bundle-{next(self._numbers)}", envelopes)
        carrier = self.client.submit(
            run_bundle,
            bundle,
            key=bundle.key,
            workers=[to.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._carriers.append(carrier)  # Dask forgets a task whose future nobody holds
        return carrier

    async def outcomes(self, *envelopes: Envelope) -> list[Receipt | Evidence]:
        """Wait until each envelope has been accounted for, and return how, in their order."""
        await self.until(lambda: {one.attempt for one in envelopes} <= self.ended().keys())
        return [self.ended()[one.attempt] for one in envelopes]

    def ended(self) -> dict[AttemptId, Receipt | Evidence]:
        """Return everything accounted for so far."""
        return accounted(self.said)

    async def run(self, to: WorkerHello, *envelopes: Envelope) -> list[Receipt | Evidence]:
        """Send one bundle and return how its envelopes ended."""
        carrier = self.send(to, *envelopes)
        outcomes = await self.outcomes(*envelopes)
        await carrier
        return outcomes

    async def cancel(self, at: WorkerHello, *envelopes: Envelope) -> None:
        """Cancel attempts."""
        await self.client.run(cancel_attempts, tuple(one.attempt for one in envelopes), workers=[at.address])

    async def drain(self, at: WorkerHello, because: str) -> None:
        """Drain a worker."""
        await self.client.run(drain, because, workers=[at.address])

    def drains(self) -> list[WorkerDraining]:
        """Return the requests to be given nothing new."""
        return self.heard(WorkerDraining)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def kill(pid: int) -> None:
    """Kill a process without a chance to tidy up."""
    os.kill(pid, signal.SIGKILL)
