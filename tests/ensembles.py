"""Small ensembles for scenario tests: a manifest, a driver script, and a count of every execution on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import (
    AllocationChanged,
    AttemptExplained,
    AttemptFailed,
    AttemptPlaced,
    Event,
    FleetNote,
    ReceiptTaken,
)
from scalable_hpc.runs import RunDirectory, list_runs
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.text import render_report

DRIVER = """
import os, sys, time
from pathlib import Path
from scalable_hpc import ScalableSession, cacheable

DONE = Path({executions!r})

@cacheable(return_type=int, number=int)
def scenario(number: int) -> int:
    seconds = {seconds!r}
    with open(DONE, "a") as log:
        log.write(f"start {{number}} {{os.getpid()}} {{time.time()}}\\n")
    time.sleep(seconds)
    with open(DONE, "a") as log:
        log.write(f"end {{number}} {{os.getpid()}} {{time.time()}}\\n")
    return number * number

def main():
    session = ScalableSession.from_yaml({manifest!r})
    with session as client:
        futures = client.map(scenario, range({count!r}){options})
        print("submitted", flush=True)
        batch = client.collect(futures)
        assert batch.results() == [n * n for n in range({count!r})], batch.summary()
        print("complete", len(batch.ok), flush=True)

if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True)
class Ensemble:
    """A directory with a manifest and a driver that runs ``count`` scenarios of ``seconds`` each."""

    base: Path
    count: int

    @property
    def executions(self) -> Path:
        return self.base / "executions.log"

    @property
    def driver(self) -> Path:
        return self.base / "driver.py"

    def start(self, *, env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start the driver as a process of its own session."""
        return subprocess.Popen(
            [sys.executable, str(self.driver), *arguments],
            cwd=self.base,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *, env: Mapping[str, str] | None = None, timeout: float = 150) -> subprocess.CompletedProcess[str]:
        """Run the driver to its end."""
        process = self.start(env=env)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"the driver did not end in {timeout} s\n{out}\n{err}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def counted(self, what: str = "start") -> Counter[int]:
        """How often each scenario was started, or ended."""
        if not self.executions.exists():
            return Counter()
        lines = [line.split() for line in self.executions.read_text().splitlines()]
        return Counter(int(line[1]) for line in lines if line[0] == what)

    @property
    def runs(self) -> list[RunDirectory]:
        """The run directories, oldest first."""
        return list_runs(self.base / ".scalable" / "runs")

    def report(self) -> str:
        """What ``scalable-hpc report`` prints of the newest run."""
        return render_report(build_report(self.events()))

    def events(self, which: int = -1) -> list[Event]:
        """The journal of a run."""
        return list(read_events(self.runs[which].journal))


def make_ensemble(
    base: Path, *, target: Mapping[str, Any], count: int, seconds: float, cpus: int = 4, options: str = ", retries=0"
) -> Ensemble:
    """Write manifest and driver into ``base``."""
    manifest = {
        "version": 1,
        "project": {"name": "ensemble"},
        "targets": {"here": dict(target)},
        "components": {"model": {"cpus": cpus, "memory": "400M"}},
        "tasks": {"scenario": {"component": "model"}},
    }
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    ensemble = Ensemble(base, count)
    text = DRIVER.format(
        executions=str(ensemble.executions),
        seconds=seconds,
        manifest=str(base / "scalable.yaml"),
        count=count,
        options=options,
    )
    ensemble.driver.write_text(textwrap.dedent(text))
    return ensemble


def allocations_of(events: list[Event]) -> dict[str, list[AllocationChanged]]:
    """The life of each allocation, by name."""
    lives: dict[str, list[AllocationChanged]] = {}
    for event in events:
        if isinstance(event, AllocationChanged):
            lives.setdefault(event.name, []).append(event)
    return lives


def reasons_of(events: list[Event]) -> dict[tuple[str, int], str | None]:
    """Why each attempt that failed did: the allocation's reason, as first said or explained later."""
    reasons: dict[tuple[str, int], str | None] = {}
    for event in events:
        if isinstance(event, (AttemptFailed, AttemptExplained)):
            reasons[event.task_id, event.attempt] = event.allocation_reason
    return reasons


def of_kind(events: list[Event], *kinds: type) -> list[Any]:
    """The events of some kinds, in order."""
    return [event for event in events if isinstance(event, kinds)]


__all__ = [
    "AllocationChanged",
    "AttemptFailed",
    "AttemptPlaced",
    "Ensemble",
    "FleetNote",
    "ReceiptTaken",
    "allocations_of",
    "make_ensemble",
    "of_kind",
    "reasons_of",
]
