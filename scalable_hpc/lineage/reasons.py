"""Why tasks wait, as a living driver knows it: what the last round of placement and the fleet said; pure.

The journal tells what happened; why nothing happens is known to the driver alone, and put down for others to read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scalable_hpc.lineage.lanes import LaneKey, Queued, lane_key

FORMAT = 1
LANES_MOST = 1_000
"""Kinds of tasks that are told of: more would make a large file of what nobody reads to its end."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """What one driver said at one time."""

    pid: int
    at: float
    """Seconds since the epoch."""
    lanes: Mapping[LaneKey, str] = field(default_factory=dict)
    """Why the first task of each kind, and so those behind it, was not placed."""
    fleet: Mapping[str, str] = field(default_factory=dict)
    """Worker type to why no (further) allocation of it is asked for, where tasks wait for one."""

    def of(self, record: Queued) -> str:
        """Return why a task was not placed; empty: nothing was said of its kind."""
        return self.lanes.get(_without_holders(lane_key(record)), "")


def reasons(pid: int, at: float, unplaced: Mapping[LaneKey, str], fleet: Mapping[str, str]) -> Reasons:
    """Return what is to be told; kinds that differ only in which workers hold what they need are told of together."""
    lanes: dict[LaneKey, str] = {}
    for key, because in unplaced.items():
        if len(lanes) >= LANES_MOST:
            break
        lanes.setdefault(_without_holders(key), because)
    return Reasons(pid, at, lanes, dict(fleet))


def to_text(told: Reasons) -> str:
    """Return reasons as they are put down."""
    lanes = [{**asdict(key), "because": because} for key, because in told.lanes.items()]
    return json.dumps({"format": FORMAT, "pid": told.pid, "at": told.at, "lanes": lanes, "fleet": dict(told.fleet)})


def from_text(text: str) -> Reasons | None:
    """Return what ``to_text`` wrote; None: it is damaged, or of another version."""
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            return None
        lanes = dict(map(_lane, found["lanes"]))
        fleet = {str(name): str(because) for name, because in found["fleet"].items()}
        return Reasons(int(found["pid"]), float(found["at"]), lanes, fleet)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _lane(entry: dict[str, Any]) -> tuple[LaneKey, str]:
    because = str(entry.pop("because"))
    return LaneKey(**{**entry, "holders": tuple(entry["holders"])}), because


def _without_holders(key: LaneKey) -> LaneKey:
    return replace(key, holders=()) if key.holders else key
