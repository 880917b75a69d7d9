"""The driver for what Dask's page "Resilience" says can fail, and how; runs beside ``given.py``."""

import operator
import os
import signal
import time
from pathlib import Path

from given import EXECUTIONS, execute, say

from scalable_hpc import ScalableSession
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import AllocationChanged, AttemptPlaced


def div(a: float, b: float) -> float:
    return a / b


def innocent(number: int) -> int:
    execute("innocent", number)
    time.sleep(0.1)
    return number


def crashes(how: str) -> None:
    execute(how, 1)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "abort":
        os.abort()
    os._exit(7)


def part(number: int) -> int:
    execute("part", number)
    return number


def total(parts: list[int]) -> int:
    execute("total", len(parts))
    return sum(parts)


def takes_a_while(number: int) -> int:
    """So that the link to its worker can break under it."""
    execute("takes_a_while", number)
    time.sleep(4)
    return number


def error_of(future) -> list[str]:
    """The names of what a future raises, and its words."""
    error = future.exception()
    return [" ".join(cls.__name__ for cls in type(error).__mro__), str(error)]


def wait_for(what: str, condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def has_begun(name: str, *numbers: int) -> bool:
    return {f"{name} {number}" for number in numbers} <= set(Path(EXECUTIONS).read_text().splitlines())


def pids(session: ScalableSession) -> set[int]:
    return {worker.pid for worker in session.workers()}


def user_code_fails(session: ScalableSession, client) -> None:
    x = client.submit(div, 1, 0)
    y = client.submit(operator.add, x, 1)
    say("division", error_of(x))
    before = pids(session)
    z = client.submit(operator.add, 1, [y])
    say("dependents", [error_of(y), error_of(z)])
    say("cause", repr(y.exception().__cause__))
    say("after the error", [client.submit(div, 1, 2).result(), before <= pids(session)])


def functions_kill(session: ScalableSession, client) -> None:
    before = pids(session)
    innocents = client.map(innocent, range(20))
    killers = {how: client.submit(crashes, how, retries=3) for how in ("segfault", "abort", "exit")}
    say("killers", {how: error_of(future) for how, future in killers.items()})
    say("innocents", [client.gather(innocents), before <= pids(session)])


def a_connection_closes(session: ScalableSession, client, dask) -> None:
    """The scheduler's link to one of two workers breaks under a task; the worker's processes live on."""
    wait_for("two workers", lambda: len(session.workers()) == 2)
    future = client.submit(takes_a_while, 1)
    wait_for("it runs", lambda: has_begun("takes_a_while", 1))
    placed = [
        event
        for event in read_events(session.run_directory.journal)
        if isinstance(event, AttemptPlaced) and event.task_id == future.task_id
    ]
    dask.run_on_scheduler(close_link, placed[-1].worker)
    say("after the link broke", [future.result(), placed[-1].allocation])


def close_link(address: str, dask_scheduler) -> None:
    dask_scheduler.stream_comms[address].abort()


def workers_die(session: ScalableSession, client) -> None:
    """Every process of every allocation is killed, when the ancestors are done and before anybody has used them."""
    parts = client.map(part, range(6))
    client.collect(parts)
    backend = LocalBackend(session.run_directory.spool)
    jobs = {
        event.job_id
        for event in read_events(session.run_directory.journal)
        if isinstance(event, AllocationChanged) and event.job_id
    }
    lost = pids(session)
    for job in jobs:
        backend.lose_node(job)
    wait_for("all of them are gone", lambda: lost.isdisjoint(pids(session)))
    say("total", client.submit(total, parts).result())


def main() -> None:
    session = ScalableSession.from_yaml("./scalable.yaml", target="two")
    with session as client:
        dask = client.dask
        user_code_fails(session, client)
        functions_kill(session, client)
        a_connection_closes(session, client, dask)
        workers_die(session, client)


if __name__ == "__main__":
    main()
