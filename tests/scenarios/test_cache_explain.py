"""Why a call was computed again, and what the cache has saved, as somebody asks at a terminal."""

from __future__ import annotations

import json
import textwrap

import pytest

from scalable_hpc.cli import main
from tests.cache_support import run_python

_MODEL = """
    from pathlib import Path
    from scalable_hpc import cacheable, FileType

    rate = {rate}

    def slope(x):
        return {slope} * rate

    @cacheable(version={version}, depends_on=("numpy",), table=FileType)
    def run(x, table="table.csv", name="plain"):
        return slope(x)

    @cacheable
    def follow(generator):
        return list(generator)
"""
_PLAIN = {"rate": 2, "slope": "x", "version": 1}
_CALL = "import sys; sys.path.insert(0, '.'); import explained; print(explained.run({given}))"


class Project:
    """A directory with a module of the user's, and the cache that it fills."""

    def __init__(self, path, capsys):
        self.path = path
        self._capsys = capsys
        (path / "table.csv").write_text("1,2\n")

    def write(self, **changes):
        (self.path / "explained.py").write_text(textwrap.dedent(_MODEL.format(**{**_PLAIN, **changes})))

    def compute(self, given="1"):
        program = f"import os; os.chdir({str(self.path)!r})\n{_CALL.format(given=given)}"
        return run_python(program, SCALABLE_HPC_CACHE_DIR=str(self.path / "cache"), PYTHONDONTWRITEBYTECODE="1")

    def explain(self, call="explained:run(1)"):
        """Ask in a process of its own, as the module is what it is now; return what is said."""
        program = "import sys; from scalable_hpc.cli import main; sys.exit(main(sys.argv[1:]))"
        program = f"import os; os.chdir({str(self.path)!r})\n{program}"
        where = ("--cache-dir", self.path / "cache")
        return run_python(program, "cache", "explain", call, *where, PYTHONDONTWRITEBYTECODE="1")

    def stats(self):
        main(["cache", "stats", "--format", "json", "--cache-dir", str(self.path / "cache")])
        return json.loads(self._capsys.readouterr().out)


@pytest.fixture
def project(tmp_path, capsys):
    """A project whose module was run once."""
    made = Project(tmp_path, capsys)
    made.write()
    made.compute()
    return made


@pytest.mark.parametrize(
    ("changes", "call", "said"),
    [
        ({}, "explained:run(2)", "the argument x is another"),
        ({}, "explained:run(1, name='other')", "the argument name is another"),
        ({"slope": "3 * x"}, "explained:run(1)", "the code of explained.slope, which it reaches, is another"),
        ({"rate": 3}, "explained:run(1)", "the value of rate, which explained.slope reaches, is another"),
        ({"version": 2}, "explained:run(1)", "version= was 1 and is 2"),
    ],
)
def test_that_a_miss_is_explained_by_what_changed(project, changes, call, said):
    """The argument, the helper, the constant or the version: whatever it was, and that alone."""
    project.write(**changes)

    text = project.explain(call)

    assert "not kept: the call would be computed" in text
    assert text.splitlines()[-1].strip() == said


def test_that_a_changed_input_file_is_named_by_its_parameter(project):
    """Content counts, not the name."""
    (project.path / "table.csv").write_text("1,3\n")

    assert project.explain().splitlines()[-1].strip() == "the argument table is another"


def test_that_a_hit_is_called_one(project):
    """What is kept would be found."""
    assert "kept since" in project.explain()


def test_that_a_call_that_was_computed_anew_tells_why_by_its_key(project, capsys):
    """After the fact, too: its note is compared with the earlier ones."""
    project.write(slope="5 * x")
    project.compute()
    main(["cache", "ls", "--format", "json", "--cache-dir", str(project.path / "cache")])
    newest = json.loads(capsys.readouterr().out)[-1]["key"]
    answers = {project.explain(each["key"][:12]).splitlines()[-1].strip() for each in (_ls(project, capsys))}

    assert newest in project.explain()
    assert "the code of explained.slope, which it reaches, is another" in answers


def test_that_a_function_that_was_never_called_is_said_so(project):
    """And a call without a key is told the reason."""
    assert "no result of explained.follow is kept" in project.explain("explained:follow([1])")
    assert "it has no key" in project.explain("explained:follow(n for n in [1])")


def test_that_a_forgotten_result_is_known_to_have_been_there(project, capsys):
    """A miss of the very same call has another reason than a change."""
    [known] = _ls(project, capsys)
    main(["cache", "rm", known["key"], "--cache-dir", str(project.path / "cache")])

    assert "it was kept once" in project.explain()


def test_that_a_script_is_explained_without_doing_its_work(tmp_path, capsys):
    """Its functions are those of ``__main__``, as they are when it is run."""
    script = tmp_path / "study.py"
    script.write_text(
        "from scalable_hpc import cacheable\nrate = 2\n\n@cacheable\ndef run(x):\n    return x * rate\n\n"
        "print('the work')\nresult = run(1)\nfor x in (1, 1):\n    print(run(x))\n"
        "if __name__ == '__main__':\n    print('the main part')\n    run(1)\n"
    )
    program = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = run_python(program, SCALABLE_HPC_CACHE_DIR=str(tmp_path / "cache"))
    assert done.splitlines() == ["the work", "2", "2", "the main part"]
    before = _ls_at(tmp_path / "cache")
    ask = "import sys; sys.stderr = sys.stdout; from scalable_hpc.cli import main; sys.exit(main(sys.argv[1:]))"

    said = [
        run_python(ask, "cache", "explain", f"{script}:run({x})", "--cache-dir", tmp_path / "cache") for x in (1, 2)
    ]

    assert ["kept since" in said[0], "the argument x is another" in said[1]] == [True, True]
    assert all(work not in "".join(said) for work in ("the main part", "the work"))
    assert _ls_at(tmp_path / "cache") == before


@pytest.mark.parametrize(
    "what", ["nowhere:run(1)", "explained:absent(1)", "explained:run(1", "absent.py:run(1)", "ffff"]
)
def test_that_what_cannot_be_looked_for_is_an_error_in_words(project, capsys, monkeypatch, what):
    """No traceback, nothing on stdout."""
    monkeypatch.chdir(project.path)

    code = main(["cache", "explain", what, "--cache-dir", str(project.path / "cache")])

    said = capsys.readouterr()
    assert (code != 0, said.out) == (True, "")
    assert said.err.startswith("scalable-hpc: ")


def test_that_stats_count_hits_and_what_they_saved(project):
    """Each process's own, whichever found them."""
    before = project.stats()
    for _ in range(3):
        project.compute()
    after = project.stats()

    assert (before["hits"], after["hits"], after["entries"]) == (0, 3, 1)
    assert after["saved_core_hours"] > before["saved_core_hours"] == 0


def _ls_at(cache):
    return sorted((path, path.stat().st_size) for path in cache.glob("v1/packs/*"))


def _ls(project, capsys):
    main(["cache", "ls", "--format", "json", "--cache-dir", str(project.path / "cache")])
    return json.loads(capsys.readouterr().out)
