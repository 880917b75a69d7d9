"""Walltimes, memory sizes and shares: text at the door, numbers inside.

Walltimes are seconds (int), memory is bytes (int), shares are from 0 to 1.
"""

from __future__ import annotations

import re
from datetime import datetime

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}))?")
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]+)")
_SPAN_SECONDS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_SIXTY = 60
_K = 1024
_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgtp]?)(?:i?b)?", re.IGNORECASE)
SAMPLE = 0.05
"""What ``"sample"`` means: of a thousand calls fifty, so that a function that is wrong now and then shows."""
_MEMORY_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_walltime(text: str) -> int:
    """Return the seconds of a walltime or duration.

    Accepts ``HH:MM:SS``, ``D-HH:MM:SS``, ``HH:MM``, and spans such as ``"90m"``, ``"1h 30m"``, ``"45 s"``.
    Two numbers are hours and minutes, as PBS and people read them (Slurm's ``sbatch -t 10:30`` is minutes
    and seconds; we always hand Slurm the full ``D-HH:MM:SS``).

    Raises:
        ValueError: the text is none of these, or is zero.
    """
    stripped = text.strip().lower()
    if match := _CLOCK.fullmatch(stripped):
        part = {name: int(value or 0) for name, value in match.groupdict().items()}
        if part["minutes"] >= _SIXTY or part["seconds"] >= _SIXTY:
            raise ValueError(f"minutes and seconds must be below 60: {text!r}")
        total = part["days"] * 86400 + part["hours"] * 3600 + part["minutes"] * 60 + part["seconds"]
    else:
        total = _parse_span(stripped, text)
    if total <= 0:
        raise ValueError(f"a walltime must be longer than zero: {text!r}")
    return total


def _parse_span(stripped: str, text: str) -> int:
    found = list(_SPAN.finditer(stripped))
    rest = _SPAN.sub("", stripped).strip()
    if not found or rest or any(match["unit"] not in _SPAN_SECONDS for match in found):
        raise ValueError(f"not a walltime: {text!r} (write 'HH:MM:SS', 'D-HH:MM:SS' or '90m')")
    return round(sum(float(match["number"]) * _SPAN_SECONDS[match["unit"]] for match in found))


def format_walltime(seconds: float) -> str:
    """Return ``HH:MM:SS``, or ``D-HH:MM:SS`` from a day on, rounded up to the second."""
    whole = int(-(-seconds // 1))
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def format_time(at: float) -> str:
    """Return seconds since the epoch as this machine's date and time, to the minute: ``2026-11-22 14:05``."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def parse_memory(text: str) -> int:
    """Return the bytes of ``"8G"``, ``"500M"``, ``"1.5GiB"``; K, M, G, T, P are powers of 1024.

    Raises:
        ValueError: the text is not a size, or is zero.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a memory size: {text!r} (write '8G' or '500M')")
    size = round(float(match["number"]) * float(_K ** _MEMORY_POWER[match["unit"].lower()]))
    if size <= 0:
        raise ValueError(f"a memory size must be more than zero: {text!r}")
    return size


def format_memory(size: float) -> str:
    """Return a size people read: ``"1.5 GiB"``, ``"312 MiB"``, ``"17 B"``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < _K:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.4g} {unit}"
        value /= _K
    return f"{value:.3g} PiB"


def parse_share(value: object) -> float:
    """Return the share that ``verify_pure`` asks for: of ``"sample"``, or of a number from 0 to 1.

    Raises:
        ValueError: it is neither.
    """
    if value == "sample":
        return SAMPLE
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"verify_pure must be 'sample' or a share from 0 to 1: {value!r}")
    return float(value)
