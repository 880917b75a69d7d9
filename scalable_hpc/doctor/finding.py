"""What a check says: how bad it is, in what words, and what to do; plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad a finding is."""

    OK = 0
    UNKNOWN = 1
    DOUBTFUL = 2
    WRONG = 3


EXIT_CODES = {Level.OK: 0, Level.UNKNOWN: 40, Level.DOUBTFUL: 40, Level.WRONG: 41}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    said: str
    remedy: str = ""
    """What to do; empty where there is nothing to be done."""
