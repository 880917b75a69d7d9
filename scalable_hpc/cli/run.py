"""``scalable-hpc run DRIVER.py``: run a driver script with a live progress display."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path

from scalable_hpc.errors import ScalableError


class DriverMissing(ScalableError):
    """The driver script cannot be read."""

    exit_code = 2


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "run",
        help="run a driver script with a live progress display",
        description="Run a Python driver script as __main__, with a live progress display on stderr. Arguments for"
        " the script follow '--'. --target holds also where the script names another target.",
    )
    parser.add_argument("driver", type=Path, metavar="DRIVER.py")
    parser.add_argument("--target", help="the target to use, whatever the script says")
    parser.add_argument("--manifest", help="the manifest, where the script does not name one")
    parser.add_argument("--run", metavar="RUN", help="go on with this run, which the script had begun before")
    parser.add_argument(
        "--retry-quarantined",
        action="store_true",
        help="with --run: also the tasks that it stopped for killing workers",
    )
    parser.add_argument("--no-progress", action="store_true", help="show nothing while it runs")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGS", help="arguments for the script")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Run the script in this process, as ``python DRIVER.py`` would."""
    driver = arguments.driver
    if not driver.is_file():
        raise DriverMissing(f"no such driver script: {str(driver)!r}", hint=f"ls {driver.parent}")
    if arguments.target:
        os.environ["SCALABLE_HPC_TARGET"] = arguments.target
    if arguments.manifest:
        os.environ["SCALABLE_HPC_MANIFEST"] = arguments.manifest
    if arguments.run:
        os.environ["SCALABLE_HPC_RUN"] = arguments.run
    if arguments.retry_quarantined:
        os.environ["SCALABLE_HPC_RETRY_QUARANTINED"] = "1"
    os.environ["SCALABLE_HPC_PROGRESS"] = "0" if arguments.no_progress else "1"
    sys.argv = [str(driver), *arguments.arguments]
    sys.path.insert(0, str(driver.resolve().parent))
    runpy.run_path(str(driver), run_name="__main__")
    return 0
