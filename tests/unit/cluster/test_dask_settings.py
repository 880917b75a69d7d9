"""Laws of the Dask configuration of a session."""

from __future__ import annotations

import dask

from scalable_hpc.cluster.dask_settings import SETTINGS, in_force

KEY = "distributed.scheduler.allowed-failures"


def test_that_the_settings_end_with_the_last_of_overlapping_sessions():
    """Two sessions at once, ended in the order they began: what was before is back, not sooner."""
    before = dask.config.get(KEY)
    first, second = in_force(), in_force()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    between = dask.config.get(KEY)
    second.__exit__(None, None, None)

    assert between == SETTINGS[KEY]
    assert dask.config.get(KEY) == before
    assert dask.config.get("jobqueue.scalable-hpc", None) is None


def test_that_every_setting_names_something_dask_knows():
    """A setting that Dask has renamed would do nothing, silently."""
    unknown = [key for key in SETTINGS if not key.startswith("jobqueue.") and dask.config.get(key, "?") == "?"]

    assert unknown == []
