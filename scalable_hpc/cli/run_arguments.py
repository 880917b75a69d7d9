"""The arguments of every verb that is about one run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from scalable_hpc.config.sheet import from_environment
from scalable_hpc.runs import RunDirectory, find_run


def add_run_arguments(parser: argparse.ArgumentParser, *, optional: bool) -> None:
    """Add ``RUN`` and ``--runs-dir``."""
    newest = " (default: the newest)" if optional else ""
    parser.add_argument("run", nargs="?" if optional else None, help=f"a run's id or the start of it{newest}")
    add_runs_dir(parser)


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--runs-dir``."""
    where = "where the runs are (default: $SCALABLE_HPC_RUNS_DIR or ./.scalable/runs)"
    parser.add_argument("--runs-dir", type=Path, help=where)


def chosen_run(arguments: argparse.Namespace) -> RunDirectory:
    """Return the run that the arguments name.

    Raises:
        RunDirectoryError: there is none, or several begin like that.
    """
    return run_named(arguments, arguments.run)


def run_named(arguments: argparse.Namespace, name: str | None) -> RunDirectory:
    """Return the run of a name, among those that the arguments say.

    Raises:
        RunDirectoryError: there is none, or several begin like that.
    """
    said = from_environment(os.environ, "RUNS_DIR")
    runs_dir = arguments.runs_dir or Path(said[0] if said else ".scalable/runs")
    return find_run(runs_dir.absolute(), name)
