"""Laws of input files: read once, and never taken for what they no longer are."""

from __future__ import annotations

import os
import time

import pytest
from blake3 import blake3

from scalable_hpc.cache.content import CHUNK, file_digest
from scalable_hpc.cache.decorator import set_default_store_root
from scalable_hpc.cache.inputs import SETTLED_NS, WORTHWHILE, input_file_digest, input_tree_digest
from tests.cache_support import run_python

SIZE = 4 * WORTHWHILE


@pytest.fixture(autouse=True)
def root(tmp_path):
    """A store of this test's own."""
    set_default_store_root(tmp_path / "cache")
    yield tmp_path / "cache"
    set_default_store_root(None)


@pytest.fixture
def reads(monkeypatch):
    """What was read of files, by how many bytes at once."""
    seen = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: (seen.append(args), preadv(*args))[1])
    return seen


@pytest.fixture
def later(monkeypatch):
    """Let the clock go on by a minute, so that files made now have settled."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60 * 10**9)


def make(path, fill=b"a", size=SIZE):
    path.write_bytes(fill * size)
    return path


@pytest.mark.parametrize("size", [0, 1, WORTHWHILE, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_that_a_digest_is_that_of_the_content(tmp_path, size):
    """Whatever the size, in chunks or in one go, remembered or not."""
    content = os.urandom(1000) * (size // 1000 + 1)
    path = tmp_path / "input"
    path.write_bytes(content[:size])

    assert input_file_digest(path) == file_digest(path) == blake3(content[:size]).digest()


def test_that_a_settled_file_is_read_once(tmp_path, reads, later):
    """Nor is it read again under another name."""
    path = make(tmp_path / "input")
    first = input_file_digest(path)
    path.chmod(path.stat().st_mode)
    reads.clear()

    assert input_file_digest(path) == first
    assert len(reads) == 1
    assert [input_file_digest(path), input_file_digest(path)] == [first, first]
    assert len(reads) == 1
    (tmp_path / "link").symlink_to(path)
    assert input_file_digest(tmp_path / "link") == first
    assert len(reads) == 1


def test_that_processes_share_what_they_have_read(tmp_path, reads, root):
    """What another process has read is not read here."""
    path = make(tmp_path / "input")
    program = """
        import sys, time
        from scalable_hpc.cache.decorator import set_default_store_root
        from scalable_hpc.cache.inputs import input_file_digest
        now = time.time_ns()
        time.time_ns = lambda: now + 60 * 10**9
        set_default_store_root(sys.argv[1])
        print(input_file_digest(sys.argv[2]).hex())
    """
    told = run_python(program, root, path)

    assert input_file_digest(path).hex() == told
    assert reads == []


def test_that_a_file_that_was_just_written_is_read_every_time(tmp_path, reads):
    """It could be written again within one tick of the file system's clock, and look the same."""
    path = make(tmp_path / "input")

    assert input_file_digest(path) == input_file_digest(path)
    assert len(reads) == 2


def test_that_a_racy_change_is_seen(tmp_path):
    """Same size, same inode, same times: a change right after the first look is found by the second one."""
    path = make(tmp_path / "input")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    digests = set()
    for fill in (b"a", b"b", b"c"):
        with path.open("r+b") as target:
            target.write(fill * SIZE)
        os.utime(path, ns=times)
        digests.add(input_file_digest(path))

    assert len(digests) == 3


@pytest.mark.parametrize("change", ["content", "times set back", "replaced", "longer"])
def test_that_a_changed_file_is_read_again(tmp_path, later, change):
    """Whatever changes, and though its mtime is set back: size, inode or ctime tells."""
    path = make(tmp_path / "input")
    before = path.stat()
    first = input_file_digest(path)
    while time.time_ns() - before.st_ctime_ns < 20_000_000:  # beyond one tick of the kernel's clock
        time.sleep(0.005)
    if change == "replaced":
        make(tmp_path / "aside", b"b").replace(path)
    else:
        make(path, b"b", SIZE + (change == "longer"))
    if change in {"times set back", "replaced"}:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert input_file_digest(path) == file_digest(path) != first


def test_that_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, monkeypatch, later):
    """Its digest is of neither version."""
    path = make(tmp_path / "input")
    preadv = os.preadv

    def disturbed(*args):
        count = preadv(*args)
        monkeypatch.setattr(os, "preadv", preadv)
        time.sleep(0.02)
        make(path, b"b", SIZE + 1)
        return count

    monkeypatch.setattr(os, "preadv", disturbed)
    input_file_digest(path)

    assert input_file_digest(path) == file_digest(path)


def test_that_small_files_are_simply_read(tmp_path, root, later):
    """They leave nothing in the store."""
    path = make(tmp_path / "input", size=WORTHWHILE - 1)

    assert input_file_digest(path) == file_digest(path)
    assert not root.exists()


def test_that_the_large_files_of_a_directory_are_read_once(tmp_path, reads, later):
    """A tree's digest is the same whether its files were known or read."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for number in range(3):
        make(folder / str(number), bytes([number]))
    first = input_tree_digest(folder)
    count = len(reads)

    assert input_tree_digest(folder) == first
    assert (count, len(reads)) == (3, 3)
    make(folder / "1", b"x")
    assert input_tree_digest(folder) != first


def test_that_a_store_that_cannot_be_opened_is_no_trouble(tmp_path, later):
    """The file is read."""
    (tmp_path / "occupied").write_text("")
    set_default_store_root(tmp_path / "occupied" / "cache")
    path = make(tmp_path / "input")

    assert input_file_digest(path) == file_digest(path)


def test_that_a_future_time_is_not_trusted(tmp_path, reads):
    """A file from a host whose clock is ahead has not settled, whatever its mtime was set to."""
    path = make(tmp_path / "input")
    ahead = time.time_ns() + SETTLED_NS * 100
    os.utime(path, ns=(ahead, ahead))
    input_file_digest(path)
    input_file_digest(path)

    assert len(reads) == 2
