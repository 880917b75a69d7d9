"""An allocation is asked for less time where less is left to do: on Local, and as Slurm's own accounting has it."""

from __future__ import annotations

import json

import pytest

from tests.ensembles import Ensemble, allocations_of

pytestmark = pytest.mark.slow

DRIVER = """
import time
from pathlib import Path
from scalable_hpc import ScalableSession

HERE = Path({base!r})


def scenario(number):
    time.sleep(0.05)
    return number


if __name__ == "__main__":
    with ScalableSession.from_yaml(str(HERE / "scalable.yaml")) as client:
        for tag in ("first", "last", "whole"):
            client.collect(client.map(scenario, range(30), tag=tag)).raise_if_failed()
"""


def three_kinds(base, **target) -> Ensemble:
    """Thirty calls on each of three worker types, one type after the other; the third asks for whole walltimes."""
    components = {name: {"cpus": 2} for name in ("first", "last", "whole")}
    components["whole"]["allocations"] = {"shorten": False}
    manifest = {"version": 1, "targets": {"here": {"walltime": "00:20:00", **target}}, "components": components}
    (base / "scalable.yaml").write_text(json.dumps(manifest))
    made = Ensemble(base, 90)
    made.driver.write_text(DRIVER.format(base=str(base)))
    return made


def asked_by_type(made) -> dict[str, tuple[int | None, int | None]]:
    """What was asked for and what is configured, by worker type."""
    first = [life[0] for life in allocations_of(made.events()).values()]
    return {event.worker_type: (event.walltime_s, event.configured_s) for event in first}


def test_that_an_allocation_is_asked_for_less_time_once_run_times_are_known(tmp_path):
    """The first has no idea; the last knows from thirty calls that thirty more take seconds; journal and report say."""
    made = three_kinds(tmp_path, provider="local", idle="1s", allocations={"max": 1})

    ended = made.run(timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert asked_by_type(made) == {"first": (1200, None), "last": (300, 1200), "whole": (1200, None)}
    [life] = [each for each in allocations_of(made.events()).values() if each[0].worker_type == "last"]
    assert "for 00:05:00 of 00:20:00, since 30 tasks of" in life[0].because
    assert made.report().count("asked for 00:05:00 of 00:20:00") == 1


@pytest.mark.slurm
@pytest.mark.timeout(120)
def test_that_slurm_is_asked_for_less_time_once_run_times_are_known(slurm, tmp_path):
    """Its accounting has the shorter limit."""
    made = three_kinds(tmp_path, provider="slurm", partition="batch", interface=slurm.interface, poll=1, idle="1s")

    ended = made.run(env=slurm.env, timeout=100)
    said = slurm.run(["sacct", "-n", "-P", "-X", "-o", "JobName%80,Timelimit"]).splitlines()
    limits = dict(line.split("|") for line in said if made.runs[-1].run_id in line)

    assert ended.returncode == 0, ended.stderr
    assert [limits[name] for name in sorted(limits)] == ["00:20:00", "00:05:00", "00:20:00"]
