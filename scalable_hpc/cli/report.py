"""``scalable-hpc report``: what happened in a run, from its journal, finished or not."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from scalable_hpc.cli.run_arguments import add_run_arguments, chosen_run


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("report", help="what happened in a run, from its journal, finished or not")
    add_run_arguments(parser, optional=True)
    parser.add_argument("--last", action="store_true", help="the newest run, which is also the default")
    parser.add_argument("--failures", action="store_true", help="only the tasks that failed for good")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from scalable_hpc.lineage.journal import read_events
    from scalable_hpc.telemetry.report import build_report
    from scalable_hpc.telemetry.text import render_failures, render_report

    if arguments.last:
        arguments.run = None
    run = chosen_run(arguments)
    report = build_report(read_events(run.journal))
    if arguments.format == "json":
        print(json.dumps(asdict(report), indent=2, default=str))
    else:
        print(render_failures(report) if arguments.failures else render_report(report))
    return 0
