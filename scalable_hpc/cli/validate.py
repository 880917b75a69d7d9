"""``scalable-hpc validate``: check a manifest and say everything that is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from scalable_hpc.cli.manifest_arguments import add_manifest_arguments


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("validate", help="check a manifest; the findings are printed as JSON")
    add_manifest_arguments(parser)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 when there is no error, else the code of the first one."""
    from scalable_hpc.session import ScalableSession

    session = ScalableSession.from_yaml(arguments.manifest, target=arguments.target)
    found = session.validate()
    print(json.dumps(asdict(found), indent=2, default=str))
    print(f"{len(found.errors)} errors, {len(found.warnings)} warnings", file=sys.stderr)
    return 0 if found.ok else 10
