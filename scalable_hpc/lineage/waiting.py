"""Puts down why tasks wait in the run directory, while a driver lives, for ``scalable-hpc explain``.

Rule 1: no listener, no question to the driver: a small file, its owner's alone, written when something has changed.
Rule 2: it is a courtesy: whatever goes wrong with it is no trouble of the run's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from scalable_hpc.lineage.lanes import LaneKey
from scalable_hpc.lineage.lease import lives, read_holder
from scalable_hpc.lineage.reasons import Reasons, from_text, reasons, to_text

NAME = "waiting.json"
TELL_EVERY_S = 4.0
"""Between two looks: for people, and no burden on a metadata server."""

Look = Callable[[], tuple[Mapping[LaneKey, str], Mapping[str, str]]]
"""Tells, on the loop, why tasks were not placed, and why no (further) allocations are asked for."""


async def keep_telling(run_dir: Path, look: Look, every_s: float = TELL_EVERY_S) -> None:
    """Put down what has changed, until cancelled; then nothing is left of it."""
    last: tuple[Mapping[LaneKey, str], Mapping[str, str]] = {}, {}
    writing = asyncio.ensure_future(asyncio.sleep(0))
    try:
        while True:
            lanes, fleet = look()
            if (lanes, fleet) != last:
                last = dict(lanes), dict(fleet)
                text = to_text(reasons(os.getpid(), time.time(), *last))
                writing = asyncio.ensure_future(asyncio.to_thread(_write, run_dir / NAME, text))
                await asyncio.shield(writing)
            await asyncio.sleep(every_s)
    finally:
        await asyncio.wait({writing})  # or it would be there again after this
        with suppress(OSError):
            (run_dir / NAME).unlink(missing_ok=True)


def read_reasons(run_dir: Path, now: float) -> Reasons | None:
    """Return what the driver of a run says; None: it lives no more, or has said nothing."""
    holder = read_holder(run_dir)
    if holder is None or not lives(holder, now):
        return None
    try:
        told = from_text((run_dir / NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return told if told is not None and told.pid == holder.pid else None


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        aside.unlink(missing_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        aside.replace(path)
