"""Laws of returned files and directories: found again with their content, wherever they are missing or changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from scalable_hpc.cache.calls import CacheWarning
from scalable_hpc.cache.decorator import cacheable, set_default_store_root
from scalable_hpc.cache.markers import DirType, FileType, ValueType
from scalable_hpc.cache.serial import Unreadable, Unstorable, dumps, loads
from scalable_hpc.cache.shared import default_store
from tests.cache_support import run_python

RUNS: list[object] = []


@pytest.fixture(autouse=True)
def root(tmp_path):
    """A store of this test's own."""
    set_default_store_root(tmp_path / "cache")
    RUNS.clear()
    yield tmp_path / "cache"
    default_store().close()
    set_default_store_root(None)


@cacheable(return_type=FileType, ignore=("RUNS", "folder"))
def write(text, folder):
    RUNS.append(text)
    path = folder / "out" / "report.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o750)
    return FileType(path)


def make_tree(top: Path) -> None:
    (top / "a" / "b").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "one").write_bytes(b"1")
    (top / "a" / "b" / "large").write_bytes(b"x" * 200_000)


def tree_of(top: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(top)): None if path.is_dir() else path.read_bytes() for path in sorted(top.rglob("*"))}


@pytest.mark.parametrize("loss", ["missing", "its folder too", "changed", "nothing"])
def test_that_a_returned_file_is_there_on_a_hit(tmp_path, loss):
    """Content and mode are as they were when the result was made."""
    path = Path(write("hello", tmp_path))
    if loss == "missing":
        path.unlink()
    elif loss == "its folder too":
        shutil.rmtree(path.parent)
    elif loss == "changed":
        path.write_text("HELLO")

    found = write("hello", tmp_path)

    assert (RUNS, type(found), os.fspath(found)) == (["hello"], FileType, str(path))
    assert (path.read_text(), path.stat().st_mode & 0o777, len(list(path.parent.iterdir()))) == ("hello", 0o750, 1)


def test_that_a_file_that_is_as_it_was_is_not_touched(tmp_path):
    """Nobody's times change."""
    path = Path(write("hello", tmp_path))
    before = path.stat()
    write("hello", tmp_path)

    assert path.stat() == before


def test_that_each_result_puts_its_own_content_back(tmp_path):
    """Two calls that write to one path take turns."""
    texts = [Path(write(text, tmp_path)).read_text() for text in ("a", "b", "a", "b")]

    assert (texts, RUNS) == (["a", "b", "a", "b"], ["a", "b"])


def test_that_a_returned_directory_is_there_on_a_hit(tmp_path):
    """Missing and changed files come back, empty folders too; what else lies there is left alone."""
    top = tmp_path / "out"

    @cacheable(return_type=DirType, ignore=("RUNS", "top"))
    def build():
        RUNS.append(1)
        make_tree(top)
        return DirType(top)

    build()
    whole = tree_of(top)
    shutil.rmtree(top)
    build()
    assert tree_of(top) == whole
    (top / "a" / "b" / "large").write_bytes(b"changed")
    (top / "one").unlink()
    (top / "mine").write_bytes(b"mine")
    build()

    assert tree_of(top) == {**whole, "mine": b"mine"}
    assert RUNS == [1]


def test_that_outputs_within_other_results_are_kept_too(tmp_path):
    """In containers, undeclared, and from one process to another."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name * 100_000)
    record = dumps({"files": [FileType(tmp_path / "a"), FileType(tmp_path / "b")], "n": 2})
    (tmp_path / "record").write_bytes(record)
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("other")
    program = """
        import sys
        from pathlib import Path
        from scalable_hpc.cache.serial import loads
        value = loads(Path(sys.argv[1]).read_bytes())
        print(value["n"], *(len(Path(file).read_text()) for file in value["files"]))
    """

    assert run_python(program, tmp_path / "record") == "2 100000 100000"


def test_that_check_output_trusts_no_times(tmp_path, monkeypatch):
    """A file that was changed behind its own times is found out where that was asked for."""
    path = tmp_path / "report"

    def make(**options):
        @cacheable(ignore=("path", "RUNS"), **options)
        def report(x):
            RUNS.append(x)
            path.write_bytes(b"a" * 100_000)
            return [FileType(path)]

        return report

    # stands for a file system that does not show the change: every file is taken for the one that was known before
    known = []
    monkeypatch.setattr(
        "scalable_hpc.cache.outputs.input_file_digest", lambda _: known.append(1) or blake3(b"a" * 100_000).digest()
    )
    strict, plain = make(check_output=True), make(version=2)
    results = []
    for function in (plain, strict):
        function(1)
        path.write_bytes(b"b" * 100_000)
        function(1)
        results.append(path.read_bytes()[:1])

    assert (results, RUNS, len(known)) == ([b"b", b"a"], [1, 1], 1)


def test_that_a_path_where_a_file_is_declared_is_refused(tmp_path):
    """The text of a path would be kept, not what lies there; the message says what to return."""

    @cacheable(return_type=FileType)
    def wrong(x):
        return str(x)

    with pytest.raises(TypeError, match=r"must return FileType, not str.*return FileType\(path\)"):
        wrong(1)


def test_that_an_output_that_is_not_there_is_not_kept(tmp_path):
    """The caller has what the function returned, and is told."""

    @cacheable(return_type=FileType)
    def forgetful(path):
        return FileType(path)

    with pytest.warns(CacheWarning, match="not kept"):
        found = forgetful(str(tmp_path / "none"))
    assert found.path == str(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for output in (FileType(tmp_path / "pipe"), DirType(tmp_path / "none"), DirType(tmp_path)):
        with pytest.raises(Unstorable):
            dumps(output)


def test_that_a_ring_of_links_is_not_kept_for_ever(tmp_path):
    """A directory that contains itself has no end."""
    (tmp_path / "ring").symlink_to(tmp_path)

    with pytest.raises(Unstorable):
        dumps(DirType(tmp_path))


def test_that_an_output_that_cannot_be_put_back_is_an_error_of_reading(tmp_path):
    """Something else lies in the way: the record counts as unreadable, so that the call is computed again."""
    record = dumps(write("hello", tmp_path))
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("not a folder")

    with pytest.raises(Unreadable):
        loads(record)


def test_that_declared_plain_values_are_found_again():
    """``ValueType`` takes any value, from the function and from the store."""

    @cacheable(return_type=ValueType, ignore="RUNS")
    def double(x):
        RUNS.append(x)
        return 2 * x

    assert (double(2), double(2), RUNS) == (4, 4, [2])
