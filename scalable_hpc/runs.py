"""Run directories: one session's life on disk, 0700, made before anything else and found again afterwards.

<runs_root>/<run_id>/
    manifest.yaml  plan.json      as resolved
    journal.jsonl  payloads.pack  the only truth, and what its tasks were called with
    failures.jsonl summary.json   drawn from the journal, for other programs
    waiting.json                  why tasks wait, as the driver that lives knows it
    scheduler.json security/      where the workers find the driver; gone when the session ends
    secrets/                      environment variables that job scripts must not show; gone with the last job
    scripts/  logs/  recorders/   each rendered job script, job output, flight recorders
    store.key                     by which workers and later drivers know the run's results for ours, 0600
    driver.json  links.jsonl      of a driver that is a chain of batch jobs: its order, what was done
    results/                      the store of calls that are not cacheable
    batch/                        the Local batch system's spool
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalable_hpc.cache.layout import make_parents, trusted_group
from scalable_hpc.config.trust import Trust, distrust, this_reader
from scalable_hpc.errors import RunDirectoryError

_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_OURS = ".scalable"
_FOLDERS = ("scripts", "logs", "recorders")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's name: when it began (UTC) and six random digits."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """The run's journal."""
        return self.path / "journal.jsonl"

    @property
    def manifest(self) -> Path:
        """The manifest that the run was started from."""
        return self.path / "manifest.yaml"

    @property
    def plan(self) -> Path:
        """The plan that the run was started with."""
        return self.path / "plan.json"

    @property
    def announcement(self) -> Path:
        """Where workers find the driver; it is there while the run has (or had) one that opened allocations."""
        return self.path / "scheduler.json"

    @property
    def is_open(self) -> bool:
        """Whether a driver opened allocations for this run and has not closed it."""
        return self.announcement.exists()

    @property
    def driver_order(self) -> Path:
        """What a chain of driver jobs was ordered to do; there while it goes on."""
        return self.path / "driver.json"

    @property
    def is_chained(self) -> bool:
        """Whether another driver job is to come for it by itself."""
        return self.driver_order.exists()

    @property
    def links(self) -> Path:
        """What the links of such a chain did."""
        return self.path / "links.jsonl"

    @property
    def payloads(self) -> Path:
        """What the tasks were called with."""
        return self.path / "payloads.pack"

    @property
    def results(self) -> Path:
        """Root of the store for calls that are not cacheable."""
        return self.path / "results"

    @property
    def store_key(self) -> Path:
        """The keys that the run's workers seal results with, and believe."""
        return self.path / "store.key"

    @property
    def secrets(self) -> Path:
        """Environment variables of the workers that nobody else may read."""
        return self.path / "secrets"

    @property
    def spool(self) -> Path:
        """Where the Local batch system keeps its jobs."""
        return self.path / "batch"

    @property
    def endings(self) -> Path:
        """Where job scripts leave their exit code, for batch systems that may forget a job at its end."""
        return self.path / "endings"

    @property
    def scripts(self) -> Path:
        """Every job script as it was submitted."""
        return self.path / "scripts"

    @property
    def logs(self) -> Path:
        """What the jobs printed."""
        return self.path / "logs"

    def describe(self, manifest: str, plan: str) -> None:
        """Keep what the run was started from.

        Raises:
            RunDirectoryError: the disk is full or gone.
        """
        try:
            for path, text in ((self.manifest, manifest), (self.plan, plan)):
                path.touch(mode=0o600)
                path.write_text(text)
        except OSError as err:
            raise RunDirectoryError(f"the run directory cannot be written: {str(self.path)!r}: {err.strerror}") from err

    def keep(self, name: str, text: str) -> None:
        """Put a file into the directory that can be made again: aside first, so that readers find all of it.

        Raises:
            OSError: the disk is full or gone.
        """
        aside = self.path / f".{name}.{os.getpid()}.part"
        try:
            with aside.open("w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path / name)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

    def read_manifest(self) -> str:
        """Return the text of the manifest that the run was started from.

        Raises:
            RunDirectoryError: it cannot be read.
        """
        return self._read(self.manifest)

    def read_plan(self) -> dict[str, Any]:
        """Return the plan that the run was started with, as ``Plan.to_dict`` made it.

        Raises:
            RunDirectoryError: it cannot be read.
        """
        try:
            plan = json.loads(self._read(self.plan))
        except ValueError as err:
            raise RunDirectoryError(f"the plan of the run is damaged: {str(self.plan)!r}: {err}") from err
        return dict(plan)

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text()
        except OSError as err:
            raise RunDirectoryError(f"the run directory cannot be read: {str(path)!r}: {err.strerror}") from err

    def log_of(self, allocation: str) -> Path:
        """Where an allocation's job prints to."""
        return self.logs / f"{allocation}.log"

    def log_tail(self, allocation: str, size: int = 4096) -> str:
        """Return the last bytes that an allocation printed; empty when there is no log."""
        try:
            with self.log_of(allocation).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def create_run(runs_root: Path, now: float | None = None) -> RunDirectory:
    """Make a new run directory.

    Raises:
        RunDirectoryError: it cannot be made or written, or its parent belongs to another user.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    run = RunDirectory(runs_root / f"{stamp}-{secrets.token_hex(3)}")
    try:
        make_parents(runs_root)
        runs_root.mkdir(mode=0o700, exist_ok=True)
        for place in (runs_root, *(each for each in runs_root.parents if each.name == _OURS)):
            _refuse_foreign(place)
        run.path.mkdir(mode=0o700)
        for folder in _FOLDERS:
            (run.path / folder).mkdir(mode=0o700)
    except OSError as err:
        raise RunDirectoryError(
            f"the run directory cannot be made: {str(run.path)!r}: {err.strerror or err}",
            hint="set SCALABLE_HPC_RUNS_DIR to a directory that you can write and that all nodes see",
        ) from err
    return run


def _refuse_foreign(folder: Path) -> None:
    """Refuse a directory in which somebody else could put another run in the place of ours.

    Raises:
        RunDirectoryError: its owner is neither the user nor root, or others can rename what lies in it.
    """
    found = folder.stat()
    mode = found.st_mode & ~(0o022 if found.st_mode & stat.S_ISVTX else 0)  # where it is sticky, only owners rename
    group = trusted_group()
    trust = Trust(groups=frozenset() if group is None else frozenset({group}))
    problem = distrust(found.st_uid, found.st_gid, mode, this_reader(), trust)
    if problem is not None:
        raise RunDirectoryError(
            f"runs are not kept in {str(folder)!r}: it {problem}",
            hint=f"ls -ld '{folder}'; chmod go-w it if it is yours, or set SCALABLE_HPC_RUNS_DIR to another directory",
        )


def list_runs(runs_root: Path) -> list[RunDirectory]:
    """Return the runs under a root, the newest last."""
    return sorted(_find(runs_root), key=lambda run: run.run_id)


def find_run(runs_root: Path, name: str | None = None) -> RunDirectory:
    """Return a run by its id or the start of it, or the newest.

    Raises:
        RunDirectoryError: there is none, or several begin like that.
    """
    runs = list_runs(runs_root)
    matching = runs if name is None else [run for run in runs if run.run_id.startswith(name)]
    if name is None and matching:
        return matching[-1]
    if len(matching) == 1:
        return matching[0]
    what = "no run" if not matching else f"{len(matching)} runs"
    named = "" if name is None else f" named {name!r}"
    raise RunDirectoryError(f"{what}{named} in {str(runs_root)!r}", hint=f"ls {runs_root}")


def _find(runs_root: Path) -> Iterator[RunDirectory]:
    try:
        entries = list(os.scandir(runs_root))
    except OSError:
        return
    for entry in entries:
        if _RUN_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) and entry.stat().st_uid == os.getuid():
            yield RunDirectory(Path(entry.path))
