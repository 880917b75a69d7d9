"""``${VAR}`` and ``${VAR:-default}`` in the text of a configuration file; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"(?P<escaped>\$)?\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the text with ``${VAR}`` and ``${VAR:-default}`` replaced, and the first variable that is not set.

    As in a shell, ``:-`` also replaces an empty value; other uses of ``$`` are left alone.
    """
    unset: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return match[0][1:]
        found = environ.get(match["name"])
        if match["default"] is not None:
            return found or match["default"]
        if found is None:
            unset.append(match["name"])
        return found or ""

    expanded = _VARIABLE.sub(value, text)
    return expanded, unset[0] if unset else None


def inserted(text: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the variables whose values ``expand`` puts into the text, with those values."""
    names = [match["name"] for match in _VARIABLE.finditer(text) if not match["escaped"]]
    return tuple((name, value) for name in dict.fromkeys(names) if (value := environ.get(name)))
