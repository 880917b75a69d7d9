"""Reads what Slurm says of its partitions, nodes, QOSes and associations.

Rule 1: pure, and no text raises: a word that cannot be read leaves its fact unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from scalable_hpc.batch.machine import MachineSeen, QueueSeen

_MIB = 2**20
_WORD = re.compile(r"(\w+)=(\S*)")
_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")
_GPU = re.compile(r"gpu(?::[^,:(]+)*:(?P<count>\d+)|gpu$")
_NO_LIMIT = {"", "UNLIMITED", "INFINITE", "NONE", "N/A", "(null)"}
_COLUMNS_OF_SINFO = 6
SINFO_FORMAT = "%R|%D|%c|%m|%G|%f"
QOS_FORMAT = "Name,MaxWall,MaxSubmitJobsPerUser"
ASSOCIATION_FORMAT = "Account,QOS,MaxSubmitJobs"


def read_machine(
    *, partitions: str, nodes: str, config: str, qoses: str = "", associations: str = "", silent: Iterable[str] = ()
) -> MachineSeen:
    """Return the machine as Slurm tells it.

    Args:
        partitions: of ``scontrol -o show partition``.
        nodes: of ``sinfo -h -e -o SINFO_FORMAT``.
        config: of ``scontrol show config``.
        qoses: of ``sacctmgr -n -P show qos``, or nothing where there is no accounting.
        associations: of ``sacctmgr -n -P show association``, likewise.
        silent: commands that gave no answer.
    """
    said = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", config, re.MULTILINE))
    shapes = _shapes(nodes)
    accounts, jobs, known = _associations(associations)
    found = [_qos(line) for line in qoses.splitlines() if line.strip("|")]
    return MachineSeen(
        batch="slurm",
        name=said.get("ClusterName", "cluster"),
        version=said.get("SLURM_VERSION", "of an unknown version"),
        partitions=tuple(_with_shape(_partition(line), shapes) for line in partitions.splitlines() if line.strip()),
        qoses=tuple(qos for qos in found if qos is not None and (not known or qos.name in known)),
        accounts=accounts,
        jobs=jobs,
        silent=tuple(silent),
    )


def _partition(line: str) -> QueueSeen:
    word = dict(_WORD.findall(line))
    state, accounts = word.get("State", "UP"), word.get("AllowAccounts", "ALL")
    closed = f"it is {state}" if state != "UP" else None
    if closed is None and accounts not in ("ALL", ""):
        closed = f"only for the accounts {accounts}"
    if closed is None and word.get("RootOnly") == "YES":
        closed = "only for root"
    return QueueSeen(
        name=word.get("PartitionName", "?"),
        is_default=word.get("Default") == "YES",
        walltime_s=seconds(word.get("MaxTime", "")),
        nodes=_least(_number(word.get("MaxNodes", "")), _number(word.get("TotalNodes", ""))),
        least_nodes=_more_than_one(_number(word.get("MinNodes", ""))),
        closed=closed,
    )


def _shapes(text: str) -> dict[str, QueueSeen]:
    """Return each partition's largest node, whose parts may lie in different nodes."""
    found: dict[str, QueueSeen] = {}
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) != _COLUMNS_OF_SINFO:
            continue
        name, _, cpus, memory, gres, features = cells
        before = found.get(name, QueueSeen(name))
        mebibytes = _number(memory)
        found[name] = replace(
            before,
            cpus=_most(before.cpus, _number(cpus)),
            memory=_most(before.memory, None if mebibytes is None else mebibytes * _MIB),
            gpus=_most(before.gpus, _gpus(gres)),
            features=tuple(dict.fromkeys([*before.features, *_features(features)])),
        )
    return found


def _with_shape(partition: QueueSeen, shapes: dict[str, QueueSeen]) -> QueueSeen:
    shape = shapes.get(partition.name)
    if shape is None:
        return partition
    return replace(partition, cpus=shape.cpus, memory=shape.memory, gpus=shape.gpus, features=shape.features)


def _qos(line: str) -> QueueSeen | None:
    cells = line.split("|")
    if len(cells) < len(QOS_FORMAT.split(",")) or not cells[0]:
        return None
    return QueueSeen(cells[0], walltime_s=seconds(cells[1]), jobs=_number(cells[2]))


def _associations(text: str) -> tuple[tuple[str, ...], int | None, frozenset[str]]:
    """Return accounts, the smallest number of jobs that all of them allow, and the QOSes that they have."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") >= ASSOCIATION_FORMAT.count(",")]
    accounts = tuple(dict.fromkeys(row[0] for row in rows if row[0]))
    limits = [_number(row[2]) for row in rows]
    jobs = None if not limits or None in limits else max(limit for limit in limits if limit is not None)
    return accounts, jobs, frozenset(qos for row in rows for qos in row[1].split(",") if qos)


def seconds(text: str) -> int | None:
    """Read ``1-00:00:00``; None: there is no limit, or it cannot be read."""
    if text in _NO_LIMIT:
        return None
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    return part["days"] * 86400 + part["hours"] * 3600 + part["minutes"] * 60 + part["seconds"]


def _number(text: str) -> int | None:
    digits = text.strip().rstrip("+")
    return int(digits) if digits.isdigit() else None


def _gpus(gres: str) -> int:
    counts = [int(match["count"] or 1) for part in gres.split(",") if (match := _GPU.match(part))]
    return sum(counts)


def _features(text: str) -> list[str]:
    return [] if text in _NO_LIMIT else text.split(",")


def _most(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None


def _least(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value]
    return min(known) if known else None


def _more_than_one(number: int | None) -> int | None:
    return number if number is not None and number > 1 else None
