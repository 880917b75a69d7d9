"""Reads PBS's values: hosts, dates, spans of time, numbers.

Rule 1: pure, and no text raises: what cannot be read is None, or left out.
"""

from __future__ import annotations

import re
from datetime import datetime

_HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)/")
_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SPAN = re.compile(r"(?:(?:([0-9]{1,6}):)?([0-9]{1,6}):)?([0-9]{1,9})(?:\.[0-9]+)?")
_INTEGER = re.compile(r"-?[0-9]{1,9}")


def parse_nodes(exec_host: str) -> tuple[str, ...]:
    """Return the hosts of ``node1/0*2+node2/0``, each once, in their order."""
    found = (_HOST.match(part) for part in exec_host.split("+"))
    return tuple(dict.fromkeys(match[1] for match in found if match))


def parse_time(text: str) -> float | None:
    """Return seconds since the epoch of ``Sun Nov 22 06:41:44 2026``, local time, or of a number; else None."""
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{9,11}", stripped):
        return float(stripped)
    match = _DATE.fullmatch(stripped)
    if match is None or match[1] not in _MONTHS:
        return None
    day, hour, minute, second, year = (int(part) for part in match.groups()[1:])
    try:
        return datetime(year, _MONTHS.index(match[1]) + 1, day, hour, minute, second).timestamp()  # noqa: DTZ001 - local time
    except (ValueError, OverflowError, OSError):
        return None


def parse_span(text: str) -> float | None:
    """Return the seconds of ``01:30:00`` or ``90``; None when it is neither."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600.0 + minutes * 60.0 + seconds


def parse_integer(text: str | None) -> int | None:
    """Return the number; None when there is none."""
    return int(text) if text is not None and _INTEGER.fullmatch(text.strip()) else None
