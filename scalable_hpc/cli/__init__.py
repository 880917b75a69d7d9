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

_VERBS = (run, submit, plan, render, validate, status, explain, report, resume, cancel, cache, site, doctor, demo)
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = _parser().parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scalable-hpc",
        description="Ensembles that finish on Slurm and on this machine, whatever happens to jobs, nodes and drivers.",
    )
    parser.add_argument("--version", action="version", version=f"scalable-hpc {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in _VERBS:
        verb.add(verbs)
    return parser
