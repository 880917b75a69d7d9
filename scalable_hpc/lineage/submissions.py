"""Calls as the journal keeps them: all that is needed to run one, by any driver."""

from __future__ import annotations

from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.model.events import TaskSubmitted
from scalable_hpc.model.tasks import TaskSpec


def submission_of(spec: TaskSpec, payloads: PayloadPack, now: float) -> TaskSubmitted:
    """Return the event of a call, its payloads added to the pack."""
    return TaskSubmitted(
        at=now,
        task_id=spec.task_id,
        name=spec.name,
        key=spec.key,
        store=spec.store,
        function=payloads.add(spec.function),
        arguments=payloads.add(spec.arguments),
        ancestors=tuple((ref.task_id, ref.key) for ref in spec.ancestors),
        needs=spec.needs,
        policy=spec.policy,
        timeout_s=spec.timeout_s,
        expected_runtime_s=spec.expected_runtime_s,
        priority=spec.priority,
        tag=spec.tag,
        label=spec.label,
        refresh=spec.refresh,
        checkpoints=spec.checkpoints,
        pure=spec.pure,
        verifies=spec.verifies,
        persist=spec.persist,
        rule=None if spec.rule is None else payloads.add(spec.rule),
    )
