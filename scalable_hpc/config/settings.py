"""Every setting as people ask for it: its value, who set it, and which layer that is.

Rule 1: the value is the one in force, after defaults and bounds; what nothing else knows is told as it was written.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from scalable_hpc.config.masking import masked
from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget, Setting
from scalable_hpc.config.sheet import Sheet
from scalable_hpc.config.yaml_lines import Items, Scalar, Section, value_at
from scalable_hpc.model.units import format_memory, format_walltime

NOT_SET = "not set"


def _seconds(value: float | None) -> str:
    return NOT_SET if value is None else f"{value:g} s"


def _memory(value: int | None) -> str:
    return NOT_SET if value is None else format_memory(value)


def _plain(value: object) -> str:
    """One line, as YAML would have it."""
    if value is None or value == ():
        return NOT_SET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(_plain(part) for part in value)
    return str(value).strip().replace("\n", "; ")


def _command(value: tuple[str, ...]) -> str:
    return shlex.join(value) if value else NOT_SET


_OF_TARGET: dict[str, tuple[str, Callable[[Any], str]]] = {
    **{name: (f"{name}_s", _seconds) for name in (
        "margin", "lead", "idle", "signal_lead", "orphan_grace", "exclude_hosts_for", "fallback_after", "poll",
        "submit_timeout", "queue_wait", "kill_wait",
    )},
    **{name: (name, _plain) for name in (
        "account", "ask_gpus", "ask_memory", "clusters", "conda", "conda_init", "constraint", "exclusive",
        "extra_directives", "gres", "inside", "interface", "keep_logs", "licenses", "module_paths", "modules", "mpi",
        "node_local", "partition", "place", "project", "qos", "requeue", "reservation", "resources", "scheduler_port",
        "select_extras", "setup", "site", "venv", "work_dir",
    )},
    **{name: (name, _command) for name in ("python", "launch_prefix")},
    "allocations.array": ("array", _plain),
    "allocations.min": ("allocations_min", _plain),
    "allocations.nodes": ("nodes", _plain),
    "allocations.shorten": ("shorten", _plain),
    "allocations.walltime": ("walltime_s", format_walltime),
    "budget.node_hours": ("budget_node_s", lambda seconds: NOT_SET if seconds is None else f"{seconds / 3600:g}"),
    "capacity.cpus": ("capacity_cpus", _plain),
    "capacity.memory": ("capacity_memory", _memory),
    "containers": ("use_containers", lambda used: "auto" if used else "none"),
    "templates": ("template_dirs", _plain),
}  # fmt: skip
"""Setting of a target to the attribute that is in force, and how it is told."""
_OF_WORKER_TYPE: dict[str, Callable[[Any], str]] = {
    "cpus": _plain, "memory": _memory, "gpus": _plain, "slots": _plain, "image": _plain,
}  # fmt: skip


def tell_settings(resolved: ResolvedManifest, sheet: Sheet) -> dict[str, Setting]:
    """Return each setting that has a source, by its dotted name."""
    return {
        name: Setting(_value(name, resolved, sheet), source, sheet.layer(name))
        for name, source in sorted(sheet.sources.items())
    }


def _value(name: str, resolved: ResolvedManifest, sheet: Sheet) -> str:
    scope, _, last = name.rpartition(".")
    if scope.endswith(".env"):
        return masked(last, as_written(_written(name, sheet)))
    first, _, rest = name.partition(".")
    if first == "target" and (told := _of_target(rest, resolved.target)) is not None:
        return told
    if first == "components":
        kind, _, key = rest.rpartition(".")
        if kind in resolved.worker_types and key in _OF_WORKER_TYPE:
            return _OF_WORKER_TYPE[key](getattr(resolved.worker_types[kind], key))
    whole = {
        "cache_root": resolved.cache_root,
        "cache_group": resolved.cache_group,
        "runs_root": resolved.runs_root,
        "project.name": resolved.project_name,
    }
    return _plain(whole[name]) if name in whole else as_written(_written(name, sheet))


def _of_target(name: str, target: ResolvedTarget) -> str | None:
    if name == "allocations.max":
        return _each(target.allocations_max)
    if name == "scheduler_ports":
        return NOT_SET if target.scheduler_ports is None else "-".join(map(str, target.scheduler_ports))
    if name in _OF_TARGET:
        attribute, told = _OF_TARGET[name]
        return told(getattr(target, attribute))
    return None


def _each(numbers: Mapping[str, int]) -> str:
    """One number where all are the same."""
    if len(set(numbers.values())) == 1:
        return str(next(iter(numbers.values())))
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _written(name: str, sheet: Sheet) -> Any:
    first, *rest = name.split(".")
    tree, steps = (sheet.settings, rest) if first == "target" else (sheet.tree, [first, *rest])
    return value_at(tree, tuple(steps))


def as_written(tree: Any) -> str:
    """Return a part of a file in one line."""
    if isinstance(tree, Section):
        return f"{{{', '.join(f'{key}: {as_written(value)}' for key, value in tree.items())}}}"
    if isinstance(tree, Items):
        return f"[{', '.join(as_written(item) for item in tree)}]"
    if isinstance(tree, Scalar):
        return str(tree).strip().replace("\n", "; ")
    return NOT_SET
