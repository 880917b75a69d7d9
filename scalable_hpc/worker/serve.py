"""The courier's process: ``python -m scalable_hpc.worker.serve``, started by the launcher.

Puts the parts together, keeps the Dask worker open until somebody ends it, and sees to an orderly end: what runs
finishes or is killed and reported, then the link closes, then the nursery takes the slots down.

Rule 1: imports of Dask are inside functions: a slot that spawns Python processes imports this module again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from scalable_hpc.errors import ScalableError
from scalable_hpc.model.messages import TOPIC, WorkerHello
from scalable_hpc.version import __version__
from scalable_hpc.worker.contact import SchedulerContact, read_contact
from scalable_hpc.worker.control import Command, DeadlineIs, Retire, decode
from scalable_hpc.worker.endings import CourierExit
from scalable_hpc.worker.limits import guard_memory
from scalable_hpc.worker.options import DIRECTORY_VARIABLE, WorkerOptions, parse_options
from scalable_hpc.worker.recorder import SYNC_EVERY_S, Recorder
from scalable_hpc.worker.reporter import Reporter
from scalable_hpc.worker.shares import Seat, share_out, visible_gpus
from scalable_hpc.worker.slots import SlotPool
from scalable_hpc.worker.unheeded import Unheeded

if TYPE_CHECKING:
    from scalable_hpc.worker.dask_worker import CourierWorker

SEARCH_PATH_VARIABLE = "SCALABLE_HPC_PYTHONPATH"
JOB_VARIABLES = ("SCALABLE_HPC_JOB_ID", "SLURM_JOB_ID", "PBS_JOBID")
NODE_VARIABLES = ("SCALABLE_HPC_NODE", "SLURMD_NODENAME")
_LOOK_EVERY_S = 0.5
_LAST_LINE_WITHIN_S = 0.3
"""For the recorder's last line when the launcher is dead: the file system may be what it died of."""

logger = logging.getLogger(__name__)


class CourierProcess:
    """The parts of one courier, and what becomes of them."""

    def __init__(self, options: WorkerOptions, environ: Mapping[str, str], directory: Path) -> None:
        from scalable_hpc.worker.courier import Courier

        node = first_of(environ, NODE_VARIABLES) or socket.gethostname()
        name = worker_name(options.allocation, environ)
        path = options.run_dir / "recorders" / f"{options.allocation}-{node}-{os.getpid()}.rec"
        self._options = options
        self._name = name
        self._directory = directory
        self._retire: str | None = None
        self._collapse: str | None = None
        self._reporter = Reporter(_hello(options, environ, name, node, path))
        self._recorder = Recorder(path, allocation=options.allocation, node=node, pid=os.getpid(), at=time.time())
        self._pool = SlotPool(
            _seats(options, environ),
            name=name,
            scratch=directory / "slots",
            checkpoints=options.run_dir / "checkpoints",
            search_path=_search_path(environ),
            on_collapse=self._note_collapse,
        )
        self._courier = Courier(options, self._pool, self._recorder, self._reporter)
        self._guard = guard_memory(self._courier.running, self._pool, self._recorder, node_memory=options.memory)

    async def serve(self, contact: SchedulerContact, commands: BinaryIO) -> int:
        """Work until retired, closed, or cut off; return the process's exit status."""
        from scalable_hpc.worker.dask_worker import make_worker

        self._pool.start()
        threading.Thread(target=self._obey, args=(commands,), name="scalable-hpc-control", daemon=True).start()
        worker = make_worker(self._options, contact, self._courier, self._name, self._directory / "dask")
        try:
            await worker
        except asyncio.TimeoutError as err:
            logger.error("No answer from the scheduler at %s: %s", contact.address, err)
            return CourierExit.UNREACHABLE
        self._reporter.attach(worker.address, lambda letter: _publish(worker, letter))
        if (because := self._courier.takes_nothing_new()) is not None:
            self._reporter.draining(because)
        self._guard.start()
        return await self._until_the_end(worker)

    def close(self) -> None:
        """Close the books, then take the slots down: what still ran was running when this worker ended."""
        self._recorder.close(at=time.time())
        self._pool.close()

    async def _until_the_end(self, worker: CourierWorker) -> int:
        closed = asyncio.ensure_future(worker.finished())
        while not closed.done() and self._collapse is None:
            if self._retire is not None and await asyncio.to_thread(self._courier.wait_until_idle, _LOOK_EVERY_S):
                await worker.close(reason=self._retire)
                break
            await asyncio.wait({closed}, timeout=_LOOK_EVERY_S if self._retire else SYNC_EVERY_S)
            await asyncio.to_thread(self._recorder.sync)
        if self._collapse is not None:
            logger.error("%s", self._collapse)
            await asyncio.to_thread(self._courier.wait_until_idle, _LOOK_EVERY_S)
            return 1
        if worker.is_lost:
            await self._let_orphans_finish()
            return CourierExit.LOST
        return CourierExit.RETIRED

    async def _let_orphans_finish(self) -> None:
        """Without a driver, what runs may still finish and publish: the next driver finds it in the store."""
        until = time.time() + self._options.orphan_grace_s
        if self._reporter.deadline is not None:
            until = min(until, self._reporter.deadline)
        while (left := until - time.time()) > 0:
            if await asyncio.to_thread(self._courier.wait_until_idle, min(left, SYNC_EVERY_S)):
                return
            await asyncio.to_thread(self._recorder.sync)

    def _obey(self, commands: BinaryIO) -> None:
        for line in commands:
            self._do(decode(line))
        # The launcher is dead and the batch job over: nobody else will tidy up the node.
        try:
            telling = threading.Thread(target=self._recorder.orphan, kwargs={"at": time.time()}, daemon=True)
            telling.start()
            telling.join(_LAST_LINE_WITHIN_S)
            self._recorder.abandon()
            self._pool.close()
            shutil.rmtree(self._directory, ignore_errors=True)
        finally:
            os._exit(1)

    def _do(self, command: Command) -> None:
        match command:
            case DeadlineIs(at):
                self._reporter.deadline_is(at)
                self._courier.deadline_is(at)
            case Retire(because):
                self._courier.drain(because)
                self._retire = because

    def _note_collapse(self, because: str) -> None:
        self._collapse = because


def first_of(environ: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of these variables that is set and not empty."""
    return next((environ[name] for name in names if environ.get(name)), None)


def worker_name(allocation: str, environ: Mapping[str, str]) -> str:
    """Return the Dask name of a worker: its allocation's, numbered where ``srun`` or a script put one on each node."""
    if number := environ.get("SCALABLE_HPC_NODE_NUMBER"):
        return f"{allocation}-{number}"
    is_one_of_many = environ.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environ
    return f"{allocation}-{environ['SLURM_PROCID']}" if is_one_of_many else allocation


def _publish(worker: CourierWorker, letter: dict[str, object]) -> None:
    with suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
        worker.log_event(TOPIC, letter)


def _hello(options: WorkerOptions, environ: Mapping[str, str], name: str, node: str, recorder: Path) -> WorkerHello:
    return WorkerHello(
        address="",
        name=name,
        allocation=options.allocation,
        job_id=first_of(environ, JOB_VARIABLES) or "",
        node=node,
        pid=os.getpid(),
        worker_type=options.worker_type,
        slots=options.slots,
        cpus=options.cpus,
        memory=options.memory,
        gpus=options.gpus,
        deadline=None,
        started_at=time.time(),
        recorder=str(recorder),
        version=__version__,
    )


def _seats(options: WorkerOptions, environ: Mapping[str, str]) -> tuple[Seat, ...]:
    return share_out(
        slots=options.slots,
        cpus=options.cpus,
        available=sorted(os.sched_getaffinity(0)),
        is_confined=first_of(environ, ("SLURM_JOB_ID", "PBS_JOBID")) is not None,
        gpus=visible_gpus(options.gpus, environ),
    )


def _search_path(environ: Mapping[str, str]) -> list[str]:
    return [str(Path.cwd()), *filter(None, environ.get(SEARCH_PATH_VARIABLE, "").split(os.pathsep))]


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    ours = logging.getLogger("scalable_hpc")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)


def main(argv: Sequence[str]) -> int:
    """Run a courier; returns its exit status, never leaving a slot behind."""
    Unheeded().begin_blocked()  # the launcher hears the same signals, and tells us what follows
    options = parse_options(argv, prog="python -m scalable_hpc.worker.serve")
    _set_up_logging()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        contact = read_contact(options.run_dir)
        process = CourierProcess(options, os.environ, Path(os.environ[DIRECTORY_VARIABLE]))
        try:
            return loop.run_until_complete(process.serve(contact, sys.stdin.buffer))
        finally:
            process.close()
    except (ScalableError, FileNotFoundError) as err:
        logger.error("%s", err)
        return CourierExit.UNREACHABLE
    except Exception:
        logger.exception("The courier failed")
        return 1


if __name__ == "__main__":
    status = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # Dask's threads may still wait for a file system that does not answer
