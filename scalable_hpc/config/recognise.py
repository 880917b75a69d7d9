"""Says which machine this is, by the signs that site configs give of themselves.

Rule 1: pure; what there is to see comes as ``Surroundings``.
Rule 2: nobody guesses: two machines with equally many signs are both told, and none is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalable_hpc.config.site_schema import Detection


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process can see of the machine that it is on."""

    hostnames: tuple[str, ...]
    environ: Mapping[str, str]
    files: frozenset[str] = frozenset()
    """Of the files that were looked for, those that are there."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A site whose signs are here."""

    site: str
    because: tuple[str, ...]
    """One reason for each kind of sign."""


def recognise(signs: Mapping[str, Detection], here: Surroundings) -> list[Recognised]:
    """Return the sites that this machine may be, that with most kinds of signs first."""
    found = [Recognised(site, tuple(_reasons(detection, here))) for site, detection in signs.items()]
    return sorted((one for one in found if one.because), key=lambda one: (-len(one.because), one.site))


def the_one(found: list[Recognised]) -> Recognised | None:
    """Return the site that has more signs than any other, if there is one."""
    if not found or (len(found) > 1 and len(found[0].because) == len(found[1].because)):
        return None
    return found[0]


def files_to_look_for(signs: Iterable[Detection]) -> set[str]:
    """Return every file that some site takes for a sign."""
    return {file for detection in signs for file in detection.files}


def _reasons(detection: Detection, here: Surroundings) -> Iterator[str]:
    for pattern in detection.hostnames:
        name = next((name for name in here.hostnames if fnmatchcase(name.lower(), pattern.lower())), None)
        if name is not None:
            yield f"hostname {name} is like {pattern}"
            break
    for variable, pattern in detection.env.items():
        value = here.environ.get(variable)
        if value is not None and fnmatchcase(value, pattern):
            yield f"${variable} is {value}"
            break
    for file in detection.files:
        if file in here.files:
            yield f"{file} is there"
            break
