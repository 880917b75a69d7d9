"""From a call to a task: its name, its key, its store, and what the manifest says about it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from blake3 import blake3

from scalable_hpc.call import Call, pickle_rule
from scalable_hpc.config.resolved import EVERY_TASK, ResolvedManifest, TaskDefaults
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Payload, RetryPolicy, TaskSpec

_KIND_BYTES = 12
"""Of a digest that only tells kinds of calls apart; there may be a million of them."""


_SAMPLE_DIGITS = 8
_SAMPLES = float(16**_SAMPLE_DIGITS)


class Naming:
    """Names the tasks of one run."""

    def __init__(
        self,
        manifest: ResolvedManifest,
        run_id: str,
        run_store: str,
        *,
        first_number: int = 1,
        claim: Callable[[str, str], str | None] = lambda *_: None,
    ) -> None:
        """Begin to name.

        Args:
            manifest: what says more of each task.
            run_id: part of every key that holds in this run only.
            run_store: root of the run's own store.
            first_number: of the first task; names are never used twice in a run.
            claim: returns the task that a call was under an earlier driver of the run, by store and key; None: none.
        """
        self._claim = claim
        self._tasks: Mapping[str, TaskDefaults] = manifest.tasks
        self._worker_types = manifest.worker_types
        self._cache = str(manifest.cache_root)
        self._factor = manifest.factor
        self._run_id = run_id
        self._run_store = run_store
        self._numbers = itertools.count(first_number)
        self._lock = threading.Lock()
        self._equal: dict[bytes, int] = {}
        """How many calls of each kind there were: equal ones are told apart by their order."""
        self._last_rule: tuple[object, Payload] | None = None
        """The rule that was pickled last: the calls of one ``map`` share theirs."""

    def cache_of(self, name: str) -> bool | None:
        """What the manifest says of caching a task: yes, no, or nothing."""
        said = self._tasks.get(name) or self._tasks.get(EVERY_TASK)
        return None if said is None else said.cache

    def is_pure(self, name: str) -> bool:
        """What the manifest says of a task: whether the same call always gives the same result."""
        said = self._tasks.get(name) or self._tasks.get(EVERY_TASK)
        return True if said is None else said.pure

    def persists(self, name: str) -> bool:
        """What the manifest says of a task: whether its results are stored, not held by their workers."""
        said = self._tasks.get(name) or self._tasks.get(EVERY_TASK)
        return True if said is None else said.persist

    def specify(self, call: Call) -> TaskSpec:
        """Return the task of a call.

        Raises:
            TypeError: the rule of its retry policy cannot be pickled.
            ManifestError: the call names a task or a worker type that the manifest does not have.
        """
        options = call.options
        said = self._said_of(call)
        name = said.name if options.task else call.name
        is_cached = call.cache_key is not None
        is_pure = said.pure if options.pure is None else options.pure
        policy = _policy(call, said.policy)
        key, store = call.cache_key or self._key(call), self._cache if is_cached else self._run_store
        claimed = self._claim(store, key)
        return TaskSpec(
            task_id=claimed or f"{name}-{next(self._numbers):05d}",
            name=name,
            key=key,
            function=call.function,
            arguments=call.arguments,
            store=store,
            ancestors=call.ancestors,
            needs=self._needs(call, said.needs),
            policy=replace(policy, worth_retrying=None) if callable(policy.worth_retrying) else policy,
            timeout_s=options.timeout_s if options.timeout is not None else said.timeout_s,
            expected_runtime_s=(
                _quicker(options.expected_runtime_s, self._factor)
                if options.expected_runtime is not None
                else said.expected_runtime_s
            ),
            priority=options.priority,
            tag=options.tag,
            submitted_at=time.time(),
            label=call.label,
            refresh=call.refresh,
            pure=is_pure,
            verify_pure=self._verified(call, said) if is_pure and options.persist is not False else 0.0,
            persist=options.persist is not False or not is_pure,
            checkpoints=bool(said.checkpoints) if options.checkpoints is None else options.checkpoints,
            rule=self._rule(policy),
            is_resumed=claimed is not None,
        )

    def _rule(self, policy: RetryPolicy) -> Payload | None:
        """The policy's own rule, pickled; None: it has none."""
        rule = policy.worth_retrying
        if rule is None:
            return None
        if self._last_rule is None or self._last_rule[0] is not rule:
            self._last_rule = rule, pickle_rule(rule)
        return self._last_rule[1]

    def _said_of(self, call: Call) -> TaskDefaults:
        """What the manifest says of the task that the call names, or of the function's name."""
        name = call.options.task or call.name
        if name in self._tasks:
            return self._tasks[name]
        return replace(self._tasks[EVERY_TASK], name=name) if EVERY_TASK in self._tasks else TaskDefaults(name)

    def _verified(self, call: Call, said: TaskDefaults) -> float:
        share = call.options.verify_share
        return said.verify_pure if share is None else share

    def _key(self, call: Call) -> str:
        """The key of a call that is not cacheable: its lineage, and which one it is of equal calls in this run.

        A driver that is started again on its run makes the same keys, and so meets its results. A key of the user's
        makes equal calls of one run one task; without, every call is a task of its own.
        """
        named = call.options.key
        if named:
            return _digest(self._run_id, "named", named)
        lineage = [call.identity] if call.identity else [call.function.digest, call.arguments.digest]
        kind = _digest(call.name, *lineage, *(ref.key for ref in call.ancestors))
        short = bytes.fromhex(kind)[:_KIND_BYTES]
        with self._lock:
            number = self._equal[short] = self._equal.get(short, 0) + 1
        return _digest(self._run_id, "call", kind, str(number))

    def _needs(self, call: Call, said: Needs) -> Needs:
        options = call.options
        given = {"cpus": options.cpus, "memory": options.memory_bytes, "gpus": options.gpus, "worker_type": options.tag}
        wanted = {name: value for name, value in given.items() if value is not None}
        needs = replace(said, **wanted) if wanted else said  # type: ignore[arg-type]
        if needs.worker_type is not None and needs.worker_type not in self._worker_types:
            there_is = ", ".join(repr(name) for name in sorted(self._worker_types))
            raise ManifestError(f"no such component: {needs.worker_type!r}; there is {there_is}")
        return needs


def is_sampled(key: str, share: float) -> bool:
    """Whether a task is one of that share; its key decides, so that every run verifies the same ones."""
    return int(key[:_SAMPLE_DIGITS], 16) < share * _SAMPLES


def verification_of(spec: TaskSpec, run_store: str) -> TaskSpec:
    """Return the task that computes another one's result once more; after all that is waiting for its first."""
    return replace(
        spec,
        task_id=f"{spec.task_id}-verify",
        key=_digest("verify", spec.key),
        store=run_store,
        priority=spec.priority - 1,
        label=f"{spec.label} once more",
        refresh=False,
        verify_pure=0.0,
        verifies=spec.task_id,
    )


def _digest(*parts: str) -> str:
    return blake3("\0".join(parts).encode()).hexdigest()


def _policy(call: Call, said: RetryPolicy | None) -> RetryPolicy:
    policy = call.options.retry or said or RetryPolicy()
    return policy if call.options.retries is None else replace(policy, retries=call.options.retries)


def _quicker(seconds: float | None, factor: float) -> float | None:
    """Return a run time that was said, in a rehearsal's time; what the manifest says is so already."""
    return None if seconds is None else seconds / factor


def number_of(task_id: str) -> int:
    """Return the number in a task's name (``simulate-00042``, ``simulate-00042-verify``); every task has taken one."""
    return next((int(part) for part in reversed(task_id.split("-")) if part.isdigit()), 0)
