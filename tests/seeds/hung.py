"""A driver one of whose two workers stops answering under a task, its connection open: a node that hangs."""

import os
import signal
import time
from pathlib import Path

from given import EXECUTIONS, execute, say

from scalable_hpc import ScalableSession
from scalable_hpc.batch.process_tree import marked
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import AttemptPlaced


def long_the_first_time(number: int) -> int:
    """Long the first time, so that its worker can hang under it; quick the second."""
    if execute("long_the_first_time", number) == 1:
        time.sleep(600)
    return number


def main() -> None:
    session = ScalableSession.from_yaml("./scalable.yaml", target="two")
    with session as client:
        future = client.submit(long_the_first_time, 1)
        while not Path(EXECUTIONS).exists():
            time.sleep(0.05)
        journal = read_events(session.run_directory.journal)
        placed = next(event for event in journal if isinstance(event, AttemptPlaced))
        worker = next(worker for worker in session.workers() if worker.address == placed.worker)
        for pid in marked(str(session.run_directory.spool / worker.job_id)):
            os.kill(pid, signal.SIGSTOP)
        since = time.monotonic()
        say("hung", [future.result(), time.monotonic() - since])


if __name__ == "__main__":
    main()
