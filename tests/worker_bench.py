"""A courier with real slots and without Dask: what it posts is collected here."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scalable_hpc.model.messages import Bundle, Envelope, WorkerHello
from scalable_hpc.model.tasks import Evidence, Receipt
from scalable_hpc.worker.courier import Courier
from scalable_hpc.worker.launching import Party, environment_for_tasks
from scalable_hpc.worker.limits import guard_memory
from scalable_hpc.worker.options import WorkerOptions
from scalable_hpc.worker.recorder import Recorder
from scalable_hpc.worker.reporter import Reporter
from scalable_hpc.worker.roll_call import RollCall
from scalable_hpc.worker.shares import share_out
from scalable_hpc.worker.slots import SlotPool
from tests.worker_envelopes import Envelopes, accounted

BOUND_S = 30.0
ADDRESS = "tcp://10.0.0.9:4711"


class CourierBench:
    """One courier of a few slots; used as a context manager."""

    def __init__(self, base: Path, *, slots: int = 2, cpus: int | None = None, memory: int | None = None) -> None:
        self.base = base
        self.envelope = Envelopes(base / "store")
        self.modules = base / "modules"
        self.modules.mkdir()
        self.said: list[Any] = []
        self.collapsed: list[str] = []
        options = WorkerOptions(base, "a0001", "small", slots, cpus or slots, memory=memory)
        self.recorder = Recorder(base / "a.rec", allocation="a0001", node="n1", pid=os.getpid(), at=time.time())
        hello = WorkerHello(
            address="",
            name="a0001",
            allocation="a0001",
            job_id="17",
            node="n1",
            pid=os.getpid(),
            worker_type="small",
            slots=slots,
            cpus=options.cpus,
            memory=memory,
            gpus=0,
            deadline=None,
            started_at=time.time(),
            recorder=str(self.recorder.path),
            version="test",
        )
        self.reporter = Reporter(hello)
        seats = share_out(slots=slots, cpus=options.cpus, available=[], is_confined=False)
        self.pool = SlotPool(
            seats,
            name="a0001",
            scratch=base / "slots",
            checkpoints=base / "checkpoints",
            search_path=[str(self.modules)],
            on_collapse=self.collapsed.append,
            environment=environment_for_tasks(os.environ, Party(("n1", "n2"), options.cpus, slots)),
        )
        self.gone: tuple[str, ...] = ()
        """Nodes of the tasks that the batch system has given up."""
        self.left: list[str] = []
        hosts = ("n1", "n2")
        calls = RollCall(hosts, lambda: [one for one in hosts if one not in self.gone], lambda asked: asked)
        self.courier = Courier(options, self.pool, self.recorder, self.reporter, calls, self.left.append)
        self._guard = guard_memory(self.courier.running, self.pool, self.recorder, node_memory=memory)
        self._threads = ThreadPoolExecutor(2 * slots)
        self._news = threading.Condition()

    def __enter__(self) -> CourierBench:  # noqa: PYI034  typing.Self needs Python 3.11
        self.pool.start()
        self._guard.start()
        self.reporter.attach(ADDRESS, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()
        self._guard.close()
        self._threads.shutdown()
        self.recorder.close(at=time.time())

    def _hear(self, letter: dict[str, Any]) -> None:
        with self._news:
            message = pickle.loads(letter["body"])
            self.said.extend(message if isinstance(message, tuple) else [message])
            self._news.notify_all()

    def send(self, *envelopes: Envelope) -> Future[None]:
        """Have a bundle carried in a thread, as Dask would."""
        return self._threads.submit(self.courier.carry, Bundle("k", envelopes))

    def run(self, *envelopes: Envelope) -> list[Receipt | Evidence]:
        """Have a bundle carried and return how its envelopes ended."""
        self.send(*envelopes).result(BOUND_S)
        ended = accounted(self.said)
        return [ended[one.attempt] for one in envelopes]

    def heard(self, kind: type) -> list[Any]:
        """Return the messages of one kind."""
        return [message for message in self.said if isinstance(message, kind)]

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; looks at every message and twenty times a second."""
        ends = time.monotonic() + BOUND_S
        with self._news:
            while not holds():
                assert time.monotonic() < ends, self.said[-3:]
                self._news.wait(0.05)

    def until_running(self, *envelopes: Envelope) -> None:
        """Wait until each has been handed to a slot."""
        wanted = {str(one.attempt) for one in envelopes}
        self.until(lambda: wanted <= {one.attempt for one in self.courier.running()})
