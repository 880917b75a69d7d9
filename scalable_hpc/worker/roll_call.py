"""Asks whether the nodes that a task had are still there, after it has ended.

A program that runs on several nodes ends when one of them is lost, seconds before anybody is told of that node. What
its launcher then says is the loss of a connection or an exit code: a failure of the task, as it seems. Or it says
nothing: ``srun`` of Slurm 22.05 prints an error and exits with 0 when the ranks that are left did.

Rule 1: a node is taken for lost only where the batch system says so, or where it does not answer and the worker's own
node does: a batch system that is silent says nothing about nodes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from scalable_hpc.batch.slurm_values import expand_nodes
from scalable_hpc.worker.launching import system_of

ANSWER_WITHIN_S = 15.0
"""A node that is switched off does not refuse a connection, it does not answer; those that are there do at once."""

Granted = Callable[[], Collection[str]]
"""Asks the batch system which nodes the job has; none: it does not say."""
Heard = Callable[[Sequence[str]], Collection[str]]
"""Asks nodes for an answer, and returns those that gave one."""


@dataclass(frozen=True, slots=True)
class RollCall:
    """Knows how to ask for the nodes of one worker's tasks, its own first."""

    hosts: tuple[str, ...]
    granted: Granted
    heard: Heard

    def missing(self, *, failed: bool) -> tuple[str, ...]:
        """Return the nodes that are gone, as far as can be told.

        Args:
            failed: an attempt did: nodes that nobody misses yet are asked for an answer.
        """
        gone = self._not_in(self.granted())
        if gone or not failed:
            return gone
        heard = self.heard(self.hosts)
        # nobody answers where a node was taken out of the job just now
        return self._not_in(heard if self.hosts[0] in heard else self.granted())

    def _not_in(self, found: Collection[str]) -> tuple[str, ...]:
        return tuple(host for host in self.hosts if host not in found) if self.hosts[0] in found else ()


def roll_call_in(environ: Mapping[str, str], hosts: tuple[str, ...]) -> RollCall | None:
    """Return how to ask in this job; None where a task has one node, or nobody can be asked."""
    job_id = environ.get("SLURM_JOB_ID")
    if len(hosts) == 1 or job_id is None or system_of(environ) != "slurm":
        return None
    return RollCall(hosts, lambda: expand_nodes(_said(["squeue", "-h", "-j", job_id, "-o", "%N"])), _heard_by_srun)


def _heard_by_srun(hosts: Sequence[str]) -> tuple[str, ...]:
    """Have each of some nodes say its name; ``srun`` hands on what it heard, whether or not it heard all."""
    many = [f"--nodes={len(hosts)}", f"--ntasks={len(hosts)}", "--ntasks-per-node=1", f"--nodelist={','.join(hosts)}"]
    own = ["--overlap", "--mem=0", "--immediate=10", "--quiet", "--kill-on-bad-exit=0", "--unbuffered"]
    return tuple(_said(["srun", *own, *many, "sh", "-c", "echo $SLURMD_NODENAME"]).split())


def _said(words: Sequence[str]) -> str:
    """Return what a command prints in time; how it ends says nothing here."""
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    with process:
        try:
            said, _ = process.communicate(timeout=ANSWER_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    return said.decode("utf-8", "replace").strip()
