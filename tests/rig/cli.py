"""``python -m tests.rig``: the rig by hand."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import fields

from tests.rig import packages
from tests.rig.cluster import SlurmRig
from tests.rig.settings import RigError, Settings

SOMETHING_DOWN = 1
NO_CLUSTER = 3


def main(argv: list[str] | None = None) -> int:
    """Do one verb; the exit code."""
    options = parser().parse_args(argv)
    try:
        return options.do(options) or 0
    except RigError as err:
        sys.stderr.write(f"rig: {err}\n")
        return 1


def parser() -> argparse.ArgumentParser:
    """One sub-parser per verb, holding the function that does it."""
    top = argparse.ArgumentParser(prog="python -m tests.rig", description="A real multi-node Slurm on this machine.")
    here = int(os.environ.get("SCALABLE_HPC_RIG_INSTANCE", "0"))
    top.add_argument("-i", "--instance", type=int, default=here, help="0..99: several clusters may run side by side")
    verbs = top.add_subparsers(required=True, metavar="VERB")

    up = verbs.add_parser("up", help="start what does not run")
    up.add_argument("--nodes", type=int)
    up.add_argument("--cpus", type=int, help="that each node pretends to have")
    up.add_argument("--memory-mb", type=int, help="that each node pretends to have")
    up.add_argument("--mode", choices=("netns", "host"))
    up.add_argument("--no-accounting", dest="accounting", action="store_false", default=None)
    up.add_argument("--memory-limit", choices=("cgroup", "poll", "none"))
    up.add_argument("--slurmd-timeout", type=int)
    up.add_argument("--message-timeout", type=int)
    up.set_defaults(do=do_up)

    down = verbs.add_parser("down", help="stop everything")
    down.add_argument("--purge", action="store_true", help="and remove the rig's directory")
    down.set_defaults(do=lambda options: rig_of(options).down(purge=options.purge))

    verbs.add_parser("reset", help="no jobs, all nodes in service").set_defaults(do=do_reset)
    verbs.add_parser("status", help="exit 0: all up, 1: something is down, 3: no cluster").set_defaults(do=do_status)
    verbs.add_parser("env", help="print what a shell needs: eval this").set_defaults(do=do_env)
    verbs.add_parser("install", help="only install Debian's packages").set_defaults(do=do_install)

    node = verbs.add_parser("node", help="do something to a node")
    node.add_argument("verb", help="crash fail start reboot partition heal hang unhang kill-slurmd exec pid pids ip")
    node.add_argument("name")
    node.add_argument("arguments", nargs=argparse.REMAINDER)
    node.set_defaults(do=do_node)

    daemon = verbs.add_parser("daemon", help="do something to a daemon of the head")
    daemon.add_argument("verb", help="stop kill hang unhang start")
    daemon.add_argument("name", help="munged mariadbd slurmdbd slurmctld")
    daemon.set_defaults(do=lambda options: rig_of(options).daemon(options.verb, options.name))
    return top


def rig_of(options: argparse.Namespace) -> SlurmRig:
    """The cluster that the options speak of."""
    given = {field.name: getattr(options, field.name, None) for field in fields(Settings)}
    return SlurmRig(**{name: value for name, value in given.items() if value is not None})


def do_up(options: argparse.Namespace) -> None:
    began = time.monotonic()
    rig = rig_of(options)
    rig.up()
    kind = "own namespaces" if rig.settings.mode == "netns" else "one address"
    sys.stderr.write(f"{len(rig.node_names)} nodes ({kind}) in service after {time.monotonic() - began:.1f} s\n")
    sys.stderr.write(f"next: . {rig.settings.root}/etc/env.sh\n")


def do_reset(options: argparse.Namespace) -> None:
    began = time.monotonic()
    rig_of(options).reset()
    sys.stderr.write(f"calm after {time.monotonic() - began:.1f} s\n")


def do_status(options: argparse.Namespace) -> int:
    rig = rig_of(options)
    if not rig.is_running():
        sys.stderr.write(f"no cluster at {rig.settings.root}\n")
        return NO_CLUSTER
    parts = rig.status()
    for part in parts:
        sys.stdout.write(f"{part.name} {'up' if part.is_up else 'DOWN'} {part.words}\n")
    return 0 if all(part.is_up for part in parts) else SOMETHING_DOWN


def do_env(options: argparse.Namespace) -> None:
    for name, value in rig_of(options).env.items():
        sys.stdout.write(f"export {name}='{value}'\n")


def do_install(_: argparse.Namespace) -> None:
    installed = packages.install(accounting=True)
    sys.stderr.write(f"installed: {' '.join(installed)}\n" if installed else "nothing was missing\n")


def do_node(options: argparse.Namespace) -> None:
    said = rig_of(options).node(options.verb, options.name, *options.arguments)
    if said:
        sys.stdout.write(said.rstrip("\n") + "\n")
