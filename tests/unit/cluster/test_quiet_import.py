"""Laws of importing Dask: the process is as it was before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run_python(code: str, home: Path) -> str:
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("DASK_CONFIG", None)
    environment.pop("XDG_CONFIG_HOME", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_that_home_and_signal_handlers_are_left_alone(tmp_path):
    """SIGINT still means KeyboardInterrupt, nothing is written to the home directory, nothing stays swapped."""
    said = run_python(
        """
import signal, dask.config
before = (signal.getsignal(signal.SIGINT), signal.signal, dask.config.ensure_file)
import scalable_hpc.cluster.dask_link
print(before == (signal.getsignal(signal.SIGINT), signal.signal, dask.config.ensure_file))
""",
        tmp_path,
    )

    assert said == "True"
    assert list(tmp_path.iterdir()) == []


def test_that_any_thread_may_be_the_first_to_import(tmp_path):
    """Python lets only the main thread set signal handlers; the engine's thread imports all the same."""
    said = run_python(
        """
import threading
def first():
    import scalable_hpc.cluster.dask_link
    print("imported")
thread = threading.Thread(target=first); thread.start(); thread.join()
""",
        tmp_path,
    )

    assert said == "imported"


def test_that_others_may_set_handlers_during_the_import(tmp_path):
    """Only dask_jobqueue's own handler is kept out."""
    said = run_python(
        """
import signal, sys
class Meddler:
    def find_spec(self, name, path=None, target=None):
        if name == "dask_jobqueue.runner":
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
sys.meta_path.insert(0, Meddler())
import scalable_hpc.cluster.quiet_import
print(signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN)
""",
        tmp_path,
    )

    assert said == "True"
