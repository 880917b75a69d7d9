"""Laws of the names of file systems."""

from __future__ import annotations

import os

from scalable_hpc.cache.file_systems import name_of, shared_in

NODE_A = """\
24 29 0:22 / /proc rw,nosuid shared:13 - proc proc rw
61 29 0:52 / /work rw,relatime shared:33 - nfs4 filer:/export/work rw,vers=4.2
62 29 0:53 /project /scratch rw - lustre 10.0.0.1@tcp:/fs1 rw,flock
63 29 253:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
64 29 0:54 / /odd rw - nfs4
"""
NODE_B = NODE_A.replace("0:52", "0:77").replace("shared:33 ", "").replace("/ /work rw", "/ /mnt/work rw")


def test_that_a_shared_file_system_has_one_name_on_every_node():
    """Device numbers, mount points and options are each node's own; server and export are not."""
    here, there = shared_in(NODE_A), shared_in(NODE_B)

    assert here[os.makedev(0, 52)] == there[os.makedev(0, 77)]
    assert set(here) == {os.makedev(0, 52), os.makedev(0, 53)}
    assert len(set(here.values())) == 2


def test_that_local_file_systems_are_told_apart(tmp_path):
    """Two devices of one host have two names, always the same ones."""
    device = tmp_path.stat().st_dev

    assert name_of(device) == name_of(device)
    assert name_of(device) != name_of(device + 1)
