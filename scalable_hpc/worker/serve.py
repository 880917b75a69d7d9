"""The courier's process: ``python -m scalable_hpc.worker.serve``, started by the launcher.

Puts the parts together, keeps a Dask worker open until somebody ends it, and sees to an orderly end: what runs
finishes or is killed and reported, then the link closes, then the nursery takes the slots down.

When the link breaks the slots go on; another Dask worker, in front of the same courier, joins the run's driver as
soon as there is one, the same or the next, and tells it what is in hand.

Rule 1: imports of Dask are inside functions: a slot that spawns Python processes imports this module again.
"""

from __future__ import annotations

import asyncio
import itertools
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
from scalable_hpc.model.messages import TOPIC
from scalable_hpc.worker.contact import SchedulerContact, is_answered, read_contact
from scalable_hpc.worker.control import Command, DeadlineIs, Retire, decode
from scalable_hpc.worker.endings import CourierExit
from scalable_hpc.worker.holdings import make_directory
from scalable_hpc.worker.identity import first_of, hello_of, worker_name
from scalable_hpc.worker.launching import environment_for_tasks
from scalable_hpc.worker.limits import guard_memory
from scalable_hpc.worker.options import DIRECTORY_VARIABLE, NODE_VARIABLES, WorkerOptions, parse_options
from scalable_hpc.worker.orphans import ender_in
from scalable_hpc.worker.party import make_party
from scalable_hpc.worker.recorder import SYNC_EVERY_S, Recorder
from scalable_hpc.worker.reporter import Reporter
from scalable_hpc.worker.roll_call import roll_call_in
from scalable_hpc.worker.shares import Seat, share_out, visible_gpus
from scalable_hpc.worker.slots import SlotPool
from scalable_hpc.worker.unheeded import Unheeded

if TYPE_CHECKING:
    from scalable_hpc.worker.dask_worker import CourierWorker

SEARCH_PATH_VARIABLE = "SCALABLE_HPC_PYTHONPATH"
_LOOK_EVERY_S = 0.5
_LAST_LINE_WITHIN_S = 0.3
"""For the recorder's last line when the launcher is dead: the file system may be what it died of."""
CONNECT_WITHIN_S = 120.0
"""For the first driver, who was there when the job was submitted: a node may see its address much later."""
_MISSED_BEFORE_GONE = 3
"""Looks in a row that find no scheduler file before the run is taken for over: a parallel file system may hide one
that is just being replaced."""
_STOP_WITHIN_S = 5.0
"""Killing slots takes milliseconds; a store that does not answer must not keep a worker from leaving."""

logger = logging.getLogger("scalable_hpc.worker.serve")  # this module runs as __main__


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
        party = make_party(options, environ, node, directory)
        self._reporter = Reporter(hello_of(options, environ, name, node, path, party.hosts))
        self._recorder = Recorder(path, allocation=options.allocation, node=node, pid=os.getpid(), at=time.time())
        self._pool = SlotPool(
            _seats(options, environ),
            name=name,
            scratch=directory / "slots",
            checkpoints=options.run_dir / "checkpoints",
            held=make_directory(directory / "held"),
            search_path=_search_path(environ),
            on_collapse=self._note_collapse,
            environment=environment_for_tasks(environ, party),
        )
        roll_call = roll_call_in(environ, party.hosts)
        self._end_orphans = ender_in(environ, node)
        self._courier = Courier(
            options, self._pool, self._recorder, self._reporter, roll_call, self._note_end, self._end_orphans
        )
        self._guard = guard_memory(self._courier.running, self._pool, self._recorder, node_memory=options.memory)

    async def serve(self, commands: BinaryIO) -> int:
        """Work until retired, closed, or without a driver for too long; return the process's exit status.

        Raises:
            RunDirectoryError: the way to the scheduler is not to be trusted.
        """
        self._pool.start()
        threading.Thread(target=self._obey, args=(commands,), name="scalable-hpc-control", daemon=True).start()
        self._guard.start()
        grace_s = self._options.orphan_grace_s
        until = time.time() + max(grace_s, CONNECT_WITHIN_S)
        for number in itertools.count():
            contact = await self._find_driver(until)
            if not isinstance(contact, SchedulerContact):
                return contact
            worker = await self._join(contact, number)
            if worker is None:
                continue
            status = await self._until_the_end(worker)
            if status != CourierExit.LOST:
                return status
            logger.info("The link to the driver broke; %d attempts go on", len(self._courier.running()))
            until = time.time() + grace_s
        raise AssertionError("unreachable")

    async def _find_driver(self, until: float) -> SchedulerContact | int:
        """Wait for somebody to answer where the run directory says; what runs goes on meanwhile.

        A driver that was lost for a moment is found at once, the run's next driver when it has written its address.
        """
        missed = 0
        while missed < _MISSED_BEFORE_GONE and self._collapse is None and time.time() < until:
            try:
                contact = await asyncio.to_thread(read_contact, self._options.run_dir)
                if await asyncio.to_thread(is_answered, contact.address):
                    return contact
                missed = 0
            except FileNotFoundError:
                missed += 1
            if self._retire is not None and self._courier.wait_until_idle(0):
                return CourierExit.RETIRED
            await asyncio.to_thread(self._recorder.sync)
            await asyncio.sleep(_LOOK_EVERY_S)
        if missed:
            return await self._give_up("the run is over: its scheduler file is gone", CourierExit.RETIRED)
        if self._collapse is not None:
            return await self._give_up(self._collapse, 1)
        return await self._give_up("no driver came in time", CourierExit.LOST)

    async def _give_up(self, because: str, status: int) -> int:
        logger.info("%s", because)
        await asyncio.to_thread(self._courier.stop, because, timeout_s=_STOP_WITHIN_S)
        return status

    async def _join(self, contact: SchedulerContact, number: int) -> CourierWorker | None:
        """Return a Dask worker that has joined a scheduler and said hello; None: it would not have us now."""
        from scalable_hpc.worker.dask_worker import make_worker

        # Another name each time: the scheduler may not have noticed yet that the one before it is gone.
        name = f"{self._name}.{number}" if number else self._name
        worker = make_worker(self._options, contact, self._courier, name, self._directory / f"dask-{number}")
        try:
            await worker
        except Exception as err:  # noqa: BLE001  whatever Dask makes of a scheduler that ends just now
            logger.warning("Could not join the scheduler at %s: %s: %s", contact.address, type(err).__name__, err)
            await asyncio.sleep(_LOOK_EVERY_S)
            return None
        self._courier.rejoin(worker.address, lambda letter: _publish(worker, letter))
        return worker

    def close(self) -> None:
        """Close the books, then take the slots down: what still ran was running when this worker ended."""
        self._recorder.close(at=time.time())
        self._pool.close()
        self._courier.holdings.close()
        if self._end_orphans is not None and self._options.nodes > 1:
            self._end_orphans()  # nobody else looks after the other nodes

    async def _until_the_end(self, worker: CourierWorker) -> int:
        closed, lost = asyncio.ensure_future(worker.finished()), asyncio.ensure_future(worker.lost.wait())
        while not (closed.done() or lost.done()) and self._collapse is None:
            if self._retire is not None and await asyncio.to_thread(self._courier.wait_until_idle, _LOOK_EVERY_S):
                await worker.close(reason=self._retire)
                break
            patience_s = _LOOK_EVERY_S if self._retire else SYNC_EVERY_S
            await asyncio.wait({closed, lost}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(self._recorder.sync)
        if self._collapse is not None:
            logger.error("%s", self._collapse)
            await asyncio.to_thread(self._courier.wait_until_idle, _LOOK_EVERY_S)
            return 1
        return CourierExit.LOST if worker.is_lost else CourierExit.RETIRED

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
            self._courier.holdings.close()
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
                self._note_end(because)

    def _note_end(self, because: str) -> None:
        self._retire = self._retire or because

    def _note_collapse(self, because: str) -> None:
        self._collapse = because


def _publish(worker: CourierWorker, letter: dict[str, object]) -> None:
    with suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
        worker.log_event(TOPIC, letter)


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
        process = CourierProcess(options, os.environ, Path(os.environ[DIRECTORY_VARIABLE]))
        try:
            return loop.run_until_complete(process.serve(sys.stdin.buffer))
        finally:
            process.close()
    except ScalableError as err:
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
