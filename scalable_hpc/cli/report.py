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
    parser.add_argument(
        "--attempts",
        action="store_true",
        help="every attempt that ended without a result, and all that is known of it",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the report, and leave its figures in the run's directory where that can be written."""
    from scalable_hpc.derived import report_of
    from scalable_hpc.telemetry.text import render_attempts, render_failures, render_report

    if arguments.last:
        arguments.run = None
    report = report_of(chosen_run(arguments))
    if arguments.format == "json":
        print(json.dumps(asdict(report), indent=2, default=str))
    elif arguments.attempts:
        print(render_attempts(report))
    else:
        print(render_failures(report) if arguments.failures else render_report(report))
    return 0
