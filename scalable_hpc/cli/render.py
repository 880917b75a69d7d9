"""``scalable-hpc render``: the exact job script that would be submitted."""

from __future__ import annotations

import argparse
import sys

from scalable_hpc.cli.manifest_arguments import add_manifest_arguments, chosen_session


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("render", help="print the exact job script of an allocation")
    add_manifest_arguments(parser)
    parser.add_argument("--worker-type", help="a component of the manifest (default: all that are used)")
    parser.add_argument("--layers", action="store_true", help="also show every setting and its layer, on stderr")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the script of each worker type."""
    plan = chosen_session(arguments).plan()
    scripts = plan.scripts
    wanted = arguments.worker_type
    if wanted is not None and wanted not in scripts:
        from scalable_hpc.errors import ManifestError

        raise ManifestError(f"no such worker type: {wanted!r}; there is {', '.join(sorted(scripts))}")
    for name, text in scripts.items():
        if wanted in (None, name):
            print(text, end="" if text.endswith("\n") else "\n")
    if arguments.layers:
        print("settings, and who set them:", *plan.layers, sep="\n", file=sys.stderr)
    return 0
