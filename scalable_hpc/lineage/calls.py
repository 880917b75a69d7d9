"""What tasks of a run were called with, found again in its journal: the ledger forgets it once there is a result.

Rule 1: blocks, and reads the whole journal; only what is damaged asks for it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection
from pathlib import Path

from scalable_hpc.lineage.codec import decode_event
from scalable_hpc.model.events import CallKept, TaskSubmitted

logger = logging.getLogger(__name__)

Calls = Callable[[Collection[str]], dict[str, TaskSubmitted]]
"""Returns how tasks were submitted, by id; those of which nothing is known are left out."""

_TIME = rb"[-+.\deE]+"
_TOLD = re.compile(
    rb'{"e":(?:"task_submitted","t":%b|"call_kept","t":%b,"call":{"at":%b),"task_id":("(?:[^"\\]|\\.)*")'
    % ((_TIME,) * 3)
)


def read_calls(journal: Path, task_ids: Collection[str]) -> dict[str, TaskSubmitted]:
    """Return how tasks were submitted, by id; also of calls that were answered from a store, and that others needed.

    What the journal does not tell, or not legibly, is left out.

    What is written to the journal must be on disk: a task that has a result was brought there long before.
    """
    wanted, found = set(task_ids), dict[str, TaskSubmitted]()
    try:
        with journal.open("rb") as file:
            for line in file:
                head = _TOLD.match(line)
                if head is None or json.loads(head[1]) not in wanted:
                    continue
                event = _submission(line)
                if event is not None:
                    found[event.task_id] = event
                if len(found) == len(wanted):
                    break
    except OSError as error:
        logger.warning("The journal %s cannot be read: %s", journal, error)
    return found


def _submission(line: bytes) -> TaskSubmitted | None:
    try:
        record = json.loads(line)
        del record["c"]
        event = decode_event(record)
    except (ValueError, KeyError):
        return None
    if isinstance(event, CallKept):
        return event.call
    return event if isinstance(event, TaskSubmitted) else None
