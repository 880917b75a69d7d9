"""Single values as Slurm prints them: node lists, exit codes, times.

Rule 1: pure, and no text raises: what cannot be read is None, or a node list that stays one unexpanded name.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

MOST_NODES = 20_000
"""Above the largest machines; keeps a damaged ``[0-999999999]`` from filling the memory."""

_RANGE = re.compile(r"(?P<low>[0-9]{1,9})(?:-(?P<high>[0-9]{1,9}))?")
_NUMBER = re.compile(r"[0-9]{1,12}")
"""Twelve digits: keeps a long number in a broken line from becoming a time."""
_ISO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


def expand_nodes(text: str) -> tuple[str, ...]:
    """Return the names of a node list; ``(text,)`` when it cannot be read or is longer than ``MOST_NODES``."""
    if not text:
        return ()
    names: list[str] = []
    for part in _split(text):
        more = _expand(part, MOST_NODES - len(names))
        if more is None:
            return (text,)
        names.extend(more)
    return tuple(names)


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def _expand(part: str, room: int) -> list[str] | None:
    """Return the names of one part; None when it is not well formed or there is no room for them."""
    names = [""]
    for literal, ranges in re.findall(r"([^\[\]]+)|\[([^\[\]]*)\]", part):
        choices = [literal] if literal else _numbers(ranges, room)
        if choices is None or len(names) * len(choices) > room:
            return None
        names = [name + choice for name in names for choice in choices]
    well_formed = "[" not in re.sub(r"\[[^\[\]]*\]", "", part) and "]" not in re.sub(r"\[[^\[\]]*\]", "", part)
    return names if well_formed and all(names) and room > 0 else None


def _numbers(ranges: str, room: int) -> list[str] | None:
    numbers: list[str] = []
    for item in ranges.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            return None
        low, high = match["low"], match["high"] or match["low"]
        if int(high) < int(low) or int(high) - int(low) >= room - len(numbers):
            return None
        numbers.extend(str(number).zfill(len(low)) for number in range(int(low), int(high) + 1))
    return numbers


def parse_exit_code(text: str) -> tuple[int | None, int | None]:
    """Read ``exit:signal`` as (exit code, None) or (None, signal); a number alone is a wait status."""
    first, colon, second = text.strip().partition(":")
    if not _NUMBER.fullmatch(first) or (colon and not _NUMBER.fullmatch(second)):
        return None, None
    code, signal = (int(first), int(second)) if colon else ((int(first) >> 8) & 0xFF, int(first) & 0x7F)
    return (None, signal) if signal else (code, None)


def parse_time(text: str) -> float | None:
    """Return seconds since the epoch of ``1795334808`` or ``2026-11-22T08:06:48`` (taken as UTC), else None."""
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped):
        return float(stripped) or None  # Slurm's "not set" is 0
    if not _ISO_TIME.fullmatch(stripped):
        return None
    try:
        return datetime.fromisoformat(stripped).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None
