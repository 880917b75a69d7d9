"""A shared file system that fails as parallel ones do: two clients of one directory, each with caches of its own.

Each mount passes everything on to the directory behind it. Its kernel caches names, missing names and attributes for
``stale_s`` seconds, so that what one client does the other sees late, as on NFS or Lustre. What is to fail stands in a
file that both read before each operation: ``{"write": [28, 0.1]}`` lets every tenth write end in ENOSPC.

Run as a program, it serves one mount until it is unmounted.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FAILING = frozenset(
    {"create", "open", "read", "write", "fsync", "flush", "getattr", "readdir", "rename", "mkdir", "unlink", "utimens"}
)
_MOUNT_TIMEOUT_S = 20.0
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Share:
    """Two mounts of one directory."""

    behind: Path
    """The directory as the server sees it."""
    clients: tuple[Path, Path]
    faults: Path
    stale_s: float

    def fail(self, **operations: tuple[int, float]) -> None:
        """Let operations fail from now on, each with an errno and a probability; none: all are well."""
        assert operations.keys() <= FAILING
        aside = self.faults.with_suffix(".new")
        aside.write_text(json.dumps(operations))
        aside.replace(self.faults)


def missing() -> str | None:
    """Return why nothing can be mounted here, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse that may be opened"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not on PATH: apt-get install fuse3"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as err:
        return f"mfusepy cannot be imported: {err}: pip install mfusepy"
    return None


@contextlib.contextmanager
def shared(base: Path, stale_s: float) -> Iterator[Share]:
    """Mount a directory twice.

    Raises:
        OSError: the kernel refuses.
    """
    share = Share(base / "behind", (base / "one", base / "two"), base / "faults.json", stale_s)
    share.behind.mkdir()
    share.fail()
    servers = []
    try:
        for client in share.clients:
            client.mkdir()
            command = [sys.executable, "-m", "tests.fuse_share", share.behind, client, share.faults, str(stale_s)]
            environ = {**os.environ, "PYTHONPATH": str(_ROOT)}
            servers.append(subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True))
            _await_mount(client, servers[-1])
        yield share
    finally:
        share.fail()
        for client in share.clients:
            subprocess.run(["fusermount3", "-u", "-z", client], capture_output=True, check=False)
        for server in servers:
            server.terminate()
            server.wait(timeout=10)
            server.stderr.close()


def _await_mount(client: Path, server: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _MOUNT_TIMEOUT_S
    while not client.is_mount():
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise OSError(f"{client} cannot be mounted: {server.communicate()[1].strip()}")
        time.sleep(0.02)


def serve(behind: str, mountpoint: str, faults: str, stale_s: float) -> None:
    """Serve one mount, until it is unmounted."""
    import mfusepy

    class Server(mfusepy.Operations):
        """Everything is done to the directory behind, unless it is to fail."""

        use_ns = True
        flag_nullpath_ok = 0

        def __init__(self) -> None:
            self._known = (-1, -1)
            self._faults: Mapping[str, tuple[int, float]] = {}

        def _path(self, path: str, operation: str) -> str:
            status = os.stat(faults)
            if (status.st_mtime_ns, status.st_ino) != self._known:
                self._known = (status.st_mtime_ns, status.st_ino)
                self._faults = json.loads(Path(faults).read_text())
            code, share = self._faults.get(operation, (0, 0.0))
            if code and random.random() < share:
                raise mfusepy.FuseOSError(code)
            return behind + path

        def access(self, path, amode):
            return 0

        def getattr(self, path, fh=None):
            status = os.lstat(self._path(path, "getattr"))
            names = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
            times = {name: getattr(status, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
            return {**{name: getattr(status, name) for name in names}, **times}

        def readdir(self, path, fh):
            names = os.listdir(self._path(path, "readdir"))
            with_numbers = [(name, {"st_ino": _number(f"{behind}{path}/{name}"), "st_mode": 0}, 0) for name in names]
            return [".", "..", *with_numbers]

        def mkdir(self, path, mode):
            os.mkdir(self._path(path, "mkdir"), mode)
            return 0

        def rmdir(self, path):
            os.rmdir(self._path(path, "unlink"))
            return 0

        def unlink(self, path):
            os.unlink(self._path(path, "unlink"))
            return 0

        def rename(self, old, new):
            os.rename(self._path(old, "rename"), behind + new)
            return 0

        def link(self, target, source):
            os.link(behind + source, self._path(target, "create"))
            return 0

        def create(self, path, mode, fi=None):
            return os.open(self._path(path, "create"), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

        def open(self, path, flags):
            return os.open(self._path(path, "open"), flags & ~(os.O_APPEND | os.O_CREAT | os.O_EXCL))

        def read(self, path, size, offset, fh):
            self._path("", "read")
            return os.pread(fh, size, offset)

        def write(self, path, data, offset, fh):
            self._path("", "write")
            return os.pwrite(fh, data, offset)

        def truncate(self, path, length, fh=None):
            os.truncate(behind + path if fh is None else fh, length)
            return 0

        def flush(self, path, fh):
            self._path("", "flush")
            return 0

        def fsync(self, path, datasync, fh):
            self._path("", "fsync")
            return 0  # the directory behind outlives every test

        def fsyncdir(self, path, datasync, fh):
            self._path("", "fsync")
            return 0

        def release(self, path, fh):
            os.close(fh)
            return 0

        def chmod(self, path, mode):
            os.chmod(behind + path, mode)
            return 0

        def utimens(self, path, times=None):
            os.utime(self._path(path, "utimens"), ns=times)
            return 0

        def statfs(self, path):
            status = os.statvfs(behind)
            names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_ffree", "f_files", "f_frsize", "f_namemax")
            return {name: getattr(status, name) for name in names}

    mfusepy.FUSE(
        Server(),
        mountpoint,
        foreground=True,
        nothreads=True,
        use_ino=True,
        hard_remove=True,
        default_permissions=True,
        attr_timeout=stale_s,
        entry_timeout=stale_s,
        negative_timeout=stale_s,
    )


def _number(path: str) -> int:
    """Return a file's inode number; entries without one are not listed."""
    try:
        return os.lstat(path).st_ino
    except OSError:  # gone since
        return 1


if __name__ == "__main__":
    serve(*sys.argv[1:4], float(sys.argv[4]))
