"""From a target to the batch system that serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scalable_hpc.batch import pbs_text, slurm_text
from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.batch.pbs import PbsBackend, PbsCommands
from scalable_hpc.batch.slurm import SlurmBackend, SlurmCommands
from scalable_hpc.config.resolved import ResolvedTarget
from scalable_hpc.errors import MissingCommandError
from scalable_hpc.runs import RunDirectory


def make_backend(target: ResolvedTarget, run: RunDirectory) -> BatchBackend:
    """Return the target's batch system, for one run."""
    if target.provider == "local":
        return LocalBackend(
            run.spool,
            cpus=target.capacity_cpus,
            memory=target.capacity_memory,
            kill_wait_s=target.kill_wait_s,
            queue_wait_s=target.queue_wait_s,
        )
    if target.provider == "pbs":
        return PbsBackend(_pbs_commands(target), endings=run.endings)
    return SlurmBackend(_slurm_commands(target))


def never_runs_on(target: ResolvedTarget) -> Callable[[str], str | None]:
    """Return what says why a job that waits for a reason will never run; for the target's batch system."""
    return {"pbs": pbs_text.never_runs, "slurm": slurm_text.never_runs}.get(target.provider, lambda _: None)


def stuck_on(target: ResolvedTarget) -> Callable[[str], str | None]:
    """Return what says why a job waits for something else than its turn; for the target's batch system."""
    return {"pbs": pbs_text.stuck, "slurm": slurm_text.stuck}.get(target.provider, lambda _: None)


def backend_for_orphans(target: ResolvedTarget, provider: str, run: RunDirectory) -> BatchBackend | None:
    """Return the batch system that an earlier run used, where this machine has it.

    A Local run's spool says by itself what is in it; of Slurm or PBS there is one on a machine, so this target's will
    do, or the commands' usual names.
    """
    if provider == "local":
        return LocalBackend(run.spool)
    usual: dict[str, Callable[[], BatchBackend]] = {
        "slurm": SlurmBackend,
        "pbs": lambda: PbsBackend(endings=run.endings),
    }
    if provider not in usual:
        return None
    backend = make_backend(target, run) if target.provider == provider else usual[provider]()
    return backend if _is_here(backend) else None


def _slurm_commands(target: ResolvedTarget) -> SlurmCommands:
    known = replace(SlurmCommands(), submit_timeout_s=target.submit_timeout_s)
    return replace(known, **_renamed(target))


def _pbs_commands(target: ResolvedTarget) -> PbsCommands:
    known = replace(PbsCommands(), submit_timeout_s=target.submit_timeout_s)
    return replace(known, **_renamed(target))


def _renamed(target: ResolvedTarget) -> dict[str, Any]:
    """Return what is called in place of the batch commands; the manifest has no names but the provider's."""
    names = {name: words[0] for name, words in target.commands.items()}
    return {**names, **{f"{name}_args": words[1:] for name, words in target.commands.items()}}


def _is_here(backend: BatchBackend) -> bool:
    try:
        backend.check()
    except MissingCommandError:
        return False
    return True
