"""The two arguments that every verb reading a manifest takes."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalable_hpc.session import ScalableSession


def add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``[MANIFEST]`` and ``--target``."""
    parser.add_argument("manifest", nargs="?", help="the manifest (default: $SCALABLE_MANIFEST or ./scalable.yaml)")
    parser.add_argument("--target", help="a target of the manifest (default: $SCALABLE_TARGET, or the only one)")


def chosen_session(arguments: argparse.Namespace) -> ScalableSession:
    """Return a session on the manifest and target that the arguments name; ``--target`` is the last word.

    Raises:
        ManifestError: something in the manifest is wrong.
    """
    from scalable_hpc.session import ScalableSession

    if arguments.target:
        os.environ["SCALABLE_HPC_TARGET"] = arguments.target
    return ScalableSession.from_yaml(arguments.manifest)
