"""From a target to the batch system that serves it."""

from __future__ import annotations

from dataclasses import replace

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.batch.local import LocalBackend
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
    return SlurmBackend(_slurm_commands(target))


def backend_for_orphans(target: ResolvedTarget, provider: str, run: RunDirectory) -> BatchBackend | None:
    """Return the batch system that an earlier run used, where this machine has it.

    A Local run's spool says by itself what is in it; of Slurm there is one on a machine, so this target's will do,
    or the commands' usual names.
    """
    if provider == "local":
        return LocalBackend(run.spool)
    if provider != "slurm":
        return None
    backend = make_backend(target, run) if target.provider == "slurm" else SlurmBackend()
    return backend if _is_here(backend) else None


def _slurm_commands(target: ResolvedTarget) -> SlurmCommands:
    names = {name: words[0] for name, words in target.commands.items()}
    arguments = {f"{name}_args": words[1:] for name, words in target.commands.items()}
    known = replace(SlurmCommands(), submit_timeout_s=target.submit_timeout_s)
    return replace(known, **names, **arguments)  # type: ignore[arg-type]  # the manifest knows no other names


def _is_here(backend: BatchBackend) -> bool:
    try:
        backend.check()
    except MissingCommandError:
        return False
    return True
