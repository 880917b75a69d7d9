"""How long a worker will still be there, told by its courier to the attempts that run in its slots.

A small file on the node, replaced whole: a slot is busy with user code and reads no pipe, while a file can be read by
any thread or child process of it, at the moment when somebody wants to know.

Rule 1: who cannot read it, or write it, goes on without; an outlook is a service and fails nothing.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a worker's end."""

    deadline: float | None = None
    """When its allocation ends (seconds since the epoch); None: not known."""
    draining: str | None = None
    """Why it begins nothing new; None while it does."""


def read_outlook(path: str | os.PathLike[str]) -> Outlook:
    """Return what was last told; of a file that cannot be read, that nothing is known."""
    try:
        content = json.loads(Path(path).read_text())
        return Outlook(content["deadline"], content["draining"])
    except (OSError, ValueError, KeyError, TypeError):
        return Outlook()


class OutlookBoard:
    """The courier's side: tells whenever something has changed; usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outlook = Outlook()
        self._lock = threading.Lock()
        with suppress(OSError):  # a courier that was here before has left its own
            path.unlink(missing_ok=True)

    def deadline_is(self, at: float | None) -> None:
        """Tell when the allocation ends."""
        with self._lock:
            self._tell(replace(self._outlook, deadline=at))

    def draining(self, because: str) -> None:
        """Tell that nothing new is begun: what runs had better come to a stop."""
        with self._lock:
            self._tell(replace(self._outlook, draining=because))

    def _tell(self, outlook: Outlook) -> None:
        if outlook == self._outlook:
            return
        self._outlook = outlook
        aside = self._path.with_suffix(".new")
        with suppress(OSError):  # a full disk on the node
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps({"deadline": outlook.deadline, "draining": outlook.draining}))
            aside.replace(self._path)
