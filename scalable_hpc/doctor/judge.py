"""What the facts mean: one check a row, each finding with what to do about it; pure.

Rule 1: what could not be looked at is said to be unknown, never taken for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scalable_hpc.doctor.facts import Facts, NodeSeen, PackageSeen
from scalable_hpc.doctor.finding import EXIT_CODES, Finding, Level
from scalable_hpc.doctor.limits import limits
from scalable_hpc.model.units import format_memory

SLOW_MB_PER_S = 20.0
"""A shared directory slower than one old disk makes every result wait."""
LITTLE_FREE = 2 * 2**30
"""A journal, its payloads and a day's small results need about this much."""
SKEW_DOUBTFUL_S = 2.0
"""File times and deadlines are compared across hosts to the second."""
SKEW_WRONG_S = 60.0
"""A driver's heartbeat that looks older than this counts as a dead driver's."""
_OPEN_BITS = 0o077
_OURS = "scalable-hpc"
_FEATURE_PARTS = 2
"""Of a version: packages that agree in so many parts speak the same protocol."""


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return every finding, in the order of the table."""
    return tuple(finding for check in CHECKS.values() for finding in check(facts))


def exit_code(findings: tuple[Finding, ...]) -> int:
    """Return the exit code of the worst finding."""
    return EXIT_CODES[max((finding.level for finding in findings), default=Level.OK)]


def _manifest(facts: Facts) -> Iterator[Finding]:
    for warning in facts.warnings:
        yield Finding("manifest", Level.DOUBTFUL, warning, "scalable-hpc validate")
    if not facts.warnings:
        yield Finding("manifest", Level.OK, f"target {facts.target!r} ({facts.provider}) is complete")


def _commands(facts: Facts) -> Iterator[Finding]:
    for seen in facts.commands:
        if seen.path is None:
            remedy = "log in to a node of the cluster, load its module, or name the command under commands:"
            yield Finding("commands", Level.WRONG, f"'{seen.name}' is not on PATH", remedy)
        elif not seen.works:
            yield Finding("commands", Level.DOUBTFUL, f"'{seen.path}': {seen.said}", f"{seen.name}    # by hand")
    good = [f"{seen.name} {seen.said}".strip() for seen in facts.commands if seen.path is not None and seen.works]
    if good:
        yield Finding("commands", Level.OK, ", ".join(good))


def _interface(facts: Facts) -> Iterator[Finding]:
    there = f"here are {', '.join(facts.interfaces)}"
    if facts.interface is not None and facts.interface not in facts.interfaces:
        words = f"the driver's host {facts.host!r} has no interface {facts.interface!r}; {there}"
        yield Finding("interface", Level.WRONG, words, "set interface: in the target to one of them")
    elif facts.listening_error:
        remedy = "ss -ltn    # then widen scheduler_ports, or correct interface:"
        yield Finding("interface", Level.WRONG, f"the driver cannot listen: {facts.listening_error}", remedy)
    elif facts.listening:
        yield Finding("interface", Level.OK, f"the driver listens at {facts.listening}")


def _run_directory(facts: Facts) -> Iterator[Finding]:
    if facts.run_dir_mode is not None and facts.run_dir_mode & _OPEN_BITS:
        words = f"'{facts.run_dir}' is open to others (mode {facts.run_dir_mode:04o}), and cannot be closed"
        yield Finding("run directory", Level.WRONG, words, "put runs where modes hold: SCALABLE_HPC_RUNS_DIR, scratch:")
    elif facts.free_bytes is not None and facts.free_bytes < LITTLE_FREE:
        words = f"'{facts.run_dir}' has {format_memory(facts.free_bytes)} left"
        yield Finding("run directory", Level.DOUBTFUL, words, f"df -h '{facts.run_dir}'; scalable-hpc cache gc")
    elif facts.run_dir_mode is not None:
        yield Finding("run directory", Level.OK, f"'{facts.run_dir}' is the owner's alone")


def _probe(facts: Facts) -> Iterator[Finding]:
    seen = facts.probe
    if seen is None:
        yield Finding("probe", Level.UNKNOWN, "no job was submitted: nodes were not looked at", "leave out --no-probe")
    elif seen.refusal:
        yield Finding("probe", Level.WRONG, f"the batch system refused it: {seen.refusal}", "scalable-hpc render")
    elif len(facts.nodes) >= facts.wanted_nodes:
        hosts = ", ".join(node.host for node in facts.nodes)
        yield Finding(
            "probe", Level.OK, f"job {seen.job_id} ran on {hosts}, {seen.waited_s:.1f} s after it was asked for"
        )
    elif seen.state in ("pending", "held"):
        words = f"job {seen.job_id} still waits after {seen.waited_s:.0f} s: {seen.because or seen.state}"
        yield Finding("probe", Level.UNKNOWN, f"{words}; it was cancelled", "try again with a longer --wait")
    else:
        tail = f"\n{seen.output}" if seen.output else "; it printed nothing"
        of = f" on {facts.wanted_nodes - len(facts.nodes)} of {facts.wanted_nodes} nodes" if facts.nodes else ""
        words = f"job {seen.job_id} did not answer{of}, {seen.state}: {seen.because}{tail}"
        remedy = "scalable-hpc render    # what the job does before its Python starts: modules, venv, setup, container"
        yield Finding("probe", Level.WRONG, words, remedy)


def _shared(facts: Facts) -> Iterator[Finding]:
    if facts.probe is not None and facts.probe.had_no_output:
        words = f"the batch system cannot write a job's output below '{facts.run_dir}' from a node"
        yield Finding("shared directories", Level.WRONG, words, _MOVE)
    for node in facts.nodes:
        for place in node.places:
            where = f"the {place.label} directory '{place.path}'"
            if not place.is_visible:
                yield Finding("shared directories", Level.WRONG, f"{node.host} does not see {where}", _MOVE)
            elif place.error:
                words = f"{node.host} cannot write to {where}: {place.error}"
                yield Finding("shared directories", Level.WRONG, words, f"ls -ld '{place.path}'    # there and here")
            elif place.mb_per_s is not None and place.mb_per_s < SLOW_MB_PER_S:
                words = f"{node.host} writes {place.mb_per_s:.1f} MB/s to {where}"
                yield Finding("shared directories", Level.DOUBTFUL, words, "use the parallel file system: scratch:")
            else:
                speed = "" if place.mb_per_s is None else f", written at {place.mb_per_s:.0f} MB/s"
                yield Finding("shared directories", Level.OK, f"{node.host} sees {where}{speed}")


_MOVE = "put it where all nodes see it: scratch: in the target, or SCALABLE_HPC_RUNS_DIR and SCALABLE_HPC_CACHE_DIR"


def _network(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if facts.interface is not None and facts.interface not in node.interfaces:
            there = ", ".join(node.interfaces) or "none"
            words = f"{node.host} has no interface {facts.interface!r}; it has {there}"
            yield Finding("network", Level.WRONG, words, "set interface: to one that driver and nodes have")
        for direction, error, remedy in (
            (f"{node.host} to driver {facts.listening}", node.to_driver, _FIREWALL),
            (f"driver to {node.host} {node.address}", node.from_driver, _INTERFACE),
        ):
            if error is None:
                yield Finding("network", Level.UNKNOWN, f"{direction}: not tried", "correct what is wrong above first")
            elif error:
                yield Finding("network", Level.WRONG, f"{direction}: {error}", remedy)
            else:
                yield Finding("network", Level.OK, f"{direction}: open")


_FIREWALL = "set interface: to a network that the nodes can reach, or scheduler_ports: to ports that are open to them"
_INTERFACE = "set interface: to a network that both can reach, or run the driver in a job of its own"


def _tls(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.cipher:
            yield Finding("tls", Level.OK, f"{node.host} and the driver know each other's certificate: {node.cipher}")
        elif node.to_driver == "":
            words = f"the connection of {node.host} is not encrypted"
            yield Finding("tls", Level.WRONG, words, "python -c 'import ssl; print(ssl.OPENSSL_VERSION)'    # on both")


def _python(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        here, there = facts.python.split("."), node.python.split(".")
        words = f"{node.host} runs Python {node.python} ({node.executable}), the driver {facts.python}"
        if here[:2] != there[:2]:
            yield Finding(
                "python", Level.WRONG, words, "set python:, venv:, conda: or modules: so that both are the same"
            )
        elif here != there:
            yield Finding("python", Level.DOUBTFUL, words, "set python: or venv: to make them the same")
        else:
            yield Finding("python", Level.OK, words)


def _packages(facts: Facts) -> Iterator[Finding]:
    here = {package.name: package for package in facts.packages}
    for name in facts.modules:
        if here[name].version is None:
            words = f"module '{name}' cannot be imported here: {here[name].error}"
            yield Finding("packages", Level.WRONG, words, f"python -c 'import {name}'")
    for node in facts.nodes:
        found = [_parity(here[there.name], there, node) for there in node.packages if there.name in here]
        differing = [finding for finding in found if finding is not None]
        yield from differing
        if not differing:
            same = ", ".join(f"{package.name} {package.version}" for package in node.packages)
            yield Finding("packages", Level.OK, f"{node.host} has what the driver has: {same}")


def _parity(here: PackageSeen, there: PackageSeen, node: NodeSeen) -> Finding | None:
    """Compare a package of the driver's with the node's."""
    install = f"{node.executable} -m pip install '{here.name}=={here.version}'"
    if there.version is None:
        is_module = here.digest is not None
        remedy = "put it where all nodes see it, beside the driver script" if is_module else install
        return Finding("packages", Level.WRONG, f"{node.host} has no {here.name}: {there.error}", remedy)
    if here.version is not None and here.version != there.version:
        words = f"{node.host} has {here.name} {there.version}, the driver {here.version}"
        alike = here.version.split(".")[:_FEATURE_PARTS] == there.version.split(".")[:_FEATURE_PARTS]
        level = Level.DOUBTFUL if alike and here.name != _OURS else Level.WRONG
        return Finding("packages", level, words, install)
    if here.digest is not None and here.digest != there.digest:
        words = f"the file of module '{here.name}' on {node.host} is not the driver's"
        return Finding(
            "packages", Level.WRONG, words, f"{node.executable} -c 'import {here.name} as m; print(m.__file__)'"
        )
    return None


def _clock(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.skew_s is None:
            yield Finding("clock", Level.UNKNOWN, f"the clock of {node.host} was not compared", "")
            continue
        off = abs(node.skew_s)
        level = Level.WRONG if off > SKEW_WRONG_S else Level.DOUBTFUL if off > SKEW_DOUBTFUL_S else Level.OK
        way = "ahead of" if node.skew_s > 0 else "behind"
        remedy = "" if level is Level.OK else "tell the admins: chronyc tracking    # on both"
        yield Finding("clock", level, f"{node.host} is {off:.3f} s {way} the driver", remedy)


def _container(facts: Facts) -> Iterator[Finding]:
    if facts.image is None:
        return
    for node in facts.nodes:
        words = f"image '{facts.image}' through {facts.runtime}"
        if facts.runtime in node.runtimes:
            yield Finding("container", Level.OK, f"{node.host} runs {words}")
        else:
            remedy = "scalable-hpc render    # then look at the words before python3"
            yield Finding("container", Level.DOUBTFUL, f"{node.host} shows no sign of running {words}", remedy)


def _cpus(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if facts.ask is None or node.cpus is None:
            continue
        words = f"{node.host}: {facts.ask.cpus} cpus asked for, {node.cpus} may be used"
        if node.cpus < facts.ask.cpus:
            remedy = "ask for hardware threads as the site counts them, or correct cpus: in the component"
            yield Finding("cpus", Level.DOUBTFUL, words, remedy)
        else:
            yield Finding("cpus", Level.OK, words)


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "manifest": _manifest,
    "commands": _commands,
    "limits": limits,
    "interface": _interface,
    "run directory": _run_directory,
    "probe": _probe,
    "shared directories": _shared,
    "network": _network,
    "tls": _tls,
    "python": _python,
    "packages": _packages,
    "clock": _clock,
    "container": _container,
    "cpus": _cpus,
}
"""Each check by its name, in the order in which one is worth reading before the next."""
