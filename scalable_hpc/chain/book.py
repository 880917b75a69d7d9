"""What a chain keeps in its run's directory: the order that began it, and a line for all that its links did.

    driver.json    the order; there while the chain goes on
    links.jsonl    {"link": 2, "what": "began", "at": ..., "job_id": ..., "gained": ..., "because": ...}

Rule 1: a torn last line is a link's that was killed while it wrote; it is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.lineage.lessons import was_handed_back
from scalable_hpc.model.events import AttemptFailed, ReceiptTaken
from scalable_hpc.runs import RunDirectory

BEGAN, SUBMITTED, ENDED, STOPPED, DONE = "began", "submitted", "ended", "stopped", "done"


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for with ``scalable-hpc submit``."""

    script: str
    """Absolute path."""
    arguments: tuple[str, ...]
    directory: str
    """Where the script starts."""
    walltime_s: int
    """Of one link."""
    lead_s: float
    """How long before the end of its walltime a link ends the script."""
    is_chain: bool
    max_links: int
    python: str
    """The interpreter."""
    cpus: int = 1
    memory: int | None = None
    """Bytes; None: what the batch system gives."""
    partition: str | None = None
    """Where links run, if not where the target's allocations do."""

    def write(self, run: RunDirectory) -> None:
        """Keep it with the run.

        Raises:
            OSError: the disk is full or gone.
        """
        run.keep(run.driver_order.name, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, run: RunDirectory) -> Order:
        """Return the order of a run's chain.

        Raises:
            RunDirectoryError: there is none, or it is damaged.
        """
        try:
            told = json.loads(run.driver_order.read_text())
            return cls(**{**told, "arguments": tuple(told["arguments"])})
        except (OSError, ValueError, TypeError, KeyError) as err:
            raise RunDirectoryError(f"the driver's order cannot be read: {str(run.driver_order)!r}: {err}") from err


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the book."""

    link: int
    what: str
    at: float
    """Seconds since the epoch."""
    because: str = ""
    job_id: str | None = None
    results: int = 0
    """Receipts and checkpoints of the run by then."""


class Book:
    """The book of a run's chain; one link writes at a time."""

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.links

    def note(self, entry: Entry) -> None:
        """Add a line, durably.

        Raises:
            OSError: the disk is full or gone.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[Entry]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            entry = _parsed(line)
            if entry is not None:
                yield entry

    def last(self, what: str, link: int | None = None) -> Entry | None:
        """Return the newest entry of a kind, of any link or of one."""
        found = [entry for entry in self if entry.what == what and link in (None, entry.link)]
        return found[-1] if found else None

    def jobs(self) -> list[str]:
        """Return the batch jobs of all links, the oldest first."""
        return list(dict.fromkeys(entry.job_id for entry in self if entry.job_id))


def results_of(run: RunDirectory) -> int:
    """Return how many results and checkpoints a run has come to.

    Raises:
        JournalError: its journal is damaged.
    """
    if not run.journal.exists():
        return 0
    return sum(
        (isinstance(event, ReceiptTaken) and not event.reused)
        or (isinstance(event, AttemptFailed) and was_handed_back(event))
        for event in read_events(run.journal)
    )


def _parsed(line: bytes) -> Entry | None:
    try:
        told: dict[str, Any] = json.loads(line)
        return Entry(**told)
    except (ValueError, TypeError):
        return None
