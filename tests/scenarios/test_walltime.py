"""Work that outlasts the walltime of any one allocation, on real Slurm."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.ensembles import AttemptFailed, AttemptPlaced, ReceiptTaken, allocations_of, make_ensemble, of_kind

COUNT = 20


@pytest.mark.slurm
@pytest.mark.timeout(400)
def test_that_work_longer_than_a_walltime_completes_across_allocations(slurm, tmp_path):
    """Three allocations or more; none of the attempts was placed with too little time left; successors came early."""
    target = {
        "provider": "slurm",
        "queue": "batch",
        "interface": slurm.interface,
        "allocations": {"min": 0, "max": 1, "walltime": "00:01:00"},
    }
    ensemble = make_ensemble(tmp_path, target=target, count=COUNT, seconds=20.0, options=", expected_runtime=20")
    finished = ensemble.run(env=slurm.env, timeout=380)
    assert finished.returncode == 0, finished.stderr

    events = ensemble.events()
    lives = allocations_of(events)
    used = {event.allocation for event in of_kind(events, ReceiptTaken)}
    assert len(used) >= 3
    assert of_kind(events, AttemptFailed) == []
    assert all(event.time_left_s is None or event.time_left_s >= 20 for event in of_kind(events, AttemptPlaced))
    assert set(ensemble.counted("start").values()) == {1}
    early = 0
    names = sorted(used)
    for before, after in pairwise(names):
        ends = max(event.ends_at for event in lives[before] if event.ends_at is not None)
        early += lives[after][0].at < ends
    assert early >= 2, "successors were requested only after the end of their predecessors"
