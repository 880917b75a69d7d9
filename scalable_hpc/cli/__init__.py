"""The ``scalable-hpc`` command: one file per verb, each with ``add`` (its arguments) and ``run`` (what it does).

Rule 1: data goes to stdout, talk to stderr.
Rule 2: an error of ours is printed with its hint and exits with its class's code; others keep their traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from scalable_hpc.cli import (
    cache,
    cancel,
    demo,
    doctor,
    explain,
    plan,
    rehearse,
    render,
    report,
    resume,
    run,
    site,
    status,
    submit,
    validate,
)
from scalable_hpc.errors import ScalableError
from scalable_hpc.version import __version__

_VERBS = (
    run,
    submit,
    plan,
    render,
    validate,
    status,
    explain,
    report,
    resume,
    cancel,
    cache,
    site,
    doctor,
    rehearse,
    demo,
)
_WITH_SCRIPT = ("run", "submit", "rehearse")
"""Verbs that hand on to a script what stands after ``--``."""
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = _read(sys.argv[1:] if argv is None else argv)
    try:
        return int(arguments.act(arguments))
    except ScalableError as error:
        print(f"scalable-hpc: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("scalable-hpc: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away: `scalable-hpc render | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _read(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line; argparse loses what follows ``--`` when options stand between a script and that."""
    parser = _parser()
    if argv[:1] and argv[0] in _WITH_SCRIPT and "--" in argv:
        at = list(argv).index("--")
        arguments = parser.parse_args(argv[:at])
        arguments.arguments += argv[at + 1 :]
        return arguments
    return parser.parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scalable-hpc",
        description="Ensembles that finish on Slurm, PBS and Local, whatever happens to jobs, nodes and drivers.",
    )
    parser.add_argument("--version", action="version", version=f"scalable-hpc {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in _VERBS:
        verb.add(verbs)
    return parser
