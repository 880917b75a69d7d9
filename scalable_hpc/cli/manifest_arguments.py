"""The two arguments that every verb reading a manifest takes."""

from __future__ import annotations

import argparse


def add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``[MANIFEST]`` and ``--target``."""
    parser.add_argument("manifest", nargs="?", help="the manifest (default: $SCALABLE_MANIFEST or ./scalable.yaml)")
    parser.add_argument("--target", help="a target of the manifest (default: $SCALABLE_TARGET, or the only one)")
