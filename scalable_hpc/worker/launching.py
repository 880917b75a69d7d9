"""What a task needs to start ``srun`` or ``mpiexec`` by itself, on the nodes that it has and no others; pure.

A worker is itself started by a batch job, often by ``srun``, and what that says of *its* place (rank 0 of 4 on 4 nodes,
one task per node, this PMI server) would be taken by an MPI library for the task's own, and by ``srun`` for options.
And what the job says of its nodes are those of all its workers: ``mpiexec`` would start ranks on the neighbours'.

Rule 1: what says which job we are in stays, since launchers need it; what says which nodes it has names the worker's.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from scalable_hpc.batch.slurm_values import expand_nodes
from scalable_hpc.errors import SiteError

HOSTS_VARIABLE = "SCALABLE_HPC_HOSTS"
"""Environment of an attempt, and of a worker whose script knows: the nodes that it has, with commas between."""
_PLACES_VARIABLE = "SCALABLE_HPC_PLACES"
"""Environment: the nodes of an allocation that is a step of the driver's own job."""
_LOCAL_JOB_VARIABLE = "SCALABLE_HPC_JOB_ID"

_OF_OUR_STEP = re.compile(
    r"(PMI|PMI2|PMIX)_\w+|OMPI_COMM_WORLD_\w+"
    r"|SLURM_(STEP\w*|STEPID|PROCID|LOCALID|NODEID|GTIDS|TASK_PID|LAUNCH_NODE_IPADDR|SRUN_COMM_\w+|UMASK"
    r"|NTASKS\w*|NPROCS|NNODES|CPUS_PER_TASK|TRES_PER_TASK|MEM_PER_\w+|DISTRIBUTION|CPU_BIND\w*|MEM_BIND\w*"
    r"|KILL_BAD_EXIT|NO_KILL|OVERLAP|EXACT|WHOLE|MPI_TYPE)"
    r"|SRUN_CPUS_PER_TASK|SRUN_DEBUG"
)
_FOR_SRUN = {"SLURM_OVERLAP": "1", "SLURM_CPU_BIND": "none"}
"""The cpus of the job are dealt out by us: ``srun`` must neither wait until they are free, nor pick some itself."""
_FOR_NEIGHBOURS = {"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"}
"""Open MPI would bind the ranks of each task on a node to the same first cores."""


@dataclass(frozen=True, slots=True)
class Party:
    """The nodes on which the tasks of one worker may start programs."""

    hosts: tuple[str, ...]
    """As the batch system calls them, the worker's own first."""
    cpus: int
    """Of each."""
    slots: int = 1
    """How many tasks share them."""
    programs: str | None = None
    """Directory of a ``srun`` that leaves the job's other nodes alone; None: there are none."""
    node_file: str | None = None
    """Where PBS's ``mpiexec`` is to read the nodes; None: it is not PBS."""


def system_of(environ: Mapping[str, str]) -> str:
    """Return whose job a process with this environment is in: ``slurm``, ``pbs``, or nobody's: empty."""
    if _LOCAL_JOB_VARIABLE in environ and _PLACES_VARIABLE not in environ:
        return ""
    return "slurm" if "SLURM_JOB_NODELIST" in environ else "pbs" if "PBS_JOBID" in environ else ""


def own_hosts(environ: Mapping[str, str], *, node: str, count: int) -> tuple[str, ...]:
    """Return the nodes that the tasks of this worker have: as the script says, or those that follow its own.

    Args:
        environ: the worker's environment.
        node: where the worker runs.
        count: how many nodes there must be.

    Raises:
        SiteError: the job does not have them.
    """
    if count == 1:
        return (node,)
    said = environ.get(HOSTS_VARIABLE) or environ.get(_PLACES_VARIABLE)
    nodes = tuple(said.split(",")) if said else expand_nodes(environ.get("SLURM_JOB_NODELIST", ""))
    if environ.get(HOSTS_VARIABLE) and len(nodes) == count:
        return nodes
    found = nodes[nodes.index(node) :][:count] if node in nodes else ()
    if len(found) < count:
        raise SiteError(
            f"a worker on {node!r} is to have {count} nodes, and the allocation has {', '.join(nodes) or 'none'}",
            hint="look at the job's script: it says which node each worker is started on",
        )
    return found


def node_file_text(party: Party) -> str:
    """Return what PBS would have written had the job been given these nodes alone: a line for each rank."""
    return "".join(f"{host}\n" * party.cpus for host in party.hosts)


def srun_text(srun: str, party: Party, environ: Mapping[str, str]) -> str | None:
    """Return a script that is ``srun`` without the job's other nodes; None where there are no others.

    No variable says this: ``SLURM_JOB_NODELIST`` is not read by ``srun``, and with ``SLURM_HOSTFILE`` it takes
    ``--ntasks-per-node`` for something else.
    """
    nodes = expand_nodes(environ.get("SLURM_JOB_NODELIST", ""))
    others = [node for node in nodes if node not in party.hosts]
    if not others or not set(party.hosts) <= set(nodes):
        return None
    return f'#!/bin/sh\nexec {shlex.quote(srun)} --exclude={shlex.quote(",".join(others))} "$@"\n'


def environment_for_tasks(environ: Mapping[str, str], party: Party | None = None) -> dict[str, str]:
    """Return a worker's environment without what is said of the worker alone, and with the nodes of its tasks."""
    seen = {name: value for name, value in environ.items() if not _OF_OUR_STEP.fullmatch(name)}
    seen.update(_FOR_SRUN if "SLURM_JOB_ID" in environ else {})
    if party is None:
        return seen
    seen[HOSTS_VARIABLE] = ",".join(party.hosts)
    seen.update(_FOR_NEIGHBOURS if party.slots > 1 else {})
    if party.node_file is not None:
        seen["PBS_NODEFILE"] = party.node_file
    if party.programs is not None:
        seen["PATH"] = os.pathsep.join(filter(None, (party.programs, seen.get("PATH"))))
    return {**seen, **_slurm_nodes(party)} if system_of(environ) == "slurm" else seen


def _slurm_nodes(party: Party) -> dict[str, str]:
    """Return what MPI libraries and ``srun`` take for the nodes of the job."""
    count = len(party.hosts)
    cpus = str(party.cpus) if count == 1 else f"{party.cpus}(x{count})"
    hosts = ",".join(party.hosts)
    return {
        **dict.fromkeys(("SLURM_JOB_NODELIST", "SLURM_NODELIST"), hosts),
        **dict.fromkeys(("SLURM_JOB_NUM_NODES", "SLURM_NNODES"), str(count)),
        **dict.fromkeys(("SLURM_TASKS_PER_NODE", "SLURM_JOB_CPUS_PER_NODE"), cpus),
    }


def launch_words(
    program: str | None, *, ranks: int | None, hosts: tuple[str, ...], cpus: int, environ: Mapping[str, str]
) -> list[str]:
    """Return the words before a parallel program's own.

    Args:
        program: ``srun`` or ``mpiexec``, or another of the latter's kind; None: as the batch system has it.
        ranks: how many there are to be; None: one for each cpu.
        hosts: the nodes of the task.
        cpus: of each.
        environ: the task's environment.
    """
    wanted = len(hosts) * cpus if ranks is None else ranks
    if program is None:
        program = "srun" if system_of(environ) == "slurm" else "mpiexec"
    words = [program, "-n", str(wanted)]
    if program.rpartition("/")[2] == "srun":
        words += [f"--nodes={min(len(hosts), wanted)}", f"--nodelist={','.join(hosts[:wanted])}"]
    # Ours, meant for a task that is one process: each of its ranks would start as many threads.
    is_ours = environ.get("OMP_NUM_THREADS") == str(cpus)
    return [*words, "env", f"OMP_NUM_THREADS={max(1, len(hosts) * cpus // wanted)}"] if is_ours else words
