"""``scalable-hpc cancel RUN``: end a run, whether its driver lives or not."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from functools import partial

from scalable_hpc.cli.run_arguments import add_run_arguments, chosen_run
from scalable_hpc.errors import ScalableError
from scalable_hpc.runs import RunDirectory


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "cancel",
        help="end a run: its driver is asked to stop, or its orphaned jobs are cancelled",
        description="Asks the run's driver to stop, as Ctrl-C would; a run whose driver is dead has its jobs cancelled,"
        " and so has a driver that is a chain of jobs."
        " What is done stays done, and 'scalable-hpc resume' can take it up again.",
    )
    add_run_arguments(parser, optional=False)
    parser.set_defaults(act=act)


def _cancel_links(run: RunDirectory) -> bool:
    """End a chain of driver jobs first, or the next one would take the run up again; whether there was one."""
    from scalable_hpc.chain.book import STOPPED, Book, Entry
    from scalable_hpc.chain.opening import cancel_links, manifest_of

    if not run.is_chained:
        return False
    book = Book(run)
    jobs = book.jobs()
    run.driver_order.unlink(missing_ok=True)
    book.note(Entry(max((entry.link for entry in book), default=0), STOPPED, time.time(), "cancelled by its user"))
    cancel_links(manifest_of(run), run, jobs)
    print(f"cancelled the driver's jobs {', '.join(jobs)}", file=sys.stderr)
    return True


def act(arguments: argparse.Namespace) -> int:
    """Stop the driver on this machine, or cancel what a dead one left."""
    from scalable_hpc.backends import backend_for_orphans
    from scalable_hpc.chain.opening import manifest_of
    from scalable_hpc.lineage.lease import lives, read_holder
    from scalable_hpc.sweep import sweep_run

    run = chosen_run(arguments)
    was_chained = _cancel_links(run)
    holder = read_holder(run.path)
    if holder is not None and holder.host == socket.gethostname() and lives(holder, time.time()):
        os.kill(holder.pid, signal.SIGTERM)
        print(f"asked {holder} to stop", file=sys.stderr)
        return 0
    manifest = manifest_of(run)
    words = asyncio.run(sweep_run(run, partial(backend_for_orphans, manifest.target)))
    if was_chained and not words:
        return 0  # its driver is being ended now, and gives back what it holds
    if not words:
        where = f" by {holder}" if holder is not None else ""
        raise ScalableError(
            f"run {run.run_id!r} is being driven{where}", hint="run this command on the driver's machine"
        )
    print(words, file=sys.stderr)
    return 0
