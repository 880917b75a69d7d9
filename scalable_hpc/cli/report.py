"""``scalable-hpc report``: what happened in a run, from its journal, finished or not."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("report", help="what happened in a run, from its journal, finished or not")
    parser.add_argument("run", nargs="?", help="a run's id or the start of it (default: the newest)")
    parser.add_argument("--last", action="store_true", help="the newest run, which is also the default")
    parser.add_argument("--failures", action="store_true", help="only the tasks that failed for good")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    where = "where the runs are (default: $SCALABLE_HPC_RUNS_DIR or ./.scalable/runs)"
    parser.add_argument("--runs-dir", type=Path, help=where)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from scalable_hpc.lineage.journal import read_events
    from scalable_hpc.runs import find_run
    from scalable_hpc.telemetry.report import build_report
    from scalable_hpc.telemetry.text import render_failures, render_report

    runs_dir = arguments.runs_dir or Path(
        os.environ.get("SCALABLE_HPC_RUNS_DIR") or os.environ.get("SCALABLE_RUNS_DIR") or ".scalable/runs"
    )
    run = find_run(runs_dir, None if arguments.last else arguments.run)
    report = build_report(read_events(run.journal))
    if arguments.format == "json":
        print(json.dumps(asdict(report), indent=2, default=str))
    else:
        print(render_failures(report) if arguments.failures else render_report(report))
    return 0
