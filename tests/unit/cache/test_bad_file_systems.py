"""Laws of stores on file systems that fail: the caller has the result and one warning, and the store stays whole."""

from __future__ import annotations

import errno
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from scalable_hpc.cache.calls import CacheWarning
from scalable_hpc.cache.decorator import cacheable, set_default_store_root
from scalable_hpc.cache.shared import default_store
from scalable_hpc.cache.store import Store

RUNS: list[object] = []


@pytest.fixture(params=[10, 300_000], ids=["small", "large"])
def fill(request):
    """A cacheable function that nobody has called: it warns once in its life."""
    size = request.param

    @cacheable(ignore="RUNS")
    def fill(x):
        RUNS.append(x)
        return np.full(size, x, "u1")

    return fill


@contextmanager
def failing(monkeypatch, root: Path, call: str, code: int) -> Iterator[None]:
    """Let a system call fail for everything below a directory."""
    real = getattr(os, call)

    def act(target, *args, **options):
        name = str(Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target)
        if name.startswith(str(root)):
            raise OSError(code, os.strerror(code), name)
        return real(target, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, act)
        yield


@contextmanager
def rooted(root: Path) -> Iterator[Path]:
    set_default_store_root(root)
    RUNS.clear()
    try:
        yield root
    finally:
        default_store().close()
        set_default_store_root(None)


@pytest.fixture
def root(tmp_path):
    with rooted(tmp_path / "cache") as made:
        yield made


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("write", errno.ENOSPC),
        ("write", errno.EDQUOT),
        ("write", errno.EIO),
        ("fsync", errno.EIO),
        ("fsync", errno.ESTALE),
        ("open", errno.EROFS),
        ("scandir", errno.EIO),
        ("scandir", errno.ESTALE),
    ],
)
def test_that_a_failing_file_system_costs_a_warning(root, monkeypatch, fill, call, code):
    """Every call is answered; when the trouble is over, results are kept again and earlier ones are all there."""
    fill(0)
    with failing(monkeypatch, root, call, code), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = [fill(number) for number in (1, 1, 2)]
    default_store().close()
    after = [fill(number) for number in (0, 1, 2, 1)]

    assert [int(value[0]) for value in (*values, *after)] == [1, 1, 2, 0, 1, 2, 1]
    assert [each.category for each in caught] == [CacheWarning]
    assert RUNS[:3] == [0, 1, 1]
    with Store(root) as later:
        assert len(list(later.keys())) == 3
        assert all(later.read(locator) for locator in later.lookup_many(list(later.keys())))


def test_that_a_result_that_cannot_be_read_is_computed(root, monkeypatch):
    """A known result on a disk that fails is as good as none, and is known again afterwards."""

    @cacheable(ignore="RUNS")
    def double(x):
        RUNS.append(x)
        return 2 * x

    double(1)
    with failing(monkeypatch, root, "pread", errno.EIO), pytest.warns(CacheWarning, match="without looking"):
        assert double(1) == 2

    assert (double(1), RUNS) == (2, [1, 1])


@pytest.mark.parametrize("call", ["open", "pread"])
def test_that_a_stale_handle_is_as_good_as_no_file(root, monkeypatch, call):
    """What a file server says is gone is computed anew: its record is missing, nothing else is wrong."""

    @cacheable(ignore="RUNS")
    def double(x):
        RUNS.append(x)
        return 2 * x

    double(1)
    default_store().close()
    assert default_store().lookup(double.cache.key(1)) is not None
    with failing(monkeypatch, root, call, errno.ESTALE), warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)  # nothing can be kept, either
        assert double(1) == 2

    assert RUNS == [1, 1]
    assert double(1) == 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_that_a_disk_that_fills_up_costs_a_warning(small_disk, fill):
    """What fitted is found, the rest is computed, and nothing is damaged, however full the disk."""
    with rooted(small_disk / "cache") as root:
        fill(0)
        (small_disk / "filler").write_bytes(
            bytes(free_bytes(small_disk) - (4 * 4096 if fill(0).size == 10 else 700_000))
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = [int(fill(number)[0]) for number in range(150)]
        (small_disk / "filler").unlink()
        RUNS.clear()
        again = [int(fill(number)[0]) for number in (0, 149, 149)]

        assert (values, again, RUNS) == (list(range(150)), [0, 149, 149], [149])
        assert [str(each.message).count("not kept") for each in caught] == [1]
        with Store(root) as later:
            assert all(later.read(locator) for locator in later.lookup_many(list(later.keys())))


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
