"""``scalable-hpc validate``: check a manifest and say everything that is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from scalable_hpc.errors import ManifestError


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("validate", help="check a manifest; the findings are printed as JSON")
    parser.add_argument("manifest", nargs="?", help="the manifest (default: $SCALABLE_MANIFEST or ./scalable.yaml)")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 when there is no error, else the manifest error's code."""
    from scalable_hpc.config.manifest import validate_manifest

    found = validate_manifest(arguments.manifest)
    print(json.dumps(asdict(found), indent=2, default=str))
    print(f"{len(found.errors)} errors, {len(found.warnings)} warnings", file=sys.stderr)
    return 0 if found.ok else ManifestError.exit_code
