"""What follows a link of a driver's chain; pure: facts in, one step with its reason out.

Rule 1: one ordered table, the first row that applies has the word.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from scalable_hpc.exits import AGAIN
from scalable_hpc.model.units import format_walltime

_SIGNAL_BASE = 128
_ENDERS = tuple(signal.Signals[name] for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGUSR1"))
_ENDED_BY_OTHERS = frozenset(code for number in _ENDERS for code in (-number, _SIGNAL_BASE + number))
"""Exit codes of a script that somebody ended: a walltime, an administrator, the machine for want of memory."""


class Follows(Enum):
    """What is done after a link."""

    NOTHING = "the script is done"
    NEXT = "the next link"
    STOP = "the chain stops"


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """One link, as far as it has come."""

    number: int
    """From 1."""
    most: int
    """How many links there may be."""
    is_chain: bool
    """Whether another link may follow at all."""
    exit_code: int | None
    """Of the script; negative: the signal that ended it; None: the link itself ended without a word."""
    gained: int
    """Receipts taken, and checkpoints made, since the link began."""
    ran_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """What follows, and why."""

    follows: Follows
    because: str


@dataclass(frozen=True, slots=True)
class _Row:
    applies: Callable[[LinkFacts], bool]
    follows: Follows
    because: Callable[[LinkFacts], str]


def _was_cut_short(facts: LinkFacts) -> bool:
    return facts.exit_code is None or facts.exit_code == AGAIN or facts.exit_code in _ENDED_BY_OTHERS


def _how(facts: LinkFacts) -> str:
    if facts.exit_code == AGAIN:
        return f"link {facts.number} came to the end of its walltime"
    if facts.exit_code is None:
        return f"link {facts.number} ended without a word"
    return f"the script was ended from outside (exit code {facts.exit_code}) in link {facts.number}"


_ROWS: tuple[_Row, ...] = (
    _Row(lambda facts: facts.exit_code == 0, Follows.NOTHING, lambda _: "the script ended with exit code 0"),
    _Row(
        lambda facts: not _was_cut_short(facts),
        Follows.STOP,
        lambda facts: f"the script failed with exit code {facts.exit_code} in link {facts.number}",
    ),
    _Row(lambda facts: not facts.is_chain, Follows.STOP, lambda facts: f"{_how(facts)}, and no other is to follow"),
    _Row(
        lambda facts: facts.gained <= 0,
        Follows.STOP,
        lambda facts: (
            f"{_how(facts)} and got nowhere: no result and no checkpoint in"
            f" {format_walltime(max(1, round(facts.ran_s)))}; another one would not, either"
        ),
    ),
    _Row(
        lambda facts: facts.number >= facts.most,
        Follows.STOP,
        lambda facts: f"{_how(facts)}, the last of {facts.most} (--max-links)",
    ),
    _Row(lambda _: True, Follows.NEXT, lambda facts: f"{_how(facts)}, {facts.gained} results further"),
)


def what_follows(facts: LinkFacts) -> Step:
    """Return what is done after a link."""
    row = next(row for row in _ROWS if row.applies(facts))
    return Step(row.follows, row.because(facts))
