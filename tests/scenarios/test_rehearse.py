"""``scalable-hpc rehearse``: a driver written for Slurm or PBS, on a machine without, through scripted losses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MANIFEST = """\
version: 1
targets:
  cluster: {provider: slurm, partition: standard, interface: ib0, allocations: {max: 2, walltime: "04:00:00"}}
  other: {provider: pbs, queue: standard, interface: ib0, allocations: {max: 1, walltime: "04:00:00"}}
components:
  model: {cpus: 64, memory: 2G}
"""
DRIVER = """\
import sys, time
from scalable_hpc import ScalableSession, cacheable

@cacheable(return_type=int, number=int)
def work(number: int) -> int:
    time.sleep(0.7)
    return number

if __name__ == "__main__":
    with ScalableSession.from_yaml("scalable.yaml", target="cluster") as client:
        print(client.collect(client.map(work, range(int(sys.argv[1])), expected_runtime=1200)).summary())
"""


def rehearse(base, *words: str, code: int) -> str:
    (base / "scalable.yaml").write_text(MANIFEST)
    (base / "driver.py").write_text(DRIVER)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    command = [sys.executable, "-m", "scalable_hpc.cli", "rehearse", "driver.py", *words]
    done = subprocess.run(command, cwd=base, env=bare, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_that_a_slurm_driver_comes_through_a_lost_node_and_its_own_death(tmp_path):
    """Everything is done, nothing twice, nobody is charged; and the user's own directory is as it was."""
    losses = ("--lose-node", "2", "--kill-driver", "6")
    said = rehearse(tmp_path, "--target", "cluster", *losses, "--", "16", code=0)

    assert "16 of 16 succeeded" in said
    assert "a node is lost (a0001" in said or "a node is lost (a0002" in said
    assert "the driver is killed (process " in said
    assert "; 0 computed again after they were done" in said
    assert "tasks: 16 done, 0 failed, 0 not finished, 0 cache hits" in said, "each call once, whoever made it"
    assert "charged to tasks: 0 attempts" in said
    assert "at 480 s to each second here" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver.py", "scalable.yaml"]


def test_that_a_pbs_target_is_played_and_a_loss_that_never_came_is_told(tmp_path):
    """The target of the command line is the one that is played; what could not be tried does not hold."""
    said = rehearse(tmp_path, "--target", "other", "--oom", "50", "--directory", "left", "--", "2", code=42)

    assert "2 of 2 succeeded" in said
    assert "never came to 'an allocation runs out of memory' after 50 tasks" in said
    (script,) = (tmp_path / "left" / "runs").glob("*/scripts/a0001.sh")
    assert "#PBS -q standard" in script.read_text()
    assert (tmp_path / "left" / "cache").is_dir()


@pytest.mark.slow
def test_that_every_other_loss_comes_when_it_was_asked_for(tmp_path):
    """A preemption, an end for memory, and one of walltime, each of another allocation; all is done all the same."""
    losses = ("--preempt", "1", "--oom", "4", "--walltime", "7")
    said = rehearse(tmp_path, "--target", "cluster", *losses, "--", "12", code=0)

    played = [line for line in said.splitlines() if line.startswith("when ")]
    words = (" is preempted (a", " runs out of memory (a", "'s walltime is over (a")
    assert [word in line for word, line in zip(words, played, strict=True)] == [True] * 3
    assert "tasks: 12 done, 0 failed, 0 not finished" in said
    assert "; 0 computed again after they were done" in said
    assert "charged to tasks: 0 attempts" in said
