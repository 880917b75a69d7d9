"""What the probe is told: a file in each directory that driver and nodes are thought to share.

Rule 1: the file is its owner's alone, and so is the directory around it; nothing secret is on a command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "order.json"
HELLO, ANSWER = "hello-", "answer-"
"""What the names of a node's two files begin with."""


@dataclass(frozen=True, slots=True)
class Place:
    """A shared directory, and the probe's own directory in it."""

    label: str
    path: str
    own: str
    """0700, with the order in it; removed afterwards."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the probe is to do."""

    host: str
    port: int
    """Of the driver; 0: it does not listen."""
    ca: str
    cert: str
    key: str
    interface: str | None
    modules: tuple[str, ...]
    places: tuple[Place, ...]
    patience_s: float = 10.0
    """How long it waits for the driver to connect to it."""


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write aside and rename, for the owner alone."""
    aside = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def write_order(order: Order) -> None:
    """Lay it into each place.

    Raises:
        OSError: one of them cannot be written.
    """
    for place in order.places:
        write_json(Path(place.own) / FILE, asdict(order))


def read_order(own: Path) -> Order | None:
    """Return the order in a directory; None where there is none to be seen."""
    try:
        found = json.loads((own / FILE).read_text())
    except (OSError, ValueError):
        return None
    places = tuple(Place(**place) for place in found.pop("places"))
    return Order(**{**found, "modules": tuple(found["modules"]), "places": places})
