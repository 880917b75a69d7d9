"""``scalable-hpc site``: the machines that are known, this machine, and a new one."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.errors import MissingCommandError, SiteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalable_hpc.config.site import Place

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("site", help="list, show, check or detect site configs, or draft a new one")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="the sites that are known here").set_defaults(act=_list)
    show = actions.add_parser("show", help="one site, as all its layers tell it")
    show.add_argument("name")
    show.add_argument("--layers", action="store_true", help="each value with its layer, and what it is laid over")
    show.set_defaults(act=_show)
    check = actions.add_parser("check", help="look for mistakes in a site config")
    check.add_argument("file", type=Path)
    check.set_defaults(act=_check)
    actions.add_parser("detect", help="the site that this machine is").set_defaults(act=_detect)
    new = actions.add_parser("new", help="ask the batch system what machine this is, and write a draft")
    new.add_argument("--batch", choices=("slurm", "pbs"), help="default: that whose commands are here")
    new.add_argument("--name", help="of the site (default: the cluster's own)")
    new.add_argument("--output", type=Path, help="a file that does not exist yet (default: stdout)")
    new.set_defaults(act=_new)
    actions.add_parser("schema", help="the JSON Schema of a site config").set_defaults(act=_schema)


def act(arguments: argparse.Namespace) -> int:
    """Do what the action says."""
    return int(arguments.act(arguments))


def _places() -> Sequence[Place]:
    from scalable_hpc.config.site import places

    return places(Path.cwd(), os.environ)


def _list(_: argparse.Namespace) -> int:
    """Print a line for each site that any layer knows."""
    from scalable_hpc.config.site import read_site, site_names

    where = _places()
    rows = [("SITE", "BATCH", "LAYERS", "DESCRIPTION")]
    for name, of_it in site_names(where).items():
        layers = ", ".join(place.layer for place in of_it)
        try:
            facts = read_site(name, None, where, os.environ).facts
        except SiteError as err:
            rows.append((name, "?", layers, err.message.partition("\n")[0]))
        else:
            rows.append((name, facts.batch or "any", layers, facts.description or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    """Print a site's values."""
    from scalable_hpc.config.site import read_site
    from scalable_hpc.config.site_text import as_yaml, by_layer

    site = read_site(arguments.name, None, _places(), os.environ)
    if arguments.layers:
        print(*by_layer(site), sep="\n")
    else:
        print(as_yaml(site), end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Print what is wrong with a file; on stderr, what it does not say."""
    from scalable_hpc.config.site import read_site_file
    from scalable_hpc.config.site_check import contradictions, unknowns
    from scalable_hpc.config.trust import NOBODY_ELSE
    from scalable_hpc.config.yaml_lines import mark_at

    file: Path = arguments.file
    tree, site = read_site_file(file.absolute(), str(file), os.environ, NOBODY_ELSE)
    wrong = [
        f"{mark_at(tree, tuple(key.split('.'))) or file}: {key}: {text}" for key, text in contradictions(site, tree)
    ]
    if wrong:
        raise SiteError("\n  ".join([f"{len(wrong)} contradictions in '{file}':", *wrong]))
    silent = list(unknowns(site))
    print(f"{file}: no mistakes found")
    for one in silent:
        print(f"not known, so not checked: {one}", file=sys.stderr)
    return 0


def _detect(_: argparse.Namespace) -> int:
    """Print the name of this machine's site; on stderr, why."""
    from scalable_hpc.batch.survey import COMMANDS, batch_here
    from scalable_hpc.config.recognise import the_one
    from scalable_hpc.config.site import SITE_OF_PROVIDER
    from scalable_hpc.config.surroundings import sites_here

    found, broken = sites_here(_places(), os.environ)
    for text in broken:
        print(text, file=sys.stderr)
    for one in found:
        print(f"{one.site}: {', '.join(one.because)}", file=sys.stderr)
    chosen = the_one(found)
    if chosen is not None:
        print(chosen.site)
        return 0
    if found:
        raise SiteError(
            "this machine has the signs of several sites", hint=f"write site: {found[0].site} in the target"
        )
    batch = batch_here()
    why = "no batch system's commands are" if batch is None else f"'{COMMANDS[batch]}' is"
    print(f"no site has signs of this machine; {why} on PATH", file=sys.stderr)
    print(SITE_OF_PROVIDER[batch or "local"])
    return 0


def _new(arguments: argparse.Namespace) -> int:
    """Write a draft from what the batch system says."""
    from scalable_hpc.batch.draft import write_draft
    from scalable_hpc.batch.survey import batch_here, interfaces_here, survey

    if arguments.name is not None and not _NAME.fullmatch(arguments.name):
        raise SiteError(f"'{arguments.name}' cannot be the name of a site", hint="letters, digits, '_', '.', '-'")
    batch = arguments.batch or batch_here()
    if batch is None:
        hint = "log in to a node of the cluster, or module load slurm"
        raise MissingCommandError("neither 'scontrol' nor 'qstat' is on PATH: no batch system to ask", hint=hint)
    machine = survey(batch)
    machine = machine if arguments.name is None else replace(machine, name=arguments.name)
    day = datetime.now().astimezone().date().isoformat()
    draft = write_draft(machine, day=day, host=socket.getfqdn(), interfaces=interfaces_here())
    if arguments.output is None:
        print(draft, end="")
        return 0
    try:
        with arguments.output.open("x", encoding="utf-8") as file:
            file.write(draft)
    except OSError as err:
        raise SiteError(f"cannot write '{arguments.output}': {err.strerror}", hint="give a new name") from err
    print(
        f"written: {arguments.output}; read it, correct it, then: scalable-hpc site check {arguments.output}",
        file=sys.stderr,
    )
    return 0


def _schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema."""
    from scalable_hpc.config.site_schema import schema_of_sites

    print(json.dumps(schema_of_sites(), indent=2))
    return 0
