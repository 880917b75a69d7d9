"""Holds a settled target against what its site says: limits, accounts, how often and how much may be asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from scalable_hpc.config.check import nearest, one_of
from scalable_hpc.config.fit import Ask, listed, misfits, per_limit
from scalable_hpc.config.resolved import ResolvedTarget
from scalable_hpc.config.sheet import Sheet
from scalable_hpc.model.resources import WorkerType

if TYPE_CHECKING:
    from scalable_hpc.config.site_schema import Partition, SiteFacts

_KINDS = {"partition": "partitions", "qos": "qoses", "constraint": "constraints"}
"""Setting of a target to the site's mapping of its limits."""


def hold_against_site(
    target: ResolvedTarget, kinds: Mapping[str, WorkerType], facts: SiteFacts, sheet: Sheet, *, own: str | None = None
) -> ResolvedTarget:
    """Return the target within the site's bounds; what cannot be had is an error on the sheet.

    Args:
        target: what is asked for.
        kinds: the worker types that ask for it.
        facts: what the site says.
        sheet: takes what is found.
        own: the worker type whose own view of the target this is: what it shares with the others is not told again.
    """
    where = "target.account" if own is None else f"components.{own}.account"
    if own is None or where in sheet.sources:
        _check_account(target, facts, where, sheet)
    for kind in kinds.values():
        ask = Ask(kind.name, target.nodes, kind.cpus, kind.memory, kind.gpus, target.walltime_s)
        for setting, mapping in _KINDS.items():
            _check_limits(ask, setting, getattr(target, setting), getattr(facts, mapping), target, sheet)
    return _bounded(target, facts, sheet, is_own=own is not None)


def _check_limits(
    ask: Ask, setting: str, chosen: str | None, limits: Mapping[str, Partition], target: ResolvedTarget, sheet: Sheet
) -> None:
    if not limits:
        return
    name = chosen or next((name for name, limit in limits.items() if limit.default), None)
    subject = f"'{ask.worker_type}' ({ask})"
    if name is not None and name in limits:
        if not misfits(ask, limits[name]):
            return
        text = f"{subject} does not fit {setting} '{name}' of site '{target.site}':"
    elif name is not None:
        text = f"site '{target.site}' knows no {setting} '{name}'{nearest(name, limits)} (it knows: {one_of(limits)})"
        sheet.warn(f"target.{setting}", text, "W_UNKNOWN_TO_SITE")
        return
    elif any(not misfits(ask, limit) for limit in limits.values()):
        return
    else:
        text = f"{subject} fits no {setting} of site '{target.site}':"
    everywhere = per_limit(ask, limits)
    fitting = [name for name, reasons in everywhere.items() if not reasons]
    hint = f"set {setting}: {fitting[0]}" if fitting else "ask for less, or correct the site config"
    own = f"components.{ask.worker_type}"
    where = f"{own}.{setting}" if f"{own}.{setting}" in sheet.sources else f"target.{setting}" if chosen else own
    sheet.error(where, f"{text}\n{listed(everywhere)}", "E_OVER_LIMIT", hint)


def _check_account(target: ResolvedTarget, facts: SiteFacts, where: str, sheet: Sheet) -> None:
    rule = facts.accounts
    if target.account is None:
        if rule.required:
            text = f"site '{target.site}' wants an account, and none is set"
            sheet.error(where, text, "E_ACCOUNT", rule.ask or "set account: in the target")
        elif rule.ask is not None:
            text = f"no account is set; site '{target.site}' charges one: {rule.ask}"
            sheet.warn(where, text, "W_ACCOUNT")
    elif rule.pattern is not None and not re.fullmatch(rule.pattern, target.account):
        text = f"account is '{target.account}': site '{target.site}' has only such that match '{rule.pattern}'"
        sheet.error(where, text, "E_ACCOUNT", rule.ask)


def _bounded(target: ResolvedTarget, facts: SiteFacts, sheet: Sheet, *, is_own: bool) -> ResolvedTarget:
    """Return the target asking no more often, and for no more jobs, than the site allows."""
    if not is_own and facts.poll_floor is not None and target.poll_s < facts.poll_floor:
        text = f"poll is {target.poll_s:g} s: site '{target.site}' is asked every {facts.poll_floor:g} s at most"
        sheet.warn("target.poll", text, "W_SITE_BOUND")
        target = replace(target, poll_s=facts.poll_floor)
    target = replace(target, most_jobs=facts.jobs)
    bounds = [facts.jobs]
    for setting, mapping in _KINDS.items():
        limit = getattr(facts, mapping).get(getattr(target, setting))
        bounds.append(limit.jobs if limit is not None else None)
    most = min((bound for bound in bounds if bound is not None), default=None)
    if most is not None and any(wanted > most for wanted in target.allocations_max.values()):
        text = f"allocations.max is more than a user's jobs on site '{target.site}': {most} are taken"
        sheet.warn("target.allocations.max", text, "W_SITE_BOUND")
        target = replace(
            target,
            allocations_max={name: min(wanted, most) for name, wanted in target.allocations_max.items()},
            allocations_min=min(target.allocations_min, most),
        )
    return target
