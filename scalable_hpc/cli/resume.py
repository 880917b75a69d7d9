"""``scalable-hpc resume RUN``: finish a run whose driver is dead, from its journal alone."""

from __future__ import annotations

import argparse
import os

from scalable_hpc.cli.run_arguments import add_run_arguments, chosen_run

_SOME_FAILED = 30


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "resume",
        help="finish a run whose driver is dead, from its journal alone",
        description="Runs what a dead driver had submitted and not finished, without its script. Results lie in the"
        " cache, where the script finds them when it is started again.",
    )
    add_run_arguments(parser, optional=False)
    parser.add_argument(
        "--retry-quarantined", action="store_true", help="try again the tasks that were stopped for killing workers"
    )
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Run what is left and print the report; 30 when some tasks failed."""
    from scalable_hpc.derived import report_of
    from scalable_hpc.session import ScalableSession
    from scalable_hpc.telemetry.text import render_report

    run = chosen_run(arguments)
    os.environ.setdefault("SCALABLE_HPC_PROGRESS", "1")
    progress = ScalableSession.resume(run, retry_quarantined=arguments.retry_quarantined)
    print(render_report(report_of(run)))
    return _SOME_FAILED if progress.failed else 0
