"""A run whose every scenario is known asks for nothing, on any batch system."""

from __future__ import annotations

from tests.ensembles import AllocationChanged, make_ensemble, of_kind

LOCAL = {"provider": "local", "capacity": {"cpus": 2}, "allocations": {"max": 1, "walltime": "00:05:00"}}


def test_that_a_second_run_opens_no_allocation_and_says_so(batch_system, tmp_path):
    """Every key is known: no job, no Dask, not even a question to the batch system; and a line that says it."""
    ensemble = make_ensemble(tmp_path, target=batch_system.target(), count=12, seconds=0.0, cpus=batch_system.cpus)
    first = ensemble.run(env=batch_system.env, timeout=150 * batch_system.slowness)
    assert first.returncode == 0, first.stderr
    assert of_kind(ensemble.events(), AllocationChanged) != []
    batch_system.go_away()

    second = ensemble.run(env={**batch_system.env, "SCALABLE_HPC_PROGRESS": "1"})

    assert second.returncode == 0, second.stderr
    assert of_kind(ensemble.events(), AllocationChanged) == []
    assert "no allocation was opened" in second.stderr
    assert set(ensemble.counted("start").values()) == {1}


def test_that_workers_without_the_users_home_seal_with_the_users_key(tmp_path):
    """On nodes that do not see the home directory, results are sealed as the driver's are: the next run knows them."""
    ensemble = make_ensemble(tmp_path, target={**LOCAL, "env": {"HOME": "/nonexistent"}}, count=4, seconds=0.0, cpus=2)
    assert ensemble.run().returncode == 0

    second = ensemble.run()

    assert second.returncode == 0, second.stderr
    assert "another key" not in second.stderr
    assert set(ensemble.counted("start").values()) == {1}
