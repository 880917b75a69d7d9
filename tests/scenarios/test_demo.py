"""``scalable-hpc demo`` keeps its promise."""

from __future__ import annotations

import re
import subprocess
import sys


def test_that_the_demo_survives_a_killed_worker_and_then_skips_everything(tmp_path):
    """A worker is killed, allocations expire, every estimate comes; the second time none is computed."""
    command = [sys.executable, "-m", "scalable_hpc.cli", "demo", "--scenarios", "30", "--directory", str(tmp_path)]

    finished = subprocess.run(command, capture_output=True, text=True, timeout=150)

    assert finished.returncode == 0, finished.stderr
    assert re.search(r"kill -9 \d+: the worker of allocation a000\d", finished.stderr)
    first, second = finished.stdout.split("pi is about")[:2]
    assert "Tasks: 30 done; 0 cache hits" in first
    assert "0 computed again after a receipt" in first
    assert "0 attempts failed and counted as tries" in first
    assert int(re.search(r"(\d+) attempts? lost to infrastructure", first)[1]) >= 1
    assert "Tasks: none submitted; 30 cache hits" in second
    assert "Allocations: none was opened" in second
    assert "(30 estimates)" in finished.stdout
