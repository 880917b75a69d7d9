"""The driver for the tutorial's table of failure modes, its report, and its exercise; runs after ``given.py``."""

import random
import time
from pathlib import Path

from given import EXECUTIONS, execute, say

from scalable_hpc import ScalableSession, cacheable
from scalable_hpc.batch.local import LocalBackend

MIB = 1 << 20


def takes_memory(number: int) -> int:
    """Grow past what the worker may have, and stay so until stopped."""
    execute("takes_memory", number)
    held = []
    for _ in range(16):
        held.append(bytearray(b"x") * (64 * MIB))
        time.sleep(0.05)
    time.sleep(60)
    return len(held)


def takes_time(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def is_cut_off(number: int) -> str:
    """The network drops once."""
    if execute("is_cut_off", number) == 1:
        raise ConnectionResetError("connection reset by peer")
    return "here now"


def imports_what_is_not_there(number: int) -> None:
    execute("imports_what_is_not_there", number)
    import no_such_module  # noqa: F401


def opens_what_is_not_there(number: int) -> str:
    execute("opens_what_is_not_there", number)
    return Path("no/such/file.csv").read_text()


@cacheable(return_type=int, number=int)
def is_preempted(number: int) -> int:
    """Long the first time, so that it can be interrupted; quick the second."""
    if execute("is_preempted", number) == 1:
        time.sleep(60)
    return number + 1


@cacheable(return_type=int, number=int)
def is_mended(number: int) -> int:
    if execute("is_mended", number) == 1:
        raise ValueError("not yet")
    return number


def run_simulation(scenario_id: int) -> int:
    execute("run_simulation", scenario_id)
    if scenario_id == 47:
        time.sleep(0.2)
        raise MemoryError("unable to allocate 4.2GB")
    if scenario_id == 92:
        time.sleep(60)
    if scenario_id == 13:
        raise ValueError("invalid input data")
    return scenario_id


def flaky(number: int) -> int:
    """Fail 20 % of the time."""
    if random.random() < 0.2:
        execute("flaky fails", number)
        raise RuntimeError("bad luck")
    return number


def ending_of(future) -> str:
    """What a future raises, by every name that ``except`` may have for it."""
    error = future.exception()
    return "" if error is None else " ".join(cls.__name__ for cls in type(error).__mro__)


def wait_for(line: str) -> None:
    """Wait until this execution has been noted."""
    end = time.monotonic() + 60
    while line not in Path(EXECUTIONS).read_text():
        if time.monotonic() > end:
            raise TimeoutError(f"no {line!r}")
        time.sleep(0.05)


def table_of_failure_modes(session: ScalableSession, client) -> None:
    """Step 4."""
    memory = client.submit(takes_memory, 1)
    slow = client.submit(takes_time, 60, timeout=0.5)
    insufficient = client.submit(takes_memory, 2, memory="64G", retries=3)
    network = client.submit(is_cut_off, 1, task="run_analysis", retries=3)
    network_once = client.submit(is_cut_off, 2, task="run_analysis")
    dependency = client.submit(imports_what_is_not_there, 1, task="run_analysis", retries=3)
    data = client.submit(opens_what_is_not_there, 1, task="run_analysis", retries=3)
    mended = client.submit(is_mended, 1, task="run_analysis", retries=3)
    say("memory", [ending_of(memory), str(memory.exception())])
    say("slow", ending_of(slow))
    say("insufficient", [ending_of(insufficient), str(insufficient.exception())])
    say("network", [network.result(), ending_of(network_once)])
    say("dependency", [ending_of(dependency), str(dependency.exception())])
    say("data", ending_of(data))
    say("mended", [ending_of(mended), client.submit(is_mended, 1, task="run_analysis").result()])

    preempted = client.submit(is_preempted, 1)
    wait_for("is_preempted 1")
    (worker,) = session.workers()
    LocalBackend(session.run_directory.spool).preempt(worker.job_id)
    say("preempted", [preempted.result(), client.submit(is_preempted, 1).result()])


def exercise(client) -> None:
    """A function that randomly fails 20 % of the time, submitted 50 times."""
    batch = client.collect(client.map(flaky, range(50), task="run_analysis", retries=3))
    say("exercise", [len(batch.ok), len(batch.failed)])


def report_of_failures(client) -> None:
    """Step 5: a hundred scenarios, three of which fail, each in its own way; the second of them is not retried."""
    futures = [
        client.submit(run_simulation, scenario_id=i, retries=3)
        if i != 92
        else client.submit(run_simulation, scenario_id=i, timeout=1.0)
        for i in range(100)
    ]
    say("simulated", len(client.collect(futures).ok))


def main() -> None:
    session = ScalableSession.from_yaml("./scalable.yaml", target="local")
    with session as client:
        table_of_failure_modes(session, client)
        exercise(client)
    with session as client:
        report_of_failures(client)


if __name__ == "__main__":
    main()
