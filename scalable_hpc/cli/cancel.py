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


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "cancel",
        help="end a run: its driver is asked to stop, or its orphaned jobs are cancelled",
        description="Asks the run's driver to stop, as Ctrl-C would; a run whose driver is dead has its jobs cancelled."
        " What is done stays done, and 'scalable-hpc resume' can take it up again.",
    )
    add_run_arguments(parser, optional=False)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Stop the driver on this machine, or cancel what a dead one left."""
    from scalable_hpc.backends import backend_for_orphans
    from scalable_hpc.config.manifest import load_manifest
    from scalable_hpc.lineage.lease import lives, read_holder
    from scalable_hpc.sweep import sweep_run

    run = chosen_run(arguments)
    holder = read_holder(run.path)
    if holder is not None and holder.host == socket.gethostname() and lives(holder, time.time()):
        os.kill(holder.pid, signal.SIGTERM)
        print(f"asked {holder} to stop", file=sys.stderr)
        return 0
    plan = run.read_plan()
    manifest = load_manifest(plan["manifest"], target=plan["target"], text=run.read_manifest())
    words = asyncio.run(sweep_run(run, partial(backend_for_orphans, manifest.target)))
    if not words:
        where = f" by {holder}" if holder is not None else ""
        raise ScalableError(
            f"run {run.run_id!r} is being driven{where}", hint="run this command on the driver's machine"
        )
    print(words, file=sys.stderr)
    return 0
