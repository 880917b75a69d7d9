"""Ensembles whose first executions last until they are let go: whatever is done to their nodes is done in the middle.

A scenario logs when it starts and ends; only its first execution waits. The driver stays until it is told to leave, so
that what comes late still finds somebody to take it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalable_hpc.model.events import AllocationChanged, AttemptFailed, Event, ReceiptTaken
from tests.ensembles import Ensemble, allocations_of, of_kind, reasons_of
from tests.rig.cluster import SlurmRig
from tests.waiting import wait_until

DRIVER = """
import os, sys, time
from pathlib import Path
from scalable_hpc import ScalableSession

HERE = Path({base!r})


def scenario(number):
    with open(HERE / "executions.log", "a") as log:
        log.write(f"start {{number}} {{os.getpid()}} {{time.time()}}\\n")
    lines = (HERE / "executions.log").read_text().splitlines()
    if sum(line.startswith(f"start {{number}} ") for line in lines) == 1:
        {first}
    with open(HERE / "executions.log", "a") as log:
        log.write(f"end {{number}} {{os.getpid()}} {{time.time()}}\\n")
    return os.getpid()


def wait_for(path):
    until = time.time() + 200
    while not path.exists() and time.time() < until:
        time.sleep(0.1)


if __name__ == "__main__":
    session = ScalableSession.from_yaml(str(HERE / "scalable.yaml"))
    with session as client:
        batch = client.collect(client.map(scenario, range({count})))
        print("pids", batch.results(), [repr(error) for error in batch.errors().values()], flush=True)
        (HERE / "collected").touch()
        wait_for(HERE / "leave")
"""

UNTIL_LET_GO = 'wait_for(HERE / "go")'


@dataclass(frozen=True)
class Held:
    """An ensemble under way on a cluster."""

    ensemble: Ensemble
    slurm: SlurmRig
    driver: subprocess.Popen[str]

    @property
    def events(self) -> list[Event]:
        return self.ensemble.events()

    def jobs(self) -> dict[str, str]:
        """Allocation to batch job, of those that were asked for."""
        lives = allocations_of(self.events)
        return {name: next(each.job_id for each in life[::-1] if each.job_id) for name, life in lives.items()}

    def node_of(self, allocation: str = "a0001") -> str:
        return self.slurm.run(["squeue", "-h", "-o", "%N", "-j", self.jobs()[allocation]]).strip()

    def wait_until_begun(self, count: int = 1) -> None:
        wait_until("the scenarios run", lambda: len(self.ensemble.counted()) >= count, timeout=60)

    def let_go(self) -> None:
        (self.ensemble.base / "go").touch()

    def wait_until_collected(self, timeout: float = 60) -> None:
        """Until every scenario has its result."""
        collected = self.ensemble.base / "collected"

        def done() -> bool:
            assert self.driver.poll() is None or collected.exists(), self.driver.communicate()
            return collected.exists()

        wait_until("every scenario has its result", done, timeout=timeout)

    def wait_for_reason(self, reason: str, *, timeout: float = 40) -> AllocationChanged:
        """Until the batch system's word on an allocation is in the journal."""

        def told() -> list[AllocationChanged]:
            return [event for event in of_kind(self.events, AllocationChanged) if event.reason == reason]

        return wait_until(f"{reason} in the journal", told, timeout=timeout)[0]

    def leave(self) -> str:
        """Let the driver end and return what it printed."""
        (self.ensemble.base / "leave").touch()
        out, err = self.driver.communicate(timeout=60)
        assert self.driver.returncode == 0, f"{out}\n{err}"
        return out

    def failed(self) -> list[AttemptFailed]:
        return of_kind(self.events, AttemptFailed)

    def reasons(self) -> set[str | None]:
        """Why attempts ended, as far as anybody said, then or later."""
        return set(reasons_of(self.events).values())

    def receipts(self, *, late: bool) -> list[ReceiptTaken]:
        return [event for event in of_kind(self.events, ReceiptTaken) if event.late is late]


@contextlib.contextmanager
def holding(
    base: Path,
    slurm: SlurmRig,
    *,
    count: int = 1,
    first: str = UNTIL_LET_GO,
    component: Mapping[str, Any] | None = None,
    **target: Any,
) -> Iterator[Held]:
    """Start such an ensemble on a real Slurm; whole nodes, polled every second."""
    manifest = {
        "version": 1,
        "project": {"name": "held"},
        "targets": {
            "here": {
                "provider": "slurm",
                "queue": "batch",
                "interface": slurm.interface,
                "exclusive": True,
                "poll": 1,
                "allocations": {"min": 0, "max": 1, "walltime": "00:10:00"},
                **target,
            }
        },
        "components": {"model": {"cpus": 4, "slots": 2, **(component or {})}},
    }
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    ensemble = Ensemble(base, count)
    ensemble.driver.write_text(DRIVER.format(base=str(base), count=count, first=first))
    driver = ensemble.start(env=slurm.env)
    try:
        yield Held(ensemble, slurm, driver)
    finally:
        (base / "go").touch()
        driver.kill()
        driver.communicate()
