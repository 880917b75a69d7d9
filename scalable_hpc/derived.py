"""A run's report, and the files in its directory that are drawn from it.

Rule 1: the journal is the only truth: what is written here may be deleted at any time.
Rule 2: a directory that cannot be written is no reason not to report.
"""

from __future__ import annotations

import logging

from scalable_hpc.errors import ScalableError
from scalable_hpc.lineage.journal import read_events
from scalable_hpc.runs import RunDirectory
from scalable_hpc.telemetry.files import failures_jsonl, summary_json
from scalable_hpc.telemetry.report import build_report
from scalable_hpc.telemetry.reported import RunReport

logger = logging.getLogger(__name__)

AT_CLOSE_BYTES = 32 * 1024 * 1024
"""Of a journal: some hundred thousand tasks, a few seconds. A longer one is summed up when a report is asked for."""


def report_of(run: RunDirectory) -> RunReport:
    """Fold the journal into a report, and leave ``failures.jsonl`` and ``summary.json`` in the run's directory.

    Raises:
        JournalError: the journal is damaged.
        RunDirectoryError: it cannot be read.
    """
    report = build_report(read_events(run.journal))
    try:
        run.keep("failures.jsonl", failures_jsonl(report))
        run.keep("summary.json", summary_json(report))
    except OSError as error:
        logger.warning("failures.jsonl and summary.json cannot be written in %s: %s", run.path, error)
    return report


def sum_up(run: RunDirectory) -> None:
    """Do that at the end of a run, unless it would take long; never raises for what it finds there."""
    try:
        if run.journal.stat().st_size <= AT_CLOSE_BYTES:
            report_of(run)
    except (OSError, ScalableError) as error:
        logger.warning("run %s cannot be summed up: %s", run.run_id, error)
