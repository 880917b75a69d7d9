"""``scalable-hpc doctor``: what a target needs to work, looked at from here and from a node of it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.cli.manifest_arguments import add_manifest_arguments, chosen_session
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.units import parse_walltime

if TYPE_CHECKING:
    from scalable_hpc.doctor.finding import Finding

_WAIT = "10m"
"""For the probe to start and to answer; a one-minute job rarely waits longer in a queue."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "doctor",
        help="look at everything that a target needs, on a node too, and say what to do about it",
        description="Looks at the batch system's commands, limits, network, directories and packages, from here and"
        " from a job of one minute that is submitted as a worker's would be. Exits with 0 when all is well, 40 when"
        " something is doubtful or unknown, 41 when something is wrong.",
    )
    add_manifest_arguments(parser)
    parser.add_argument("--worker-type", help="a component of the manifest (default: the first)")
    parser.add_argument(
        "--module", action="append", default=[], metavar="NAME", help="a module of yours to compare on both sides"
    )
    parser.add_argument("--wait", default=_WAIT, help="how long to wait for the job (default: %(default)s)")
    parser.add_argument("--no-probe", action="store_true", help="submit nothing: look from here only")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Print each finding with its remedy; exit by the worst."""
    from scalable_hpc.doctor.examine import look
    from scalable_hpc.doctor.finding import Level
    from scalable_hpc.doctor.judge import examine, exit_code

    try:
        wait_s = float(parse_walltime(arguments.wait))
    except ValueError as err:
        raise ManifestError(f"--wait: {err}") from err
    manifest = chosen_session(arguments).manifest
    kinds = list(manifest.worker_types)
    chosen = arguments.worker_type or kinds[0]
    if chosen not in kinds:
        raise ManifestError(f"no such worker type: {chosen!r}; there is {', '.join(kinds)}")
    for beside in (str(manifest.base_dir), str(Path.cwd())):
        if beside not in sys.path:
            sys.path.insert(0, beside)  # where the driver script would find its modules
    if not arguments.no_probe:
        print(f"a job of one minute is submitted to target {manifest.target.name!r} ...", file=sys.stderr)
    findings = examine(look(manifest, chosen, arguments.module, wait_s=wait_s, probes=not arguments.no_probe))
    if arguments.format == "json":
        print(json.dumps([{**asdict(finding), "level": finding.level.name.lower()} for finding in findings], indent=2))
    else:
        print(*(_told(finding) for finding in findings), sep="\n")
        bad = sum(finding.level is not Level.OK for finding in findings)
        print(f"{len(findings)} findings, {bad} to look into" if bad else f"{len(findings)} findings, all well")
    return exit_code(findings)


def _told(finding: Finding) -> str:
    first, *more = finding.said.splitlines() or [""]
    lines = [f"{finding.level.name.lower():<9} {finding.check}: {first}", *(f"          | {line}" for line in more)]
    if finding.remedy:
        lines.append(f"          -> {finding.remedy}")
    return "\n".join(lines)
