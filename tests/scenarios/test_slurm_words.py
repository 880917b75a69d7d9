"""Everything that a target can ask of Slurm, asked of a real one in one run, through commands that are wrapped."""

from __future__ import annotations

import pytest

from tests.ensembles import AllocationChanged, of_kind
from tests.held import holding
from tests.waiting import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(150)]

NOTE_GPUS_AND_WAIT = "(HERE / f'gpu-{number}').write_text(os.environ['CUDA_VISIBLE_DEVICES']); wait_for(HERE / 'go')"


@pytest.fixture
def reservation(slurm):
    """Nodes that are kept for whoever names it."""
    nodes = ",".join(slurm.node_names[1::2])
    name = slurm.run(
        ["scontrol", "create", "reservation", "StartTime=now", "Duration=60", "Users=root", f"Nodes={nodes}"]
    )
    name = name.split()[-1]
    yield name
    slurm.reset()
    slurm.run(["scontrol", "delete", f"ReservationName={name}"])


def wrapped(directory, name):
    """A site's wrapper, which greets first."""
    path = directory / f"our-{name}"
    path.write_text(f'#!/bin/bash\necho "*** Welcome, $USER: maintenance on 3 Dec ***"\nexec {name} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_that_a_run_gets_all_that_it_asks_of_slurm(slurm, reservation, tmp_path):
    """It waits for its licences, and says so; each slot then has a gpu of its own; the warning signal is heard."""
    cluster = slurm.run(["scontrol", "show", "config"]).partition("ClusterName")[2].split()[1]
    blocker = slurm.run(["sbatch", "--parsable", "--licenses=solver:2", "--wrap", "sleep 100"]).strip()
    commands = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
    words = {
        "licenses": "solver:1",
        "clusters": cluster,
        "constraint": "even",
        "reservation": reservation,
        "account": "science",
        "qos": "high",
        "signal_lead": 60,
        "extra_directives": ["--nice=3"],
        "commands": {name: wrapped(tmp_path, name) for name in commands},
    }
    gpus = {"cpus": 2, "slots": 2, "gpus": 2}
    with holding(tmp_path, slurm, count=2, first=NOTE_GPUS_AND_WAIT, component=gpus, **words) as held:

        def told() -> list[str]:
            runs = held.ensemble.runs
            return [event.because for event in of_kind(held.events, AllocationChanged)] if runs else []

        wait_until("Slurm's reason is told", lambda: any("Licenses" in because for because in told()), timeout=40)
        slurm.run(["scancel", blocker])
        held.wait_until_begun(2)
        shown = slurm.run(["scontrol", "show", "job", held.jobs()["a0001"]])
        in_use = slurm.run(["scontrol", "show", "license", "solver"])
        slurm.run(["scontrol", "update", f"jobid={held.jobs()['a0001']}", "EndTime=now+59seconds"])
        log = held.ensemble.runs[0].log_of("a0001")
        wait_until("Slurm's signal is heard", lambda: "warning signal" in log.read_text(), timeout=45)
        held.let_go()
        held.wait_until_collected()
        held.leave()

    asked = [
        *("Licenses=solver:1", "Features=even", f"Reservation={reservation}", "Account=science", "QOS=high", "Nice=3"),
        *("OverSubscribe=NO", "gres:gpu:2", "NumNodes=1", "Requeue=0", "TimeLimit=00:10:00"),
    ]
    assert [word for word in asked if word not in shown] == []
    assert "Used=1" in in_use
    assert {(tmp_path / f"gpu-{number}").read_text() for number in (0, 1)} == {"0", "1"}
    assert held.failed() == []
    assert {event.job_id for event in of_kind(held.events, AllocationChanged)} == {None, held.jobs()["a0001"]}
