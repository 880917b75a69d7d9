"""Starts the driver, watches its journal, brings losses about, and starts it again when it was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.journal import fold_journal
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.model.allocations import AllocationState
from scalable_hpc.model.events import AllocationChanged, Event
from scalable_hpc.rehearsal.cues import Cue, Played, busiest, due, in_order
from scalable_hpc.runs import RunDirectory, list_runs

_LOOK_EVERY_S = 0.25
_LOOK_SHARE = 10.0
"""Between two looks at the journal passes this many times what one took."""
_RUNNING = (AllocationState.LIVE.value, AllocationState.DRAINING.value)


@dataclass(slots=True)
class Performance:
    """One rehearsal."""

    command: Sequence[str]
    directory: Path
    environ: Mapping[str, str]
    runs_root: Path
    cues: Sequence[Cue]
    played: list[Played] = field(default_factory=list)
    left: list[Cue] = field(default_factory=list)

    def run(self) -> int:
        """Run the driver to its end, through every loss; return its last exit code."""
        self.left = in_order(self.cues)
        driver = self._start()
        try:
            while (code := driver.poll()) is None:
                took_s = self._look(driver)
                time.sleep(max(_LOOK_EVERY_S, took_s * _LOOK_SHARE))
                if driver.poll() is not None and self._was_killed(driver):
                    driver = self._start()
        finally:
            if driver.poll() is None:
                driver.send_signal(signal.SIGTERM)
                driver.wait()
        return code

    @property
    def run_directory(self) -> RunDirectory | None:
        """The run of the driver; None: it has begun none."""
        runs = list_runs(self.runs_root)
        return runs[-1] if runs else None

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, cwd=self.directory, env=dict(self.environ))

    def _was_killed(self, driver: subprocess.Popen[bytes]) -> bool:
        last = self.played[-1] if self.played else None
        return driver.returncode == -signal.SIGKILL and last is not None and last.cue.kind == "kill_driver"

    def _look(self, driver: subprocess.Popen[bytes]) -> float:
        """Look at the journal and play what is due; return how long that took, seconds."""
        run = self.run_directory
        if run is None or not self.left:
            return 0.0
        began = time.monotonic()
        ledger, jobs = Ledger(), {}

        def note(event: Event) -> None:
            if isinstance(event, AllocationChanged):
                jobs[event.name] = event

        with suppress(ScalableError):  # no journal yet, or one that is being written this moment
            fold_journal(run.journal, ledger, note)
        done = ledger.count(TaskState.DONE, TaskState.LET_GO)
        cue = due(self.left, done)
        if cue is not None:
            self._play(cue, done, driver, run, busiest(ledger, _running(jobs)), jobs)
        return time.monotonic() - began

    def _play(
        self,
        cue: Cue,
        done: int,
        driver: subprocess.Popen[bytes],
        run: RunDirectory,
        victim: str | None,
        jobs: Mapping[str, AllocationChanged],
    ) -> None:
        if victim is None:
            return  # a loss waits until there is something to lose
        now = time.time()
        if cue.kind == "kill_driver":
            driver.kill()
            driver.wait()
            what = f"process {driver.pid}"
        else:
            backend = LocalBackend(run.spool)
            ends = {
                "lose_node": backend.lose_node,
                "preempt": backend.preempt,
                "oom": backend.run_out_of_memory,
                "walltime": backend.end_walltime,
            }
            ends[cue.kind](jobs[victim].job_id or "")
            what = victim
        self.left.remove(cue)
        self.played.append(Played(cue, now, done, what))
        print(f"rehearsal: {cue.kind.replace('_', ' ')} ({what}), {done} tasks are done", file=sys.stderr)  # noqa: T201


def _running(jobs: Mapping[str, AllocationChanged]) -> list[str]:
    return [name for name, seen in jobs.items() if seen.state in _RUNNING and seen.job_id]
