"""What QOSes, accounts and queues allow, held against what a target asks for; read from what a real Slurm and a real
PBS said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scalable_hpc.batch import pbs_survey_text, slurm_quota_text
from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.batch.quota import QOS, QUEUE, SERVER, Quota, Quotas
from scalable_hpc.config.fit import Ask
from scalable_hpc.doctor.facts import Facts
from scalable_hpc.doctor.finding import Level
from scalable_hpc.doctor.limits import limits

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts"
SURVEY = TRANSCRIPTS / "slurm" / "survey"


def slurm(**changes: str) -> Quotas:
    texts = {
        "qoses": (SURVEY / "sacctmgr_qos_limits.txt").read_text(),
        "accounts": (SURVEY / "sacctmgr_assoc_limits.txt").read_text(),
        "config": "ClusterName = juniper\nAccountingStorageEnforce = associations,limits,qos\n",
        "partitions": (SURVEY / "scontrol_show_partition.txt").read_text(),
        "default_account": "science\n",
    }
    return slurm_quota_text.read_quotas(**{**texts, **changes})


def settings_of_pbs() -> str:
    """Return what its users are told, who may not ask ``qmgr``."""
    text = (TRANSCRIPTS / "pbs" / "03-qstat-forms.txt").read_text()
    return pbs_survey_text.as_settings(text[(start := text.index("$ qstat -Qf\n")) : text.index("--- stderr", start)])


MACHINE = MachineSeen("slurm", "juniper", "22.05", (QueueSeen("batch", is_default=True), QueueSeen("limited")))
ASK = Ask("model", 1, 4, 2**30, 0, 600)


def facts(ask: Ask = ASK, quotas: Quotas | None = None, **changes) -> Facts:
    there = slurm() if quotas is None else quotas
    known = Facts(
        target="cluster", provider="slurm", host="login", python="3.11.7", machine=MACHINE, ask=ask, quotas=there
    )
    return replace(known, **changes)


def asks(**changes) -> Ask:
    return replace(ASK, **changes)


def limited(**more) -> Quotas:
    return Quotas((Quota(QOS, "q", **more),), default_account="a", default_qos={"a": "q"})


W, D, OK = Level.WRONG, Level.DOUBTFUL, Level.OK
CASES = {
    "all well": (facts(), OK, "is within what QOS 'normal' allow"),
    "walltime of a QOS": (facts(qos="short"), W, "QOS 'short' allows a walltime of 00:02:00 at most"),
    "jobs of a QOS": (facts(qos="limited", most_allocations=4), D, "allows 1 such job at once, the target up to 4"),
    "as many as it allows": (facts(qos="limited"), OK, "is within"),
    "cpus of a QOS": (facts(qos="small"), W, "QOS 'small' allows 2 cpus"),
    "QOS of others": (facts(qos="secret"), W, "QOS 'secret' is not open to account 'science'"),
    "account of others": (facts(account="theirs"), W, "account 'theirs' is not this user's"),
    "jobs of an account": (facts(account="capped", most_allocations=2), D, "account 'capped' allows 1 such job"),
    "QOS of a partition": (
        facts(quotas=slurm(partitions="PartitionName=batch QoS=short\n")), W, "QOS 'short' allows a walltime",
    ),
    "not heeded": (facts(qos="short", quotas=slurm(config="AccountingStorageEnforce = none\n")), OK, "does not heed"),
    "another cluster": (
        facts(account="capped", most_allocations=2, quotas=slurm(config="ClusterName = oak\n"
        "AccountingStorageEnforce = limits\n")), OK, "fits 'batch'",
    ),
    "nodes of one job": (facts(asks(nodes=9), limited(each={"node": 8})), W, "QOS 'q' allows 8 nodes"),
    "memory of one job": (facts(asks(nodes=2), limited(each={"memory": 2**30})), W, "allows 1 GiB of memory"),
    "gpus of all": (facts(asks(gpus=2), limited(together={"gpu": 5}), most_allocations=3), D, "allows 2 such jobs"),
    "nothing at all": (facts(quotas=limited(queued=0)), W, "QOS 'q' allows no job"),
    "a queue": (
        facts(quotas=pbs_survey_text.read_quotas(settings_of_pbs()), partition="limited", most_allocations=5), D,
        "queue 'limited' allows 2 such jobs at once",
    ),
    "another queue": (
        facts(quotas=pbs_survey_text.read_quotas(settings_of_pbs()), most_allocations=5), OK, "fits 'batch'",
    ),
    "a server": (facts(quotas=Quotas((Quota(SERVER, "default", running=1),)), most_allocations=2), D, "1 such job at"),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "level", "said"), CASES.values(), ids=CASES.keys())
def test_that_a_limit_beyond_partitions_is_found(seen, level, said):
    """One job beyond it is wrong, all of them together are doubtful; each with what to do."""
    findings = list(limits(seen))

    assert said in "\n".join(finding.said for finding in findings if finding.level is level), findings
    assert max(finding.level for finding in findings) is level
    assert all(finding.remedy for finding in findings if finding.level is not OK)


@pytest.mark.parametrize("text", ["", "|||", "x", "a|b|c|d|e|f|g|h|i", "\x00|1|2|3|4|5|6|7|8|9|10|11|12"])
def test_that_words_that_cannot_be_read_limit_nothing(text):
    """Whatever a newer Slurm prints, or an older one."""
    found = slurm(qoses=text, accounts=text, config=text, partitions=text, default_account=text)

    assert [row for row in found.rows if row.running or row.queued or row.walltime_s] == []


def test_that_a_pbs_tells_its_users_its_queues_without_qmgr():
    """By ``qstat -Qf``, which everybody may ask."""
    settings = settings_of_pbs()
    machine = pbs_survey_text.read_machine(server=settings, nodes="", name="pine", version="22.05.11")
    by_name = {queue.name: queue for queue in machine.partitions}

    assert by_name["short"].walltime_s == 120
    assert by_name["off"].closed == "it is not enabled"
    assert by_name["stopped"].closed == "it is not started"
    assert by_name["workq"].closed is None
    assert pbs_survey_text.read_quotas(settings).rows == (Quota(QUEUE, "limited", running=2, queued=4),)
