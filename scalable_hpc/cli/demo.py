"""``scalable-hpc demo``: watch an ensemble live through a killed worker and expired allocations."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalable_hpc.session import ScalableSession

_MANIFEST = """\
version: 1
project: {name: demo}
targets:
  here:
    provider: local
    capacity: {cpus: 4}
    allocations: {max: 2, walltime: "00:00:12"}
components:
  pi: {cpus: 2}
tasks:
  estimate_pi: {component: pi, retries: 3}
"""
_KILL_AFTER = 8
"""Scenarios that are done before a worker is killed: both allocations are at work by then."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "demo",
        help="watch a small ensemble survive a killed worker and expiring allocations on this machine",
        description="Runs a small ensemble on this machine as a batch system: allocations end after twelve seconds,"
        " and one worker is killed on the way. Then says what was lost, run again and skipped, and runs it once more.",
    )
    parser.add_argument("--scenarios", type=int, default=60, metavar="N")
    parser.add_argument("--directory", type=Path, help="where to work, and leave the run (default: a temporary one)")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Run the ensemble twice: through the faults, then from the cache."""
    if arguments.scenarios < 1:
        from scalable_hpc.cli.run import DriverMissing

        raise DriverMissing(f"--scenarios must be at least 1: {arguments.scenarios}")
    if arguments.directory is not None:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        return _demonstrate(arguments.directory.resolve(), arguments.scenarios)
    with tempfile.TemporaryDirectory(prefix="scalable-hpc-demo-") as place:
        return _demonstrate(Path(place), arguments.scenarios)


def _demonstrate(place: Path, count: int) -> int:
    from scalable_hpc.session import ScalableSession

    os.environ["SCALABLE_HPC_PROGRESS"] = "1"
    manifest = place / "scalable.yaml"
    manifest.write_text(_MANIFEST)
    _say(f"\n{count} scenarios on allocations of two slots that end after 12 s; a worker will be killed on the way.\n")
    right = _run(ScalableSession.from_yaml(manifest), count, kill=True)
    _say("\nThe same again: every scenario is known.\n")
    again = _run(ScalableSession.from_yaml(manifest), count, kill=False)
    return 0 if right and again else 1


def _run(session: ScalableSession, count: int, *, kill: bool) -> bool:
    """Run the ensemble and print its report; True when every scenario succeeded."""
    from scalable_hpc.cli.demo_ensemble import estimate_pi
    from scalable_hpc.lineage.journal import read_events
    from scalable_hpc.telemetry.report import build_report
    from scalable_hpc.telemetry.text import render_report

    client = session.start()
    try:
        futures = client.map(estimate_pi, range(count))
        if kill:
            _after(futures[min(_KILL_AFTER, count - 1) :][:1], lambda: _kill_a_worker(session))
        batch = client.collect(futures)
    finally:
        session.close()
    run = session.run_directory
    assert run is not None, "a started session has a run directory"
    print(render_report(build_report(read_events(run.journal))))
    if batch.ok:
        print(f"pi is about {sum(batch.results()) / len(batch.ok):.4f} ({len(batch.ok)} estimates)")
    return len(batch.ok) == count


def _after(futures: list, then: Callable[[], None]) -> None:  # type: ignore[type-arg]
    """Do something in a thread of its own once a future is done."""
    for future in futures:
        future.add_done_callback(lambda _: threading.Thread(target=then, daemon=True).start())


def _kill_a_worker(session: ScalableSession) -> None:
    for worker in session.workers()[:1]:
        _say(f"\nkill -9 {worker.pid}: the worker of allocation {worker.allocation}\n")
        os.kill(worker.pid, signal.SIGKILL)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
