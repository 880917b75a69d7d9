"""Laws of private files."""

from __future__ import annotations

import os
import stat

from scalable_hpc.cluster.private_files import SCRIPT, make_private_directory, write_private


def test_that_modes_do_not_depend_on_the_umask(tmp_path):
    """Scripts stay executable for their owner under the strictest umask, and closed to others under the loosest."""
    modes = []
    for umask in (0o777, 0o000):
        before = os.umask(umask)
        try:
            write_private(tmp_path / f"{umask}.sh", b"true", mode=SCRIPT)
        finally:
            os.umask(before)
        modes.append(stat.S_IMODE((tmp_path / f"{umask}.sh").stat().st_mode))

    assert modes == [0o700, 0o700]


def test_that_a_rest_of_a_crashed_writer_is_no_obstacle(tmp_path):
    """A part file of the same process id is replaced, and none is left."""
    (tmp_path / f".name.{os.getpid()}.part").write_bytes(b"torn")
    write_private(tmp_path / "name", b"whole")

    assert [path.name for path in tmp_path.iterdir()] == ["name"]
    assert (tmp_path / "name").read_bytes() == b"whole"


def test_that_an_open_directory_is_closed_to_others(tmp_path):
    """A directory that was there with wider modes is narrowed."""
    (tmp_path / "d").mkdir(mode=0o755)

    assert stat.S_IMODE(make_private_directory(tmp_path / "d").stat().st_mode) == 0o700
