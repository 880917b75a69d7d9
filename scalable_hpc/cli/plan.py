"""``scalable-hpc plan``: what a session would ask the batch system for, and where every setting comes from."""

from __future__ import annotations

import argparse
import json

from scalable_hpc.cli.manifest_arguments import add_manifest_arguments, chosen_session


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("plan", help="show allocations, node-hours, scripts and the source of every setting")
    add_manifest_arguments(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the plan; nothing is submitted or written."""
    plan = chosen_session(arguments).plan()
    print(json.dumps(plan.to_dict(), indent=2) if arguments.format == "json" else plan)
    return 0
