"""Work that outlasts the walltime of any one allocation, on every batch system."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.ensembles import AttemptFailed, AttemptPlaced, ReceiptTaken, allocations_of, make_ensemble, of_kind


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_that_work_longer_than_a_walltime_completes_across_allocations(batch_system, tmp_path):
    """Several jobs; none of the attempts was placed with too little time left; a successor came early.

    PBS keeps no history here, as is its default, so that each end is told by the job's own script.
    """
    batch_system.keep_no_history()
    work = batch_system.outlasting
    target = batch_system.target(walltime=work.walltime)
    options = f", expected_runtime={work.seconds}"
    ensemble = make_ensemble(
        tmp_path, target=target, count=work.count, seconds=work.seconds, cpus=batch_system.cpus, options=options
    )
    finished = ensemble.run(env=batch_system.env, timeout=280 * batch_system.slowness)
    assert finished.returncode == 0, finished.stderr

    events = ensemble.events()
    lives = allocations_of(events)
    used = sorted({event.allocation for event in of_kind(events, ReceiptTaken)})
    assert len(used) >= 2
    assert of_kind(events, AttemptFailed) == []
    left = [event.time_left_s for event in of_kind(events, AttemptPlaced) if event.time_left_s is not None]
    assert min(left, default=work.seconds) >= work.seconds
    assert set(ensemble.counted("start").values()) == {1}
    assert all(lives[name][-1].reason in ("completed", "cancelled") for name in used)
    early = 0
    for before, after in pairwise(used):
        ends = max(event.ends_at for event in lives[before] if event.ends_at is not None)
        early += lives[after][0].at < ends
    assert early >= 1, "successors were requested only after the end of their predecessors"
    assert batch_system.jobs(ensemble) == []
