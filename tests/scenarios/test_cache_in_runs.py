"""One cache for direct calls, calls through a client and calls inside a worker; and what runs have of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from scalable_hpc.cli import main
from tests.cache_support import ROOT

_MANIFEST = """
version: 1
targets:
  local: {provider: local, capacity: {cpus: 1}}
components:
  model: {cpus: 1, memory: 1G}
"""
_MODULE = """
from scalable_hpc import cacheable

@cacheable
def run(x):
    with open("computed.txt", "a") as file:
        file.write(f"{x}\\n")
    return x * 2

def outer(x):
    return run(x) + 1
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "scalable.yaml").write_text(_MANIFEST)
    (tmp_path / "shared_model.py").write_text(_MODULE)
    return tmp_path


def drive(project, body):
    """Run a driver script in the project and return what it prints."""
    script = project / "driver.py"
    head = "from scalable_hpc import ScalableSession\nimport shared_model as model\n"
    script.write_text(head + textwrap.dedent(body))
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{project}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, str(script)], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def computed(project):
    """Return every x that was computed, in order."""
    return [int(line) for line in (project / "computed.txt").read_text().split()]


def cache(project, capsys, *words):
    code = main(["cache", *words, "--cache-dir", str(project / ".scalable/cache")])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


_RUN = """
    with ScalableSession.from_yaml("scalable.yaml") as client:
        print(client.gather(client.map(model.{function}, {given})))
"""


def test_that_a_call_is_known_wherever_it_was_made_first(project):
    """Inside a worker, directly, through a client: each finds what the others computed."""
    inside = drive(project, _RUN.format(function="outer", given=[1, 2]))
    direct = drive(project, "print(model.run(1), model.run(3))")
    through = drive(project, _RUN.format(function="run", given=[2, 3, 1]))
    again = drive(project, _RUN.format(function="outer", given=[3]))

    assert [inside, direct, through, again] == ["[3, 5]", "2 6", "[4, 6, 2]", "[7]"]
    assert sorted(computed(project)) == [1, 2, 3]


def test_that_gc_keeps_what_a_run_was_given(project, capsys):
    """Hits count as much as what the run computed itself; the rest goes by the limits."""
    drive(project, _RUN.format(function="run", given=[1, 2, 3, 4]))
    drive(project, _RUN.format(function="run", given=[1, 2]))
    latest = max(path.name for path in (project / ".scalable/runs").iterdir())
    words = ("--keep-run", latest, "--runs-dir", str(project / ".scalable/runs"))

    plan = json.loads(cache(project, capsys, "gc", "--max-size", "1", "--dry-run", "--format", "json", *words))
    cache(project, capsys, "gc", "--max-size", "1", *words)
    drive(project, _RUN.format(function="run", given=[1, 2, 3, 4]))

    assert len(plan["evictions"]) == 2
    assert sorted(computed(project)) == [1, 2, 3, 3, 4, 4]


def test_that_hits_are_counted_once_whoever_found_them(project, capsys):
    """The driver's, a direct call's and a slot's; what was computed saves its time at every hit."""
    drive(project, _RUN.format(function="run", given=[1, 2]))
    before = json.loads(cache(project, capsys, "stats", "--format", "json"))
    drive(project, _RUN.format(function="run", given=[1, 2]))
    drive(project, "print(model.run(1))")
    drive(project, _RUN.format(function="outer", given=[1]))
    after = json.loads(cache(project, capsys, "stats", "--format", "json"))

    assert (before["hits"], after["hits"]) == (0, 4)
    assert after["saved_core_hours"] > 0


def test_that_a_task_of_a_run_is_explained_by_its_name(project, capsys):
    """Its key stands in the run's journal."""
    drive(project, _RUN.format(function="run", given=[1, 2]))
    [run] = (path.name for path in (project / ".scalable/runs").iterdir())

    said = cache(project, capsys, "explain", "run-00002", "--run", run, "--runs-dir", str(project / ".scalable/runs"))

    assert "shared_model.run" in said
    assert "the argument x is another" in said


def test_that_the_manifest_says_what_is_cached_and_where(project):
    """``cache: true`` keeps what a plain function returns, and ``local_cache`` names the place."""
    (project / "scalable.yaml").write_text(
        _MANIFEST.replace("version: 1", "version: 1\nproject: {local_cache: kept/here}")
        + "tasks:\n  plain: {component: model, cache: true}\n  run: {component: model, cache: false}\n"
    )
    with (project / "shared_model.py").open("a") as module:
        module.write("\ndef plain(x):\n    return [run.cache.uncached(x)]\n")
    both = """
        with ScalableSession.from_yaml("scalable.yaml") as client:
            print(client.gather([*client.map(model.plain, [1, 2]), *client.map(model.run, [5])]))
    """

    said = [drive(project, both) for _ in range(2)]

    assert said == ["[[2], [4], 10]"] * 2
    assert sorted(computed(project)) == [1, 2, 5, 5]
    assert (project / "kept/here/v1/packs").is_dir()
    assert not (project / ".scalable/cache").exists()
