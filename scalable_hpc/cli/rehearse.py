"""``scalable-hpc rehearse DRIVER.py --target T``: the driver on this machine dressed as the target, with losses."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from scalable_hpc.cli.run import DriverMissing
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.units import parse_walltime

_LOSSES = {
    "--lose-node": "a node dies, with all that runs on it",
    "--preempt": "an allocation is preempted",
    "--oom": "an allocation is ended for its memory",
    "--walltime": "an allocation's walltime ends",
    "--kill-driver": "the driver is killed, and started again",
}
_WALLTIME = "30s"
"""Of a played allocation: long enough to work in, short enough to see some end."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser(
        "rehearse",
        help="run a driver on this machine dressed as a target, with losses, and say what they would cost there",
        description="Runs the driver with the target's own job script on this machine as a batch system, its walltimes"
        " and waits compressed. Losses come when so many tasks are done; each option may be given more than once. Exits"
        " with 0 when every task was done and none was computed again after that, with 42 when not. Arguments for the"
        " script follow '--'.",
    )
    parser.add_argument("driver", type=Path, metavar="DRIVER.py")
    parser.add_argument("--target", help="the target to play, whatever the script says")
    parser.add_argument("--manifest", help="the manifest (default: $SCALABLE_MANIFEST or ./scalable.yaml)")
    parser.add_argument("--factor", type=float, help="seconds there to one here (default: as a walltime of 30 s asks)")
    parser.add_argument("--queue-wait", help="how long jobs wait on the real machine, such as 2h (default: not at all)")
    for option, words in _LOSSES.items():
        parser.add_argument(option, type=int, action="append", default=[], metavar="DONE", help=words)
    parser.add_argument(
        "--without-software", action="store_true", help="leave out modules, environments, set-up and containers"
    )
    parser.add_argument("--use-cache", action="store_true", help="use the real cache (default: an empty one)")
    parser.add_argument("--directory", type=Path, help="where to leave the run (default: a temporary one)")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGS", help="arguments for the script")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    """Rehearse, and print the verdict."""
    if not arguments.driver.is_file():
        raise DriverMissing(f"no such driver script: {str(arguments.driver)!r}", hint=f"ls {arguments.driver.parent}")
    if arguments.factor is not None and arguments.factor < 1:
        raise ManifestError(f"--factor must be at least 1: {arguments.factor:g}")
    if arguments.directory is not None:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        return _rehearse(arguments, arguments.directory.resolve())
    place = Path(tempfile.mkdtemp(prefix="scalable-hpc-rehearsal-"))
    try:
        return _rehearse(arguments, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _rehearse(arguments: argparse.Namespace, place: Path) -> int:
    from scalable_hpc.config.dressing import VARIABLE, Rehearsal, factor_for, to_text
    from scalable_hpc.config.manifest import load_manifest
    from scalable_hpc.config.resolve import usable_cpus
    from scalable_hpc.derived import report_of
    from scalable_hpc.rehearsal.conduct import Performance
    from scalable_hpc.rehearsal.cues import Cue
    from scalable_hpc.rehearsal.verdict import judge

    manifest = load_manifest(arguments.manifest, target=arguments.target)
    target = manifest.target
    nodes = {name: manifest.target_of(name).nodes for name in manifest.worker_types}
    factor = arguments.factor or factor_for(target.walltime_s, parse_walltime(_WALLTIME))
    software = not arguments.without_software
    rehearsal = Rehearsal(factor, _seconds(arguments.queue_wait), software, usable_cpus())
    runs = place / "runs"
    environ = {
        **os.environ,
        VARIABLE: to_text(rehearsal),
        "SCALABLE_HPC_RUNS_DIR": str(runs),
        "SCALABLE_HPC_TARGET": target.name,
    }
    if not arguments.use_cache:
        environ["SCALABLE_HPC_CACHE_DIR"] = str(place / "cache")
    given = ("--manifest", str(Path(arguments.manifest).absolute())) if arguments.manifest else ()
    driver = [sys.executable, "-m", "scalable_hpc.cli", "run", "--no-progress", *given, str(arguments.driver)]
    cues = [Cue(kind, after) for kind in _kinds() for after in getattr(arguments, kind)]
    command = [*driver, *(["--", *arguments.arguments] if arguments.arguments else [])]
    performance = Performance(command, Path.cwd(), environ, runs, cues)
    print(f"rehearsing target {target.name!r} at {factor:g} s to a second", file=sys.stderr)
    code = performance.run()
    run = performance.run_directory
    report = None if run is None else report_of(run)
    verdict = judge(report, performance.played, performance.left, factor=factor, nodes=nodes, code=code)
    print(*(verdict.lines or verdict.reasons), sep="\n")
    if arguments.directory is not None and run is not None:
        print(f"the run: {run.path}", file=sys.stderr)
    return verdict.exit_code


def _kinds() -> list[str]:
    return [option.removeprefix("--").replace("-", "_") for option in _LOSSES]


def _seconds(text: str | None) -> float:
    try:
        return 0.0 if text is None else float(parse_walltime(text))
    except ValueError as err:
        raise ManifestError(f"--queue-wait: {err}") from err
