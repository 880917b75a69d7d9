"""Settles every setting of one target: defaults filled in, units made plain, what contradicts itself refused.

Rule 1: each function settles one part and notes on the sheet what it finds; none stops the others.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.config.growth import settle_growth
from scalable_hpc.config.machine import hold_against_site
from scalable_hpc.config.normal import ONLY_FOR
from scalable_hpc.config.own import checked_array, settle_own_targets
from scalable_hpc.config.pbs_options import pbs_option_problem
from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget
from scalable_hpc.config.safety import option_problem
from scalable_hpc.config.settings import tell_settings
from scalable_hpc.config.sheet import Sheet
from scalable_hpc.config.site import SiteRead, admin_directory, user_directory
from scalable_hpc.config.storage import cache_group, cache_root, care, runs_root
from scalable_hpc.config.work import settle_tasks, settle_worker_types
from scalable_hpc.model.resources import WorkerType
from scalable_hpc.model.units import format_walltime

if TYPE_CHECKING:
    from scalable_hpc.config.schema import Manifest, Project, Target

_WALLTIME_S = 3600
_MOST_MARGIN = 1 / 4
_MOST_LEAD = 1 / 3
"""Shares of the walltime that margin and lead, where they are only the site's habit, may take of a short one."""
_LIMITS_OF_SIGNAL_S = 65535
"""sbatch refuses longer leads."""
_SETTINGS = (
    "account", "allocations.max", "allocations.min", "allocations.nodes", "allocations.walltime", "capacity.cpus",
    "capacity.memory", "constraint", "containers", "exclude_hosts_for", "exclusive", "extra_directives", "gres",
    "idle", "interface", "keep_logs", "kill_wait", "launch_prefix", "lead", "margin", "modules", "orphan_grace",
    "partition", "place", "poll",
    "project", "python", "qos", "queue_wait", "reservation", "resources", "scheduler_port", "select_extras",
    "setup", "signal_lead", "submit_timeout", "templates", "work_dir",
)  # fmt: skip
"""Settings of a target whose source is told even when nobody set them."""
_COMMANDS = {
    "slurm": ("sbatch", "squeue", "sacct", "scancel", "scontrol"),
    "pbs": ("qsub", "qstat", "qselect", "qdel"),
}
_OPTION_PROBLEMS = {"slurm": option_problem, "pbs": pbs_option_problem}


def resolve(manifest: Manifest, target: Target, site: SiteRead, sheet: Sheet) -> ResolvedManifest:
    """Return the answer; it is worth something only when the sheet has no errors."""
    cpus_here = target.capacity.cpus or usable_cpus()
    kinds = settle_worker_types(manifest, target, sheet, cpus_here if target.provider == "local" else None)
    settled = _settle_target(target, site, sheet, kinds)
    own_targets = {
        name: hold_against_site(own, {name: kinds[name]}, site.facts, sheet, own=name)
        for name, own in settle_own_targets(manifest, settled, sheet).items()
    }
    others = {name: kind for name, kind in kinds.items() if name not in own_targets}
    settled = hold_against_site(settled, others, site.facts, sheet)
    lasting = {name: own.walltime_s for name, own in own_targets.items()}
    _note_project(manifest.project, sheet)
    resolved = ResolvedManifest(
        path=sheet.path,
        base_dir=sheet.base_dir,
        project_name=manifest.project.name or sheet.base_dir.name,
        target=settled,
        worker_types=kinds,
        tasks=settle_tasks(manifest, kinds, {**dict.fromkeys(kinds, settled.walltime_s), **lasting}, sheet),
        cache_root=cache_root(manifest.project, sheet),
        runs_root=runs_root(target, sheet),
        sources=sheet.sources,
        cache_durability=care("cache_durability", manifest.project.cache_durability, ("fsync", "close"), sheet),
        cache_verify=care("cache_verify", manifest.project.cache_verify, ("once", "always", "never"), sheet),
        cache_group=cache_group(manifest.project, site, sheet),
        own_targets=own_targets,
        growth=settle_growth(manifest, kinds, settled, own_targets, site.facts, sheet),
    )
    for name in _SETTINGS:
        if target.provider in ONLY_FOR.get(name.partition(".")[0], (target.provider,)):
            sheet.sources.setdefault(f"target.{name}", "default")
    return replace(resolved, settings=tell_settings(resolved, sheet))


def usable_cpus() -> int:
    """Return how many cpus of this machine this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system has affinities
        return os.cpu_count() or 1


def _note_project(project: Project, sheet: Sheet) -> None:
    sheet.sources.setdefault("project.name", "default")
    if project.default_storage is not None:
        text = "'default_storage' has no effect here: results lie in the cache directory (local_cache)"
        sheet.warn("project.default_storage", text, "W_NO_EFFECT")


def _settle_target(target: Target, site: SiteRead, sheet: Sheet, kinds: dict[str, WorkerType]) -> ResolvedTarget:
    walltime_s = target.allocations.walltime or _WALLTIME_S
    nodes = target.allocations.nodes or 1
    capacity_cpus = _capacity(target, kinds, sheet)
    return ResolvedTarget(
        name=sheet.target_name,
        provider=target.provider,
        site=site.name,
        work_dir=sheet.path_of(target.work_dir, "target.work_dir") if target.work_dir else sheet.base_dir,
        walltime_s=walltime_s,
        nodes=_nodes(target, nodes, sheet),
        array=checked_array(target.allocations.array or 1, "target.allocations.array", target.provider, sheet),
        allocations_min=target.allocations.min or 0,
        shorten=target.allocations.shorten is not False,
        allocations_max=_most_allocations(target, kinds, capacity_cpus, sheet),
        partition=target.partition,
        account=target.account,
        qos=target.qos,
        constraint=target.constraint,
        gres=target.gres,
        reservation=target.reservation,
        licenses=target.licenses,
        clusters=target.clusters,
        requeue=bool(target.requeue),
        exclusive=bool(target.exclusive),
        project=target.project,
        place=target.place,
        select_extras=target.select_extras or (),
        resources=target.resources or (),
        extra_directives=_extra_directives(target, sheet),
        interface=target.interface,
        scheduler_port=target.scheduler_port or 0,
        env=tuple(target.env.items()),
        modules=target.modules or (),
        setup=target.setup or (),
        python=target.python or (),
        launch_prefix=target.launch_prefix or (),
        use_containers=target.containers != "none",
        template_dirs=_template_dirs(target, sheet),
        margin_s=_within(target.margin, 5.0, walltime_s, _MOST_MARGIN, "margin", sheet),
        lead_s=_within(target.lead, 120.0, walltime_s, _MOST_LEAD, "lead", sheet),
        idle_s=15.0 if target.idle is None else target.idle,
        signal_lead_s=_signal_lead(target, walltime_s, sheet),
        orphan_grace_s=600.0 if target.orphan_grace is None else target.orphan_grace,
        exclude_hosts_for_s=3600.0 if target.exclude_hosts_for is None else target.exclude_hosts_for,
        fallback_after_s=300.0 if target.fallback_after is None else target.fallback_after,
        budget_node_s=None if target.budget.node_hours is None else target.budget.node_hours * 3600,
        poll_s=15.0 if target.poll is None else target.poll,
        submit_timeout_s=target.submit_timeout or 60.0,
        commands=_commands(target, sheet),
        keep_logs=bool(target.keep_logs),
        capacity_cpus=capacity_cpus,
        capacity_memory=target.capacity.memory,
        queue_wait_s=target.queue_wait or 0.0,
        kill_wait_s=5.0 if target.kill_wait is None else target.kill_wait,
        scheduler_ports=target.scheduler_ports,
        node_local=target.node_local,
        ask_memory=target.ask_memory is not False,
        ask_gpus=target.ask_gpus is not False,
        module_paths=target.module_paths or (),
        conda=target.conda,
        conda_init=target.conda_init,
        venv=sheet.path_of(target.venv, "target.venv") if target.venv else None,
        mpi=target.mpi,
        trust=site.trust,
        inside=bool(target.inside),
    )


def _extra_directives(target: Target, sheet: Sheet) -> tuple[str, ...]:
    lines = target.extra_directives or ()
    problem_of = _OPTION_PROBLEMS.get(target.provider, lambda _: None)
    for line in lines:
        if problem := problem_of(line):
            sheet.error("target.extra_directives", f"extra_directives: '{line}' {problem}", "E_BAD_VALUE")
    return lines


def _commands(target: Target, sheet: Sheet) -> dict[str, tuple[str, ...]]:
    """Return what is called instead of a command, of those that the provider has."""
    known = _COMMANDS.get(target.provider, ())
    found = {name: words for name, words in target.commands.model_dump().items() if words}
    for name in [name for name in found if name not in known]:
        text = f"'{name}' is no command of {target.provider} ({', '.join(known)})"
        sheet.error(f"target.commands.{name}", text, "E_UNKNOWN_KEY")
    return found


def _capacity(target: Target, kinds: dict[str, WorkerType], sheet: Sheet) -> int:
    """Return what Local may use: as said, else this machine, stretched to the largest worker type."""
    if target.provider != "local":
        return 1
    largest = max(kinds.values(), key=lambda kind: kind.cpus_in_all)
    if target.capacity.cpus is None:
        here = usable_cpus()
        if largest.cpus_in_all > here:
            text = f"'{largest.name}' wants {largest.cpus_in_all} cpus, this machine has {here}: they are shared"
            sheet.warn(f"components.{largest.name}.cpus", text, "W_OVERSUBSCRIBED")
        sheet.sources["target.capacity.cpus"] = "this machine"
        return max(here, largest.cpus_in_all)
    for kind in kinds.values():
        wants_memory = kind.memory is not None and target.capacity.memory is not None
        too_large = kind.cpus_in_all > target.capacity.cpus
        if too_large or (wants_memory and (kind.memory or 0) > (target.capacity.memory or 0)):
            text = f"'{kind.name}' is larger than the capacity of targets.{sheet.target_name}: it can never start there"
            sheet.warn(f"components.{kind.name}", text, "W_OVER_CAPACITY")
    return target.capacity.cpus


def _most_allocations(target: Target, kinds: dict[str, WorkerType], capacity: int, sheet: Sheet) -> dict[str, int]:
    least, most = target.allocations.min or 0, target.allocations.max
    if most is not None and least > most:
        text = f"allocations.min is {least}, more than allocations.max, {most}"
        sheet.error("target.allocations.min", text, "E_BAD_VALUE")
    if most is None and target.provider == "local":
        return {name: max(least, 1, capacity // kind.cpus_in_all) for name, kind in kinds.items()}
    return dict.fromkeys(kinds, most if most is not None else max(1, least))


def _nodes(target: Target, nodes: int, sheet: Sheet) -> int:
    if target.provider == "local" and nodes > 1:
        text = f"allocations.nodes is {nodes}: this machine is one node"
        sheet.error("target.allocations.nodes", text, "E_BAD_VALUE", "set allocations.max instead")
    return nodes


def _within(asked: float | None, default: float, walltime_s: int, share: float, key: str, sheet: Sheet) -> float:
    """Return a time at the end of an allocation: as asked for, or the site's habit cut to a share of the walltime."""
    value = default if asked is None else asked
    if not sheet.is_own(f"target.{key}"):
        return min(value, walltime_s * share)
    if value >= walltime_s:
        text = f"{key} is {value:g} s, not less than the walltime, {format_walltime(walltime_s)}"
        sheet.error(f"target.{key}", text, "E_BAD_VALUE")
    return value


def _signal_lead(target: Target, walltime_s: int, sheet: Sheet) -> int | None:
    lead = target.signal_lead
    if not lead:
        return None
    whole = -int(-lead // 1)
    if whole >= min(walltime_s, _LIMITS_OF_SIGNAL_S):
        if not sheet.is_own("target.signal_lead"):
            return None
        text = f"signal_lead is {whole} s, not less than the walltime, {format_walltime(walltime_s)}"
        sheet.error("target.signal_lead", text, "E_BAD_VALUE")
    return whole


def _template_dirs(target: Target, sheet: Sheet) -> tuple[Path, ...]:
    found = [sheet.path_of(text, "target.templates") for text in target.templates or ()]
    for folder in found:
        if not folder.is_dir():
            sheet.error("target.templates", f"templates: there is no directory '{folder}'", "E_BAD_VALUE")
    shared = (
        place / "templates"
        for place in (user_directory(sheet.environ), admin_directory(sheet.environ))
        if place is not None
    )
    return (*found, *(folder for folder in shared if folder.is_dir()))
