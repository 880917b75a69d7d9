"""What ``@cacheable`` says of outputs, lifetimes and effects holds through the client as it does for a plain call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.cache_support import ROOT, rewrite_entries

MANIFEST = {
    "version": 1,
    "project": {"name": "outputs"},
    "targets": {
        "here": {
            "provider": "local",
            "capacity": {"cpus": 2},
            "allocations": {"max": 1, "walltime": "00:05:00"},
        }
    },
    "components": {"model": {"cpus": 2, "memory": "400M"}},
    "tasks": {name: {"component": "model"} for name in ("report", "quote", "tell")},
}
DRIVER = """
    import sys
    from pathlib import Path
    from scalable_hpc import FileType, ScalableSession, cacheable

    BASE = Path({base!r})

    def note(name):
        with open(BASE / "runs.txt", "a") as log:
            log.write(name + "\\n")

    @cacheable(return_type=FileType, check_output=True)
    def report(n: int) -> FileType:
        note("report")
        path = BASE / "out" / f"report-{{n}}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("row\\n" * (n * 50_000))
        return FileType(path)

    @cacheable(ttl=3600)
    def quote(n: int) -> int:
        note("quote")
        return n

    @cacheable(void=True)
    def tell(n: int) -> None:
        note("tell")

    if __name__ == "__main__":
        with ScalableSession.from_yaml(str(BASE / "scalable.yaml")) as client:
            files = client.gather([client.submit(report, n) for n in (1, 2)])
            print([len(Path(file).read_text()) for file in files], client.submit(quote, 7).result())
            client.submit(tell, 1).result()
"""


def run(base: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SCALABLE_HPC_PROGRESS": "0"}
    command = [sys.executable, str(base / "driver.py")]
    done = subprocess.run(command, env=env, cwd=base, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def age(base: Path, by_s: int) -> None:
    """Let every result be that much older."""
    for path in (base / ".scalable" / "cache" / "v1" / "packs").glob("*.idx"):
        rewrite_entries(path, lambda entry: replace(entry, created=entry.created - by_s))


def test_that_outputs_lifetimes_and_effects_hold_through_the_client(tmp_path):
    """Files are put back, what has outlived its ttl is computed anew, and what is done for its effect is done again."""
    (tmp_path / "scalable.yaml").write_text(json.dumps(MANIFEST))
    (tmp_path / "driver.py").write_text(textwrap.dedent(DRIVER.format(base=str(tmp_path))))
    expected = "[200000, 400000] 7"

    assert run(tmp_path) == expected
    (tmp_path / "out" / "report-1.txt").write_text("changed")
    (tmp_path / "out" / "report-2.txt").unlink()
    assert run(tmp_path) == expected
    assert Counter((tmp_path / "runs.txt").read_text().split()) == {"report": 2, "quote": 1, "tell": 2}
    shutil.rmtree(tmp_path / "out")
    age(tmp_path, 4000)

    assert run(tmp_path) == expected
    assert Counter((tmp_path / "runs.txt").read_text().split()) == {"report": 2, "quote": 2, "tell": 3}
