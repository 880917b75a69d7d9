"""What the journal is told of an allocation; pure."""

from __future__ import annotations

from scalable_hpc.fleet.known import Known
from scalable_hpc.model.events import AllocationChanged


def as_event(known: Known, now: float) -> AllocationChanged:
    """Return the event of its present state."""
    seen, ending = known.view, known.ending
    return AllocationChanged(
        at=now,
        name=seen.name,
        state=seen.state.value,
        because=seen.because,
        worker_type=seen.worker_type,
        job_id=seen.job_id,
        nodes=known.nodes,
        walltime_s=seen.walltime_s,
        ends_at=seen.ends_at,
        configured_s=seen.configured_s,
        reason=None if ending is None else ending.reason.value,
        raw=(known.raw or None) if ending is None else ending.raw,
    )
