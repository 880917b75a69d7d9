"""What is wrong with a file, as data: all of it, not only the first thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.errors import ManifestError, UnknownTargetError, WalltimeError


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something was written."""

    file: str
    """As shown in messages."""
    line: int | None
    path: Path | None = None
    """The file itself; None for what no file says (defaults, the command line)."""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class ValidationIssue:
    """One thing that is wrong, or that has no effect."""

    path: str
    """The setting: ``targets.hpc.walltime``."""
    message: str
    code: str
    """``E_...`` for errors, ``W_...`` for warnings."""
    line: int | None = None
    file: str = ""
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{place}: {self.message}" if place else self.message


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Everything found in a manifest and the site configs under it."""

    errors: tuple[ValidationIssue, ...] = field(default=())
    warnings: tuple[ValidationIssue, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors


_CLASS_OF = {
    "E_BAD_WALLTIME": WalltimeError,
    "E_WALLTIME_NUMBER": WalltimeError,
    "E_UNKNOWN_TARGET": UnknownTargetError,
}


def error_for(issues: Iterable[ValidationIssue]) -> ManifestError:
    """Return the error for the first issue by line, which tells the others too."""
    ordered = in_order(issues)
    first, others = ordered[0], ordered[1:]
    message = str(first)
    if others:
        message += f"\n\n{len(others)} more:\n" + "\n".join(f"  {issue}" for issue in others)
    return _CLASS_OF.get(first.code, ManifestError)(message, hint=first.hint)


def in_order(issues: Iterable[ValidationIssue]) -> list[ValidationIssue]:
    """Return the issues without repetition, by file in order of appearance, then by line."""
    unique = list(dict.fromkeys(issues))
    files = list(dict.fromkeys(issue.file for issue in unique))
    return sorted(unique, key=lambda issue: (files.index(issue.file), issue.line or 0))
