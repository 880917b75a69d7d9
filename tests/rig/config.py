"""The text of every configuration file of the cluster, as a pure function of its settings.

Rule 1: no I/O here; what a line is for stands beside it, where Slurm's manual does not say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.rig.settings import Settings

LICENSES = "solver:2"
GPUS = ("/dev/zero", "/dev/full")
"""Two of each node's devices, which pretend to be gpus: Slurm counts them, and tells jobs which are theirs."""

QOS = ("normal", "limited", "short", "small", "high")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine that carries the cluster calls itself, and the user who runs every daemon."""

    hostname: str
    user: str


def files(settings: Settings, machine: Machine) -> dict[str, str]:
    """Path below ``etc/`` -> text."""
    texts = {
        "slurm.conf": slurm_conf(settings, machine),
        "cgroup.conf": cgroup_conf(settings),
        "gres.conf": f"AutoDetect=off\nName=gpu Type=fake File={','.join(GPUS)}\n",
        "hosts": hosts(settings, machine),
        "plugstack.conf": "",
        "mail": f'#!/bin/sh\n{{ echo "--- mail: $*"; cat; }} >>{settings.root}/log/mail.txt\n',
        "env.sh": "".join(f"export {name}='{value}'\n" for name, value in settings.environment.items()),
    }
    if settings.accounting:
        texts["slurmdbd.conf"] = slurmdbd_conf(settings, machine)
    return texts


def slurm_conf(settings: Settings, machine: Machine) -> str:
    """The one file that controller, nodes and every command read."""
    sections = (
        _controller(settings, machine),
        _processes(settings),
        _timeouts(settings),
        _scheduling(settings),
        _records(settings),
        _nodes(settings, machine),
        _partitions(settings),
        settings.extra_conf,
    )
    return "\n".join(sections)


def _controller(settings: Settings, machine: Machine) -> str:
    root = settings.root
    return f"""\
# Written by tests/rig; lost at the next start.
ClusterName={settings.cluster}
SlurmctldHost={machine.hostname}({settings.head_address})
SlurmctldPort={settings.controller_port}
SlurmUser={machine.user}
SlurmdUser={machine.user}
AuthType=auth/munge
CredType=cred/munge
# The life of a credential is also what a requeued job waits for.
AuthInfo=socket={munge_socket(settings)},cred_expire={settings.credential_life}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/nodes/%n/spool
SlurmctldPidFile={root}/run/slurmctld.own
SlurmdPidFile={root}/run/slurmd-%n.own
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
LogTimeFormat=iso8601_ms
MailProg={root}/etc/mail
PlugStackConfig={root}/etc/plugstack.conf
"""


def _processes(settings: Settings) -> str:
    if settings.memory_limit == "cgroup":
        # Contain puts every process that joins a job under the job's limits.
        how = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=task=5
PrologFlags=Contain
"""
    else:
        kill = "JobAcctGatherParams=OverMemoryKill\n" if settings.memory_limit == "poll" else ""
        how = f"""\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
{kill}"""
    return f"""\
# Nodes pretend to have more than the machine has.
SlurmdParameters=config_overrides
# The head's limits (a small stack, few open files) are not the nodes'.
PropagateResourceLimits=NONE
{how}"""


def _timeouts(settings: Settings) -> str:
    return f"""\
KillWait={settings.kill_wait}
SlurmdTimeout={settings.slurmd_timeout}
MessageTimeout={settings.message_timeout}
SlurmctldTimeout=10
TCPTimeout=2
BatchStartTimeout=10
UnkillableStepTimeout=10
InactiveLimit=0
WaitTime=0
CompleteWait=0
# Not 0: slurmd 22.05 divides by it in jobs of more than 64 nodes, and dies.
EpilogMsgTime=100
# The controller speaks to every node itself: a dead node delays no other.
TreeWidth=256
MinJobAge=300
OverTimeLimit=0
# A node that comes back is in service again, for whatever reason it was down.
ReturnToService=2
JobRequeue=1
"""


def _scheduling(settings: Settings) -> str:
    parameters = (
        "batch_sched_delay=0",
        "sched_interval=2",
        "sched_min_interval=0",
        "bf_interval=1",
        "bf_resolution=60",
        "bf_window=1440",
        "bf_continue",
        "default_queue_depth=1000",
    )
    return f"""\
SchedulerType=sched/backfill
SchedulerParameters={",".join(parameters)}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={settings.memory_mb // settings.cpus}
PriorityType=priority/multifactor
PriorityWeightQOS=100000
PriorityWeightPartition=10000
PriorityWeightAge=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=ALL
"""


def _records(settings: Settings) -> str:
    finished = f"JobCompType=jobcomp/filetxt\nJobCompLoc={settings.root}/log/jobcomp.txt\n"
    if not settings.accounting:
        return finished + "AccountingStorageType=accounting_storage/none\n"
    return f"""\
{finished}AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={settings.database_address}
AccountingStoragePort={settings.database_port}
# Not a password: the munge socket for talking to slurmdbd, which AuthInfo does not cover.
AccountingStoragePass={munge_socket(settings)}
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment,job_script
"""


def _nodes(settings: Settings, machine: Machine) -> str:
    shape = (
        f"CPUs={settings.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={settings.cpus} ThreadsPerCore=1"
        f" RealMemory={settings.memory_mb} TmpDisk=1000 Gres=gpu:fake:{len(GPUS)} State=UNKNOWN"
    )
    known_as = "" if settings.has_own_addresses else f" NodeHostname={machine.hostname}"
    nodes = "".join(
        f"NodeName={node} NodeAddr={settings.address(node)} Port={settings.node_port(node)}{known_as} {shape}"
        f" Feature={_feature(settings, node)}\n"
        for node in settings.node_names
    )
    return f"GresTypes=gpu\nLicenses={LICENSES}\n{nodes}"


def _feature(settings: Settings, node: str) -> str:
    """The nodes are of two kinds, for constraints."""
    return "even" if settings.index(node) % 2 else "odd"


def _partitions(settings: Settings) -> str:
    everywhere = ",".join(settings.node_names)
    # Only jobs of the preempt* partitions are ever preempted, by anything in a partition of a higher tier.
    return f"""\
PartitionName=DEFAULT Nodes={everywhere} State=UP PreemptMode=OFF
PartitionName=batch Default=YES MaxTime=1-00:00:00 DefaultTime=01:00:00 PriorityTier=10
PartitionName=debug MaxTime=00:05:00 DefaultTime=00:01:00 MaxNodes=2 PriorityTier=10
PartitionName=urgent MaxTime=01:00:00 DefaultTime=00:10:00 PriorityTier=100
PartitionName=preempt MaxTime=1-00:00:00 DefaultTime=01:00:00 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=preemptgrace MaxTime=1-00:00:00 DefaultTime=01:00:00 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=preemptcancel MaxTime=1-00:00:00 DefaultTime=01:00:00 PriorityTier=1 PreemptMode=CANCEL
PartitionName=closed State=DOWN MaxTime=01:00:00
PartitionName=retired State=INACTIVE MaxTime=01:00:00
PartitionName=private MaxTime=01:00:00 AllowAccounts=vip
"""


def cgroup_conf(settings: Settings) -> str:
    """Named even where no cgroups are used: slurmd 22.05 looks for some always, and dies on most version 2 hosts."""
    text = "CgroupPlugin=cgroup/v1\n"
    if settings.memory_limit == "cgroup":
        text += "CgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\nConstrainSwapSpace=no\n"
        text += "ConstrainCores=no\nConstrainDevices=no\n"
    return text


def hosts(settings: Settings, machine: Machine) -> str:
    """What the nodes see as /etc/hosts: there, the head is not 127.0.0.1."""
    lines = ["127.0.0.1 localhost"]
    if settings.mode == "netns":
        lines.append(f"{settings.head_address} {machine.hostname}")
        lines += [f"{settings.address(node)} {node}" for node in settings.node_names]
    return "\n".join(lines) + "\n"


def slurmdbd_conf(settings: Settings, machine: Machine) -> str:
    """slurmdbd finds the database by the variable MYSQL_UNIX_PORT: a socket in a private directory, no passwords."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={munge_socket(settings)}
DbdHost=localhost
DbdAddr={settings.database_address}
DbdPort={settings.database_port}
SlurmUser={machine.user}
DebugLevel=info
LogFile={settings.root}/log/slurmdbd.log
PidFile={settings.root}/run/slurmdbd.own
CommitDelay=0
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
"""


def accounts(settings: Settings, machine: Machine) -> str:
    """What sacctmgr is told, in one session: every connection to slurmdbd costs many round trips."""
    common = f"Cluster={settings.cluster} QOS={','.join(QOS)} DefaultQOS=normal Organization=test"
    return f"""\
add cluster {settings.cluster}
add qos limited MaxJobsPerUser=1 MaxSubmitJobsPerUser=3
add qos short MaxWall=00:02:00 Flags=DenyOnLimit
add qos small MaxTRESPerUser=cpu=2
add qos high Priority=1000
add account science {common} Description=science
add account capped {common} Description=capped MaxJobs=1 MaxSubmitJobs=2
add account broke {common} Description=broke GrpTRESMins=cpu=0
add account vip {common} Description=vip
add user {machine.user} Cluster={settings.cluster} Account=science,capped,broke DefaultAccount=science
modify user {machine.user} where Cluster={settings.cluster} set DefaultAccount=science
"""


def munge_socket(settings: Settings) -> str:
    """Where munged listens, away from the machine's own."""
    return f"{settings.root}/run/munge/socket"
