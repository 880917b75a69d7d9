"""From a call to a task: its name, its key, its store, and what the manifest says about it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import replace

from blake3 import blake3

from scalable_hpc.call import Call
from scalable_hpc.config.resolved import ResolvedManifest, TaskDefaults
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import RetryPolicy, TaskSpec


class Naming:
    """Names the tasks of one run."""

    def __init__(self, manifest: ResolvedManifest, run_id: str, run_store: str) -> None:
        self._tasks: Mapping[str, TaskDefaults] = manifest.tasks
        self._worker_types = manifest.worker_types
        self._cache = str(manifest.cache_root)
        self._run_id = run_id
        self._run_store = run_store
        self._numbers = itertools.count(1)

    def cache_of(self, name: str) -> bool | None:
        """What the manifest says of caching a task: yes, no, or nothing."""
        return self._tasks[name].cache if name in self._tasks else None

    def specify(self, call: Call) -> TaskSpec:
        """Return the task of a call.

        Raises:
            ManifestError: the call names a task or a worker type that the manifest does not have.
        """
        options = call.options
        said = self._said_of(call)
        name = said.name if options.task else call.name
        number = next(self._numbers)
        task_id = f"{name}-{number:05d}"
        is_cached = call.cache_key is not None
        return TaskSpec(
            task_id=task_id,
            name=name,
            key=call.cache_key or self._key(call, task_id),
            function=call.function,
            arguments=call.arguments,
            store=self._cache if is_cached else self._run_store,
            ancestors=call.ancestors,
            needs=self._needs(call, said.needs),
            policy=_policy(call, said.policy),
            timeout_s=options.timeout_s if options.timeout is not None else said.timeout_s,
            expected_runtime_s=(
                options.expected_runtime_s if options.expected_runtime is not None else said.expected_runtime_s
            ),
            priority=options.priority,
            tag=options.tag,
            submitted_at=time.time(),
            label=call.label,
            refresh=call.refresh,
            checkpoints=options.checkpoints,
        )

    def _said_of(self, call: Call) -> TaskDefaults:
        """What the manifest says of the task that the call names, or of the function's name."""
        name = call.options.task or call.name
        if name in self._tasks:
            return self._tasks[name]
        return TaskDefaults(name)

    def _key(self, call: Call, task_id: str) -> str:
        """The key of a call that is not cacheable: its lineage, and its place in this run.

        A key of the user's makes equal calls of one run one task; without, every call is a task of its own.
        """
        named = call.options.key
        parts = [self._run_id, "named", named] if named else [self._run_id, "call", task_id]
        parts += [] if named else [call.function.digest, call.arguments.digest, *(ref.key for ref in call.ancestors)]
        return blake3("\0".join(parts).encode()).hexdigest()

    def _needs(self, call: Call, said: Needs) -> Needs:
        options = call.options
        given = {"cpus": options.cpus, "memory": options.memory_bytes, "gpus": options.gpus, "worker_type": options.tag}
        needs = replace(said, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        if needs.worker_type is not None and needs.worker_type not in self._worker_types:
            there_is = ", ".join(repr(name) for name in sorted(self._worker_types))
            raise ManifestError(f"no such component: {needs.worker_type!r}; there is {there_is}")
        return needs


def _policy(call: Call, said: RetryPolicy | None) -> RetryPolicy:
    policy = call.options.retry or said or RetryPolicy()
    return policy if call.options.retries is None else replace(policy, retries=call.options.retries)
