"""Reads what PBS says of its queues (``qmgr -c 'print server'``) and its nodes (``pbsnodes -a``).

Rule 1: pure, and no text raises: a word that cannot be read leaves its fact unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.batch.quota import QUEUE, SERVER, Quota, Quotas

_SET_QUEUE = re.compile(r"^set queue (\S+) ([\w.]+) (?:\+)?= (.*)$")
_SET_SERVER = re.compile(r"^set server ([\w.]+) (?:\+)?= (.*)$")
_ATTRIBUTE = re.compile(r"^\s+([\w.]+) = (.*)$")
_EACH_USER = re.compile(r"\[?u:PBS_GENERIC=(\d+)\]?")
_SECTION = re.compile(r"^(Queue|Server): (\S+)")
_RESOURCES = {"max_run_res.ncpus": "cpu", "max_run_res.nodect": "node", "max_run_res.ngpus": "gpu"}
_SIZE = re.compile(r"(\d+)([kmgt]?)[bw]?")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+)")


def read_machine(*, server: str, nodes: str, name: str, version: str, silent: Iterable[str] = ()) -> MachineSeen:
    """Return the machine as PBS tells it.

    Args:
        server: of ``qmgr -c 'print server'``.
        nodes: of ``pbsnodes -a``.
        name: what the machine is called; PBS names its server's host only.
        version: of ``qstat --version``.
        silent: commands that gave no answer.
    """
    queues: dict[str, dict[str, str]] = {}
    of_server: dict[str, str] = {}
    for line in server.splitlines():
        if match := _SET_QUEUE.match(line.strip()):
            queues.setdefault(match[1], {}).setdefault(match[2], match[3])
        elif match := _SET_SERVER.match(line.strip()):
            of_server.setdefault(match[1], match[2])
        elif line.startswith("create queue "):
            queues.setdefault(line.split()[2], {})
    shape = _largest(nodes)
    return MachineSeen(
        batch="pbs",
        name=name,
        version=version,
        partitions=tuple(_queue(name, said, of_server.get("default_queue"), shape) for name, said in queues.items()),
        jobs=_each_user(of_server.get("max_queued", "")),
        silent=tuple(silent),
    )


def as_settings(text: str) -> str:
    """Return what ``qstat -Qf`` or ``qstat -Bf`` prints, which every user may ask for, as ``qmgr`` would."""
    lines: list[str] = []
    whose = ""
    for line in re.sub(r"\n\t", "", text).splitlines():
        if match := _SECTION.match(line):
            whose = f"queue {match[2]}" if match[1] == "Queue" else "server"
            lines += [f"create {whose}"] if match[1] == "Queue" else []
        elif (match := _ATTRIBUTE.match(line)) and whose:
            lines.append(f"set {whose} {match[1]} = {match[2]}")
    return "\n".join(lines)


def read_quotas(server: str, silent: Iterable[str] = ()) -> Quotas:
    """Return what one user may have in each queue, and at all, from what ``read_machine`` reads too."""
    said: dict[tuple[str, str], dict[str, str]] = {}
    for line in server.splitlines():
        if match := _SET_QUEUE.match(line.strip()):
            said.setdefault((QUEUE, match[1]), {}).setdefault(match[2], match[3])
        elif match := _SET_SERVER.match(line.strip()):
            said.setdefault((SERVER, "default"), {}).setdefault(match[1], match[2])
    quotas = (
        Quota(
            kind,
            name,
            running=_each_user(found.get("max_run", "")),
            queued=_each_user(found.get("max_queued", "")),
            together={
                to: limit for of, to in _RESOURCES.items() if (limit := _each_user(found.get(of, ""))) is not None
            },
        )
        for (kind, name), found in said.items()
    )
    return Quotas(tuple(quota for quota in quotas if quota != Quota(quota.kind, quota.name)), silent=tuple(silent))


def _queue(name: str, said: Mapping[str, str], default: str | None, shape: QueueSeen) -> QueueSeen:
    closed = None
    if said.get("enabled", "False") != "True":
        closed = "it is not enabled"
    elif said.get("started", "False") != "True":
        closed = "it is not started"
    elif said.get("acl_user_enable") == "True" or said.get("acl_group_enable") == "True":
        closed = "only for some users or groups"
    elif said.get("from_route_only") == "True":
        closed = "jobs come to it through a routing queue"
    return QueueSeen(
        name=name,
        is_default=name == default,
        walltime_s=_seconds(said.get("resources_max.walltime", "")),
        nodes=_number(said.get("resources_max.nodect", "")),
        least_nodes=_more_than_one(_number(said.get("resources_min.nodect", ""))),
        cpus=_least(_number(said.get("resources_max.ncpus", "")), shape.cpus),
        memory=_least(_bytes(said.get("resources_max.mem", "")), shape.memory),
        gpus=shape.gpus,
        jobs=_each_user(said.get("max_queued", "")),
        closed=closed,
    )


def _largest(text: str) -> QueueSeen:
    """Return the largest node, whose parts may lie in different nodes; gpus are none where no node has any."""
    cpus: list[int] = []
    memory: list[int] = []
    gpus: list[int] = [0]
    for line in text.splitlines():
        match = _ATTRIBUTE.match(line)
        if match is None:
            continue
        for attribute, read, into in (
            ("resources_available.ncpus", _number, cpus),
            ("resources_available.mem", _bytes, memory),
            ("resources_available.ngpus", _number, gpus),
        ):
            if match[1] == attribute and (value := read(match[2])) is not None:
                into.append(value)
    return QueueSeen("", cpus=max(cpus, default=None), memory=max(memory, default=None), gpus=max(gpus))


def _seconds(text: str) -> int | None:
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _bytes(text: str) -> int | None:
    match = _SIZE.fullmatch(text.strip().lower())
    return None if match is None else int(match[1]) * 1024 ** _POWER[match[2]]


def _each_user(text: str) -> int | None:
    match = _EACH_USER.search(text)
    return None if match is None else int(match[1])


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _least(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None


def _more_than_one(number: int | None) -> int | None:
    return number if number is not None and number > 1 else None
