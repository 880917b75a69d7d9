"""Reads what Slurm says of the limits of QOSes and accounts.

Rule 1: pure, and no text raises: a word that cannot be read leaves its limit unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from scalable_hpc.batch.quota import ACCOUNT, QOS, Quota, Quotas
from scalable_hpc.batch.slurm_survey_text import seconds

QOS_FORMAT = "Name,MaxWall,MaxJobsPerUser,MaxSubmitJobsPerUser,MaxTRES,MaxTRESPerUser,GrpTRES,GrpJobs,GrpSubmitJobs"
ACCOUNT_FORMAT = (
    "Cluster,Account,User,Partition,DefaultQOS,QOS,MaxWall,MaxJobs,MaxSubmitJobs,MaxTRES,GrpTRES,GrpJobs,GrpSubmitJobs"
)
_ENFORCING = {"limits", "safe"}
_NAMES = {"cpu": "cpu", "node": "node", "mem": "memory", "gres/gpu": "gpu"}
_AMOUNT = re.compile(r"(\d+)([KMGT]?)")
_POWER = {"K": 1, "M": 2, "G": 3, "T": 4}


def read_quotas(
    *, qoses: str, accounts: str, config: str, partitions: str, default_account: str, silent: Iterable[str] = ()
) -> Quotas:
    """Return the limits as Slurm tells them.

    Args:
        qoses: of ``sacctmgr -n -P show qos format=QOS_FORMAT``.
        accounts: of ``sacctmgr -n -P show assoc format=ACCOUNT_FORMAT``: the user's rows, and those of whole accounts.
        config: of ``scontrol show config``.
        partitions: of ``scontrol -o show partition``.
        default_account: of ``sacctmgr -n -P show user format=DefaultAccount``.
        silent: commands that gave no answer.
    """
    said = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", config, re.MULTILINE))
    found = [_cells(line, ACCOUNT_FORMAT) for line in accounts.splitlines()]
    cluster = said.get("ClusterName", "")
    rows = [row for row in found if row is not None and row["Cluster"] in ("", cluster)]
    own = [row for row in rows if row["User"]]
    return Quotas(
        rows=(*_qoses(qoses), *(quota for row in rows for quota in _account(row))),
        enforced=bool(_ENFORCING & set(said.get("AccountingStorageEnforce", "").split(","))),
        default_account=default_account.strip().partition("\n")[0] or None,
        default_qos={row["Account"]: row["DefaultQOS"] for row in own if row["DefaultQOS"]},
        allowed_qos={row["Account"]: tuple(row["QOS"].split(",")) for row in own if row["QOS"]},
        qos_of=dict(_qos_of(partitions)),
        silent=tuple(silent),
    )


def _cells(line: str, columns: str) -> Mapping[str, str] | None:
    names, cells = columns.split(","), line.split("|")
    return dict(zip(names, cells, strict=True)) if len(cells) == len(names) else None


def _qoses(text: str) -> Iterator[Quota]:
    for line in text.splitlines():
        row = _cells(line, QOS_FORMAT)
        if row is None or not row["Name"]:
            continue
        yield Quota(
            QOS,
            row["Name"],
            walltime_s=seconds(row["MaxWall"]),
            running=_least(row["MaxJobsPerUser"], row["GrpJobs"]),
            queued=_least(row["MaxSubmitJobsPerUser"], row["GrpSubmitJobs"]),
            each=_tres(row["MaxTRES"]),
            together=_lesser(_tres(row["MaxTRESPerUser"]), _tres(row["GrpTRES"])),
        )


def _account(row: Mapping[str, str]) -> Iterator[Quota]:
    """Yield what a row allows; of a whole account's only the sums count: the rest its users have in their own rows."""
    is_own = bool(row["User"])
    quota = Quota(
        ACCOUNT,
        row["Account"],
        row["Partition"] or None,
        walltime_s=seconds(row["MaxWall"]) if is_own else None,
        running=_least(row["MaxJobs"] if is_own else "", row["GrpJobs"]),
        queued=_least(row["MaxSubmitJobs"] if is_own else "", row["GrpSubmitJobs"]),
        each=_tres(row["MaxTRES"]) if is_own else {},
        together=_tres(row["GrpTRES"]),
    )
    if quota != Quota(ACCOUNT, quota.name, quota.partition):
        yield quota


def _qos_of(partitions: str) -> Iterator[tuple[str, str]]:
    for line in partitions.splitlines():
        word = dict(re.findall(r"(\w+)=(\S*)", line))
        if word.get("QoS", "N/A") not in ("", "N/A"):
            yield word.get("PartitionName", ""), word["QoS"]


def _tres(text: str) -> dict[str, int]:
    found = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        match = _AMOUNT.fullmatch(amount)
        if match is not None and name in _NAMES:
            unit = match[2] or ("M" if name == "mem" else "")
            found[_NAMES[name]] = int(match[1]) * 1024 ** _POWER.get(unit, 0)
    return found


def _lesser(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: min(each[name] for each in (one, other) if name in each) for name in {**one, **other}}


def _least(*texts: str) -> int | None:
    return min((int(text) for text in texts if text.isdigit()), default=None)
