"""``scalable-hpc submit DRIVER.py``: the driver script as a chain of batch jobs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from scalable_hpc.cli.run import DriverMissing
from scalable_hpc.errors import ScalableError
from scalable_hpc.model.units import parse_memory, parse_walltime

_LEAD_S = 60.0
_LEAD_SHARE = 0.25
"""Of a link's walltime, at most, for the script to end in good order."""
_MOST_LINKS = 100


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "submit",
        help="run a driver script as a batch job, followed by others until it is done",
        description="Submit a Python driver script as a batch job of the target. Before the job's walltime is over the"
        " script is ended in good order (SystemExit, exit code 75), its allocations go on, and the next job of the"
        " chain runs it again on the same run: what has a result is not computed again. The chain ends with the"
        " script, or when a job gets nowhere. Arguments for the script follow '--'.",
    )
    parser.add_argument("driver", type=Path, metavar="DRIVER.py")
    parser.add_argument("--target", help="the target to use (default: $SCALABLE_TARGET, or the only one)")
    parser.add_argument("--manifest", help="the manifest (default: ./scalable.yaml)")
    parser.add_argument("--run", metavar="RUN", help="go on with this run, whose chain has stopped")
    parser.add_argument("--walltime", help="of each job (default: that of the target's allocations)")
    parser.add_argument("--chain", action=argparse.BooleanOptionalAction, default=True, help="whether jobs follow it")
    parser.add_argument("--max-links", type=int, default=_MOST_LINKS, help="jobs at most (default: %(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="of the driver's job (default: %(default)s)")
    parser.add_argument("--memory", default="2G", help="of the driver's job (default: %(default)s)")
    parser.add_argument("--partition", "--queue", help="where the driver runs (default: where allocations do)")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGS", help="arguments for the script")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Submit the first job of the chain, and say how to follow it."""
    from scalable_hpc.chain.book import Book, Order
    from scalable_hpc.chain.opening import begin_chain, go_on_with_chain, refuse_what_never_runs
    from scalable_hpc.chain.outlook import first_word
    from scalable_hpc.config.manifest import load_manifest
    from scalable_hpc.runs import find_run

    driver = arguments.driver.absolute()
    if not driver.is_file():
        raise DriverMissing(f"no such driver script: {str(arguments.driver)!r}", hint=f"ls {arguments.driver.parent}")
    manifest = load_manifest(arguments.manifest, target=arguments.target)
    walltime_s = _walltime(arguments.walltime, manifest.target.walltime_s)
    order = Order(
        str(driver),
        tuple(arguments.arguments),
        str(Path.cwd()),
        walltime_s,
        min(_LEAD_S, _LEAD_SHARE * walltime_s),
        arguments.chain,
        _at_least_one("--max-links", arguments.max_links),
        sys.executable,
        _at_least_one("--cpus", arguments.cpus),
        _memory(arguments.memory),
        arguments.partition,
    )
    if arguments.run:
        run = find_run(manifest.runs_root, arguments.run)
        job_id = go_on_with_chain(manifest, run, order)
    else:
        run, job_id = begin_chain(manifest, order)
    outlook = first_word(manifest, run, job_id)
    if outlook is not None:
        refuse_what_never_runs(manifest, run, max(entry.link for entry in Book(run)), outlook)
    where = os.path.relpath(run.path)
    print(run.run_id)
    print(
        f"job {job_id}; its output goes to {where}/logs; follow it: scalable-hpc status {run.run_id}", file=sys.stderr
    )
    if outlook is not None and outlook.words:
        print(f"job {job_id} waits: {outlook}", file=sys.stderr)
    return 0


def _walltime(said: str | None, default: int) -> int:
    try:
        return default if said is None else parse_walltime(said)
    except ValueError as err:
        raise BadOption(f"--walltime: {err}", hint="write it as '04:00:00' or '4h'") from err


def _memory(said: str) -> int:
    try:
        return parse_memory(said)
    except ValueError as err:
        raise BadOption(f"--memory: {err}", hint="write it as '2G'") from err


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise BadOption(f"{name} must be 1 or more: {str(value)!r}")
    return value


class BadOption(ScalableError):
    """An option's value is out of range."""

    exit_code = 2
