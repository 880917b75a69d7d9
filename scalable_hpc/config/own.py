"""What a worker type says for itself: its own queue, account and limits, and who does its work when it cannot be had.

Rule 1: what a component does not say, its target says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalable_hpc.config.check import nearest, one_of
from scalable_hpc.config.normal import ONLY_FOR
from scalable_hpc.config.resolved import ResolvedTarget
from scalable_hpc.config.sheet import Sheet

if TYPE_CHECKING:
    from scalable_hpc.config.schema import Component, Manifest

_WORDS = ("partition", "account", "qos", "constraint", "gres", "reservation", "licenses")
"""Words for the batch system that a component may say otherwise."""
_NO_ARRAYS = {
    "pbs": "PBS takes arrays only of jobs that it may run again by itself, which those of workers are not",
    "local": "this machine has no limit on jobs",
}
"""Why a provider's allocations are never asked for as an array."""
_MOST_MARGIN = 1 / 4
_MOST_LEAD = 1 / 3
"""Shares of a short walltime that the target's margin and lead may take."""


def settle_own_targets(manifest: Manifest, target: ResolvedTarget, sheet: Sheet) -> dict[str, ResolvedTarget]:
    """Return the target as it is for each component that says something of its own."""
    return {
        name: own
        for name, part in manifest.components.items()
        if (own := _own_target(name, part, target, sheet)) is not target
    }


def settle_fallbacks(components: Mapping[str, Component], sheet: Sheet) -> dict[str, tuple[str, ...]]:
    """Return, for each component, those that do its work while it cannot be had, the first choice first."""
    chains: dict[str, tuple[str, ...]] = {}
    for name, part in components.items():
        chain: list[str] = []
        following = part.fallback
        while following is not None and following not in (name, *chain) and following in components:
            chain.append(following)
            following = components[following].fallback
        chains[name] = tuple(chain)
        where = f"components.{name}.fallback"
        if part.fallback is not None and part.fallback not in components:
            text = f"fallback is '{part.fallback}', which is not there{nearest(part.fallback, components)}"
            hint = f"components of this manifest: {one_of(components)}"
            sheet.error(where, text, "E_UNKNOWN_COMPONENT", hint)
        elif following == name:
            text = f"the fallbacks of '{name}' lead back to it: {' -> '.join((name, *chain, name))}"
            sheet.error(where, text, "E_BAD_VALUE", "leave the last fallback out")
    return chains


def checked_array(asked: int, where: str, provider: str, sheet: Sheet) -> int:
    """Return how many allocations one submission may ask for; an error on the sheet where it can be one only."""
    if asked > 1 and provider in _NO_ARRAYS:
        text = f"allocations.array is {asked}: {_NO_ARRAYS[provider]}"
        sheet.error(where, text, "E_BAD_VALUE", "leave it out: each allocation is a job of its own")
    return asked


def _own_target(name: str, part: Component, target: ResolvedTarget, sheet: Sheet) -> ResolvedTarget:
    where, said = f"components.{name}", part.allocations
    own: dict[str, Any] = {}
    for word in _WORDS:
        value = getattr(part, word)
        if value is not None and target.provider not in ONLY_FOR[word]:
            text = f"'{word}' has no effect here: only targets of provider {' or '.join(ONLY_FOR[word])} use it"
            sheet.warn(f"{where}.{word}", text, "W_NO_EFFECT")
        elif value is not None:
            own[word] = value
    if said.walltime and part.walltime and said.walltime != part.walltime:
        text = "'walltime' and 'allocations.walltime' mean the same: write one of them"
        sheet.error(f"{where}.walltime", text, "E_DUPLICATE_KEY")
    if walltime_s := said.walltime or part.walltime:
        own["walltime_s"] = walltime_s
        own["margin_s"] = min(target.margin_s, walltime_s * _MOST_MARGIN)
        own["lead_s"] = min(target.lead_s, walltime_s * _MOST_LEAD)
        if target.signal_lead_s is not None and target.signal_lead_s >= walltime_s:
            own["signal_lead_s"] = None
    own.update(_own_nodes(where, part, target, sheet))
    own.update(_own_numbers(name, part, target, sheet))
    return replace(target, **own) if own else target


def _own_nodes(where: str, part: Component, target: ResolvedTarget, sheet: Sheet) -> dict[str, int]:
    """Return how many nodes an allocation of the component has, as far as it says so; enough for what a task has."""
    said, each = part.allocations.nodes, part.nodes
    if target.provider == "local":
        if (said or 1) > 1:
            text = f"allocations.nodes is {said}: this machine is one node"
            sheet.error(f"{where}.allocations.nodes", text, "E_BAD_VALUE", "set allocations.max instead")
        return {}
    is_said = said is not None or sheet.is_own("target.allocations.nodes")
    nodes = (said or target.nodes) if is_said else max(each, target.nodes)
    place = sheet.mark("target.allocations.nodes" if said is None else f"{where}.allocations.nodes")
    told = f"allocations.nodes is {nodes} ({place})"
    if each > nodes:
        text = f"nodes is {each}, more than an allocation has: {told}"
        sheet.error(f"{where}.nodes", text, "E_BAD_VALUE", f"allocations: {{nodes: {each}}}, or a multiple of it")
    elif idle := nodes % each:
        text = f"nodes is {each}, and {told}: {idle} of them stay idle"
        sheet.warn(f"{where}.nodes", text, "W_IDLE_NODES", f"allocations: {{nodes: {nodes - idle}}}")
    return {} if nodes == target.nodes and said is None else {"nodes": nodes}


def _own_numbers(name: str, part: Component, target: ResolvedTarget, sheet: Sheet) -> dict[str, Any]:
    """Return how many allocations there may be, and by how few submissions, as far as the component says so."""
    where, said = f"components.{name}", part.allocations
    most, least = target.allocations_max.get(name, 1), target.allocations_min
    own: dict[str, Any] = {} if said.shorten is None else {"shorten": said.shorten}
    if said.array is not None:
        own["array"] = checked_array(said.array, f"{where}.allocations.array", target.provider, sheet)
    if said.max is not None:
        most = said.max
        own["allocations_max"] = {**target.allocations_max, name: most}
        own["allocations_min"] = least = min(least, most)
    if said.min is not None:
        own["allocations_min"] = least = said.min
    if least > most:
        text = f"allocations.min is {least}, more than allocations.max, {most}"
        sheet.error(f"{where}.allocations.min", text, "E_BAD_VALUE")
    return own
