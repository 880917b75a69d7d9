"""``scalable-hpc explain`` while a run waits, and after it: reasons, places, and why a task was run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.waiting import wait_until

MANIFEST = """\
version: 1
targets:
  here: {provider: local, capacity: {cpus: 1}, allocations: {max: 1, walltime: "00:01:00"}, queue_wait: 20s}
components:
  model: {cpus: 1, memory: 200M}
  big: {cpus: 1, memory: 400MiB}
tasks:
  first: {component: model}
"""
DRIVER = """\
import os
from scalable_hpc import ScalableSession

def first(path):
    if not os.path.exists(path):
        open(path, "w").close()
        raise ConnectionError("the licence server is away")
    return 1

def second(x):
    return x + 1

if __name__ == "__main__":
    with ScalableSession.from_yaml("scalable.yaml") as client:
        one = client.submit(first, os.path.abspath("flag"), retries=2, task="first")
        print(client.submit(second, one).result(), flush=True)
"""


def explain(base, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "scalable_hpc.cli", "explain", *words]
    done = subprocess.run(command, cwd=base, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_that_a_run_that_waits_says_for_what_and_one_that_went_on_says_what_happened(tmp_path):
    """The batch system's reason, the ancestors, the places; after the driver was killed; and then the retry."""
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, "driver.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        runs = tmp_path / ".scalable" / "runs"
        asked = "*/batch/local-1/request.json"
        wait_until("an allocation to be asked for", lambda: list(runs.glob(asked)), timeout=30)
        wait_until("its reason to be known", lambda: "PENDING (Resources)" in explain(tmp_path), timeout=10)
        waiting = explain(tmp_path)
        task = explain(tmp_path, "second-00002")
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert "1 of first (ready): a0001 (job local-1) is pending" in waiting
    assert "PENDING (Resources)" in waiting, "why the batch system keeps it waiting, in its own words"
    assert "1 of second (waiting): for results of first" in waiting
    assert "is waiting: it waits for first-00001 (ready)" in task
    assert "yes worker type 'big': large enough" in task
    assert "nobody drives this run: scalable-hpc resume" in explain(tmp_path, "--no-ask")

    text = (tmp_path / "scalable.yaml").read_text().replace(", queue_wait: 20s", "")
    (tmp_path / "scalable.yaml").write_text(text)
    env = {**os.environ, "SCALABLE_HPC_RUNS_DIR": str(tmp_path / "again")}
    subprocess.run([sys.executable, "driver.py"], cwd=tmp_path, env=env, timeout=60, check=True, capture_output=True)
    told = explain(tmp_path, "first", "--runs-dir", str(tmp_path / "again"))
    assert "attempt 1 ended without a result on a0001" in told
    assert "a failure that may pass, counts as a try; run again after a wait" in told
    assert "attempt 2 was done in" in told
    assert "no such task" in explain(tmp_path, "third", code=24)


FULL = """\
version: 1
targets:
  here: {provider: local, capacity: {cpus: 2}, allocations: {max: 1, walltime: "00:10:00"}}
components:
  model: {cpus: 2, memory: 400MiB}
"""
FULL_DRIVER = """\
import time
from scalable_hpc import ScalableSession

if __name__ == "__main__":
    with ScalableSession.from_yaml("scalable.yaml") as client:
        first = client.submit(time.sleep, 300, task="first", memory="300MiB")
        second = client.submit(time.sleep, 0.1, task="second", memory="300MiB")
        client.submit(lambda _: 1, second, task="third").result()
"""


def test_that_a_living_driver_says_why_a_task_fits_nowhere_yet(tmp_path):
    """One slot is free, but its memory is not; one waits for that; and nothing more is asked for, for the reason that
    is told. The words are the driver's own and stand in a file that goes with it."""
    (tmp_path / "scalable.yaml").write_text(FULL)
    (tmp_path / "driver.py").write_text(FULL_DRIVER)
    driver = subprocess.Popen([sys.executable, "driver.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        runs, words = tmp_path / ".scalable" / "runs", "no worker has its 1 cpus, 0 gpus and memory free"
        wait_until("a driver has something to tell", lambda: list(runs.glob("*/waiting.json")), timeout=60)
        wait_until("memory to be taken", lambda: f"{words}; no more of" in explain(tmp_path), timeout=30, every=0.5)
        waiting, second, third = explain(tmp_path), explain(tmp_path, "second"), explain(tmp_path, "third")
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait()
    assert f"is ready: {words}; no more of 'model' is asked for: 2 slots are there" in second
    assert "no  a0001: 300 MiB are more than 100 MiB free" in second
    assert "no more allocations of 'model' are asked for: 2 slots are there" in waiting
    assert "it waits for second-00002 (ready)" in third
    assert list(runs.glob("*/waiting.json")) == []
