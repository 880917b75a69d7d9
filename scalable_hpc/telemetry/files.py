"""A report as the two files that other programs read: ``failures.jsonl`` and ``summary.json``; pure.

Rule 1: drawn from the report, and so from the journal; whoever loses them has lost nothing.
Rule 2: fields are added, never renamed; ``version`` says when one changed its meaning.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from scalable_hpc.telemetry.reported import RunReport

VERSION = 1


def failures_jsonl(report: RunReport) -> str:
    """Return one JSON object a line for each task that failed for good, with all of its attempts; maybe nothing."""
    return "".join(
        _line({"version": VERSION, "run_id": report.run_id, **asdict(failure)}) for failure in report.failures
    )


def summary_json(report: RunReport) -> str:
    """Return the run in figures: everything in the report but what there is one of for each task or note."""
    told = asdict(report)
    for long in ("failures", "ended", "notes", "differing"):
        del told[long]
    return json.dumps({"version": VERSION, **told, "wall_s": report.wall_s}, indent=1) + "\n"


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"
