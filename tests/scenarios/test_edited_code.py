"""Code and files that are edited while a driver lives: what is computed from the new is never found as the old."""

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
from scalable_hpc import cacheable, FileType

def helper(x):
    return x * {factor}

@cacheable
def run(x):
    return helper(x)

@cacheable(table=FileType)
def read(table):
    return open(table).read()

@cacheable
def after(value):
    return value + 1

@cacheable
def large(x):
    return bytes([{factor}]) * 200_000
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "scalable.yaml").write_text(_MANIFEST)
    (tmp_path / "edited.py").write_text(_MODULE.format(factor=2))
    (tmp_path / "table.csv").write_text("old")
    return tmp_path


def drive(project, body):
    """Run a driver script in the project; return what it says."""
    head = f"""
    import sys
    sys.path.insert(0, {str(project)!r})
    sys.dont_write_bytecode = True
    from pathlib import Path
    from scalable_hpc import ScalableSession, cacheable
    def edit(factor=3):
        Path("edited.py").write_text(MODULE.format(factor=factor))
    """
    head = f"MODULE = {_MODULE!r}\n{textwrap.dedent(head)}"
    script = project / "driver.py"
    script.write_text(head + textwrap.dedent(body))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(script)]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=120)


def results(project, capsys):
    """Return how many results the shared cache holds."""
    main(["cache", "stats", "--format", "json", "--cache-dir", str(project / ".scalable/cache")])
    return json.loads(capsys.readouterr().out)["entries"]


_EDITED = """
    import edited
    with ScalableSession.from_yaml("scalable.yaml") as client:
        edit()
        futures = [*client.map(edited.run, [1, 2]), client.submit(edited.large, 1)]
        print(client.gather(futures[:2]), client.gather(futures[2])[:1])
        print(client.gather(client.submit(edited.after, futures[0])))
"""


def test_that_code_edited_under_a_driver_never_answers_for_the_old(project, capsys):
    """Results of the new code serve the run, small, large and what is made of them; the cache gets none of them."""
    first = drive(project, _EDITED)
    (project / "edited.py").write_text(_MODULE.format(factor=2))
    kept = results(project, capsys)
    second = drive(
        project,
        """
        import edited
        print(edited.run(1), edited.after(edited.run(1)), edited.large(1)[:1])
        """,
    )

    assert (first.returncode, first.stdout.split("\n")[:2]) == (0, ["[3, 6] b'\\x03'", "4"]), first.stderr
    assert kept == 0
    assert second.stdout.strip() == "2 3 b'\\x02'"
    assert first.stderr.count("run: its results serve this run only") == 1


def test_that_an_input_file_changed_after_submitting_never_answers_for_the_old(project, capsys):
    """The key speaks of the content that the file had when the call was submitted."""
    said = drive(
        project,
        """
        import edited
        with ScalableSession.from_yaml("scalable.yaml") as client:
            future = client.submit(edited.read, str(Path("table.csv").absolute()))
            Path("table.csv").write_text("new")
            print(client.gather(future))
        """,
    )

    assert said.stdout.split() == ["new"], said.stderr
    assert results(project, capsys) == 0
    assert "not kept in the cache" in said.stderr


def test_that_a_resumed_run_finds_what_only_serves_it(project):
    """The journal says where a result lies that could not go where its key leads."""
    drive(project, _EDITED)
    run = next((project / ".scalable/runs").iterdir())
    from scalable_hpc.lineage.journal import read_events
    from scalable_hpc.lineage.replay import replay

    ledger = replay(read_events(run / "journal.jsonl"))

    assert {task.result.store for task in ledger.tasks.values()} == {str(run / "results")}


_KINDS = """
    import functools, linecache, types
    import edited

    offset = 10

    class Shape:
        def area(self, x):
            return x * offset

    @cacheable
    def of_the_script(x, shape=Shape()):
        return shape.area(x) + (lambda y: y + 1)(x)

    def maker(n):
        @cacheable
        def nested(x):
            return x + n
        return nested

    text = "def inner(x):\\n    return x + 7\\n@cacheable\\ndef cell(x):\\n    return inner(x)\\n"
    linecache.cache["<cell-1>"] = (len(text), None, text.splitlines(True), "<cell-1>")
    exec(compile(text, "<cell-1>", "exec"), globals())

    calls = [(of_the_script, 1), (maker(5), 1), (cell, 1), (edited.run, 1), (edited.after, 1)]
    with ScalableSession.from_yaml("scalable.yaml") as client:
        print(client.gather([client.submit(function, x) for function, x in calls]))
        print(client.gather(client.submit(edited.after, client.submit(edited.run, 9))))
    print([function.cache.contains(x) for function, x in calls])
"""


def test_that_what_was_not_edited_goes_to_the_cache(project, capsys):
    """Functions of scripts, of notebooks' cells, nested ones, imported ones, and those that are given futures."""
    said = drive(project, _KINDS)

    assert said.stdout.split("\n")[:3] == ["[12, 6, 8, 2, 2]", "19", str([True] * 5)], said.stderr
    assert "not kept in the cache" not in said.stderr
    assert results(project, capsys) == 7


def test_that_workers_note_what_their_results_were_made_from(project, capsys, monkeypatch):
    """``cache explain`` knows of calls that were computed by slots, as of those computed directly."""
    drive(project, _KINDS)
    monkeypatch.chdir(project)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    code = main(["cache", "explain", "edited:run(2)", "--cache-dir", str(project / ".scalable/cache")])

    assert code == 0
    assert "the argument x is another" in capsys.readouterr().out
    sys.modules.pop("edited", None)
