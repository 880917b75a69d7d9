"""What a target asks for, held against what the batch system allows now: partitions, QOSes, accounts, queues; pure.

Rule 1: what one job asks for beyond a limit is wrong: it would be refused, or wait for ever. What only all allocations
together ask for is doubtful: some of them would wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.batch.quota import ACCOUNT, QOS, SERVER, Quota, Quotas
from scalable_hpc.config.fit import Ask
from scalable_hpc.doctor.facts import Facts
from scalable_hpc.doctor.finding import Finding, Level
from scalable_hpc.model.units import format_memory, format_walltime


def limits(facts: Facts) -> Iterator[Finding]:
    """Yield what the batch system says against the request."""
    if facts.provider == "local" or facts.ask is None:
        return
    if facts.machine is None:
        words = facts.machine_error or "the batch system was not asked"
        yield Finding("limits", Level.UNKNOWN, words, "ask again when its controller answers")
        return
    yield from _against(facts.ask, facts.partition, facts.machine)
    if facts.quotas is not None:
        yield from _allowed(facts, facts.ask, facts.quotas)


def _against(ask: Ask, chosen: str | None, machine: MachineSeen) -> Iterator[Finding]:
    """Hold the request against what the batch system says of its partitions now."""
    by_name = {seen.name: seen for seen in machine.partitions}
    name = chosen or next((seen.name for seen in machine.partitions if seen.is_default), None)
    fitting = [seen.name for seen in machine.partitions if not _misfits(ask, seen) and seen.closed is None]
    instead = f"set partition: {fitting[0]}" if fitting else "ask for less"
    if name is None or name not in by_name:
        what = "names no partition, and there is no default" if name is None else f"wants '{name}', which is not there"
        yield Finding("limits", Level.WRONG, f"the target {what}; there is {', '.join(by_name)}", instead)
        return
    seen = by_name[name]
    if seen.closed is not None:
        yield Finding("limits", Level.DOUBTFUL, f"partition '{name}' is not open to all: {seen.closed}", instead)
    wrong = _misfits(ask, seen)
    if wrong:
        yield Finding("limits", Level.WRONG, f"{ask} does not fit '{name}': {', '.join(wrong)}", instead)
    else:
        yield Finding("limits", Level.OK, f"{ask} fits '{name}'")


def _misfits(ask: Ask, seen: QueueSeen) -> list[str]:
    memory = None if seen.memory is None else format_memory(seen.memory)
    longest = None if seen.walltime_s is None else format_walltime(seen.walltime_s)
    too_much = (
        (seen.walltime_s, ask.walltime_s, f"its longest walltime is {longest}"),
        (seen.nodes, ask.nodes, f"at most {seen.nodes} nodes"),
        (seen.cpus, ask.cpus, f"its largest node has {seen.cpus} cpus"),
        (seen.memory, ask.memory, f"its largest node has {memory}"),
        (seen.gpus, ask.gpus, f"its largest node has {seen.gpus} gpus"),
    )
    words = [text for limit, asked, text in too_much if limit is not None and asked is not None and asked > limit]
    if seen.least_nodes is not None and ask.nodes < seen.least_nodes:
        words.append(f"at least {seen.least_nodes} nodes")
    return words


def _allowed(facts: Facts, ask: Ask, quotas: Quotas) -> Iterator[Finding]:
    """Hold it against QOS, account, queue and server."""
    if not quotas.enforced:
        yield Finding("limits", Level.OK, "the batch system does not heed limits of QOSes and accounts")
        return
    account = facts.account or quotas.default_account
    refused = list(_unknown_words(facts, account, quotas))
    yield from refused
    rows = _that_apply(facts, account, quotas)
    found = [finding for row in rows for finding in _beyond(row, ask, facts.most_allocations)]
    yield from found
    if rows and not found and not refused:
        yield Finding("limits", Level.OK, f"{ask} is within what {', '.join(map(str, rows))} allow")


def _unknown_words(facts: Facts, account: str | None, quotas: Quotas) -> Iterator[Finding]:
    known = quotas.allowed_qos
    if known and account is not None and account not in known:
        words = f"account '{account}' is not this user's, or has no QOS"
        yield Finding("limits", Level.WRONG, words, f"set account: to one of {', '.join(known)}")
    elif facts.qos is not None and account is not None and facts.qos not in known.get(account, (facts.qos,)):
        words = f"QOS '{facts.qos}' is not open to account '{account}'"
        yield Finding("limits", Level.WRONG, words, f"set qos: to one of {', '.join(known[account])}")


def _that_apply(facts: Facts, account: str | None, quotas: Quotas) -> list[Quota]:
    machine = facts.machine
    default = next((seen.name for seen in machine.partitions if seen.is_default), None) if machine else None
    partition = facts.partition or default
    qoses = {facts.qos or quotas.default_qos.get(account or ""), quotas.qos_of.get(partition or "")}
    return [
        row
        for row in quotas.rows
        if (row.kind == QOS and row.name in qoses)
        or (row.kind == ACCOUNT and row.name == account and row.partition in (None, partition))
        or (row.kind not in (QOS, ACCOUNT) and (row.kind == SERVER or row.name == partition))
    ]


def _beyond(row: Quota, ask: Ask, most: int) -> Iterator[Finding]:
    """Yield what one job asks for beyond a quota; else how many of the allocations fit in it at once."""
    asked = {"cpu": ask.cpus * ask.nodes, "node": ask.nodes, "gpu": ask.gpus * ask.nodes}
    asked |= {"memory": ask.memory * ask.nodes} if ask.memory is not None else {}
    wrong = []
    if row.walltime_s is not None and ask.walltime_s > row.walltime_s:
        longest = format_walltime(row.walltime_s)
        wrong.append((f"a walltime of {longest} at most", f'set walltime: "{longest}" or less'))
    for limit in (row.each, row.together):
        short = [name for name in limit if asked.get(name, 0) > limit[name]]
        wrong += [(_amount(name, limit[name]), "ask for less in allocations: and the component") for name in short]
    if 0 in (row.running, row.queued):
        wrong.append(("no job", "ask the site's staff"))
    if wrong:
        words, remedies = zip(*wrong, strict=True)
        remedy = "; ".join(dict.fromkeys(remedies))
        other = ", or set another qos:" if row.kind == QOS else ""
        yield Finding("limits", Level.WRONG, f"{row} allows {', '.join(dict.fromkeys(words))}; {ask}", remedy + other)
    else:
        yield from _crowd(row, asked, most)


def _crowd(row: Quota, asked: Mapping[str, int], most: int) -> Iterator[Finding]:
    counts = [row.queued, row.running]
    counts += [limit // asked[name] for name, limit in row.together.items() if asked.get(name)]
    at_once = min((count for count in counts if count is not None), default=most)
    if at_once < most:
        words = f"{row} allows {at_once} such job{'' if at_once == 1 else 's'} at once, the target up to {most}"
        yield Finding("limits", Level.DOUBTFUL, words, f"set allocations.max: {at_once}, or the others wait")


def _amount(name: str, limit: int) -> str:
    return f"{format_memory(limit)} of memory" if name == "memory" else f"{limit} {name}{'' if limit == 1 else 's'}"
