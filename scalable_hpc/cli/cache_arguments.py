"""What the verbs of ``scalable-hpc cache`` have in common: where the cache is, which keys are meant, how to print."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalable_hpc.errors import ScalableError, StoreError

if TYPE_CHECKING:
    from scalable_hpc.cache.books import Books

Act = Callable[[argparse.Namespace], int]
SHORTEST_PREFIX = 4
"""Digits of a key that people must give at least."""


def add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    act: Act,
    *,
    formats: bool = False,
) -> argparse.ArgumentParser:
    """Add one action of the cache verb."""
    parser = actions.add_parser(name, help=text, description=text)
    where = "the cache (default: $SCALABLE_HPC_CACHE_DIR, $SCALABLE_CACHE_DIR or ./.scalable/cache)"
    parser.add_argument("--cache-dir", help=where)
    manifest = (
        "whose cache it is, and with whom it is shared (default: $SCALABLE_MANIFEST or ./scalable.yaml, if there)"
    )
    parser.add_argument("--manifest", metavar="FILE", help=manifest)
    parser.add_argument("--target", help="the manifest's target: its site may share the cache with a group")
    if formats:
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def guarded(arguments: argparse.Namespace) -> int:
        try:
            _follow_manifest(arguments)
            return act(arguments)
        except BrokenPipeError:
            raise
        except OSError as err:
            raise StoreError(f"cache {name}: {err}") from err

    parser.set_defaults(act=guarded)
    return parser


def _follow_manifest(arguments: argparse.Namespace) -> None:
    """Look where, and for whom, a session of this manifest would keep results.

    Raises:
        ManifestError: the manifest that was named is wrong; one that only lies there is passed over, with a word.
    """
    from scalable_hpc.cache.layout import trust_group
    from scalable_hpc.config.manifest import DEFAULT_PATH, load_manifest
    from scalable_hpc.config.sheet import from_environment

    is_named = bool(arguments.manifest or arguments.target or from_environment(os.environ, "MANIFEST"))
    if not is_named and not Path(DEFAULT_PATH).is_file():
        return
    try:
        manifest = load_manifest(arguments.manifest, arguments.target)
    except ScalableError as err:
        if is_named:
            raise
        print(f"{DEFAULT_PATH} is passed over: {err}", file=sys.stderr)
        return
    trust_group(manifest.cache_group)
    if arguments.cache_dir is None:
        arguments.cache_dir = str(manifest.cache_root)


def root_of(arguments: argparse.Namespace) -> str:
    """Return the cache that is meant."""
    from scalable_hpc.cache.decorator import default_store_root

    return arguments.cache_dir or default_store_root()


def books_of(arguments: argparse.Namespace) -> Books:
    """Return the cache that is meant, read.

    Raises:
        StoreError: there is none, or it is another user's.
    """
    from scalable_hpc.cache.books import Books

    return Books(root_of(arguments))


def keys_named(known: Iterable[str], given: Iterable[str]) -> list[str]:
    """Return the keys that people named by all or the first of their digits.

    Raises:
        StoreError: there is none, or several begin like that.
    """
    ordered = sorted(known)
    return list(dict.fromkeys(_key(ordered, each.lower()) for each in given))


def _key(known: list[str], given: str) -> str:
    found = [key for key in known if key.startswith(given)] if len(given) >= SHORTEST_PREFIX else []
    if len(found) > 1:
        raise StoreError(f"{len(found)} keys begin with {given!r}", hint="give more digits")
    if not found:
        raise StoreError(
            f"no key begins with {given!r} (at least {SHORTEST_PREFIX} digits)", hint="scalable-hpc cache ls"
        )
    return found[0]


def span(text: str) -> float:
    """Return a span of time that somebody typed, in seconds."""
    from scalable_hpc.model.units import parse_walltime

    return argument(parse_walltime, text)


def argument(parse: Callable[[str], int], text: str) -> int:
    """Return what a word of the command line says.

    Raises:
        ArgumentTypeError: it says nothing that ``parse`` knows.
    """
    try:
        return parse(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2))


def moment(seconds: float) -> str:
    """Return a time as people read it here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
