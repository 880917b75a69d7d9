"""What a launcher tells its courier: one JSON object a line, down the courier's standard input.

The end of the stream means that the launcher is dead, and with it the batch job: the courier ends at once.

Rule 1: pure; reading and writing are the two processes' business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadlineIs:
    """When the allocation ends (seconds since the epoch; None: not known)."""

    at: float | None


@dataclass(frozen=True, slots=True)
class Retire:
    """Begin nothing new, let what runs finish, then close."""

    because: str


Command = DeadlineIs | Retire


def encode(command: Command) -> bytes:
    """Return the line that says it."""
    match command:
        case DeadlineIs(at):
            content: dict[str, object] = {"do": "deadline", "at": at}
        case Retire(because):
            content = {"do": "retire", "because": because}
    return json.dumps(content).encode() + b"\n"


def decode(line: bytes) -> Command:
    """Return what a line says.

    Raises:
        ValueError: it says nothing that we know.
    """
    content = json.loads(line)
    match content:
        case {"do": "deadline", "at": None}:
            return DeadlineIs(None)
        case {"do": "deadline", "at": at}:
            return DeadlineIs(float(at))
        case {"do": "retire", "because": str(because)}:
            return Retire(because)
    raise ValueError(f"not a command: {line!r}")
