"""Process 1 of one node: makes its namespaces a machine, starts slurmd, and reaps whatever is left over.

Run by the rig inside new namespaces. It says its pid as the outside sees it, and waits for its cable to be plugged.
Rule 1: standard library only and no import of the project, so that a node starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def become_a_machine(node: str, root: Path) -> None:
    """Give the node its own process table, name, hosts file, shared memory and local disk."""
    mounts = (
        ["-t", "proc", "proc", "/proc"],
        ["-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"],
        ["--bind", f"{root}/etc/hosts", "/etc/hosts"],
        # one path on all nodes, but not one directory
        ["--bind", f"{root}/nodes/{node}/local", f"{root}/local"],
    )
    for mount in mounts:
        subprocess.run(["mount", *mount], check=True)
    socket.sethostname(node)


def wait_for_the_cable() -> None:
    """Return when the rig says go; end with the rig where that ends first."""
    if sys.stdin.readline() != "go\n":
        raise SystemExit("the rig went away before the cable was plugged")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)


def reap_forever() -> None:
    """Bury orphans: they are all this process's children now."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        time.sleep(0.2)


if __name__ == "__main__":
    name, directory = sys.argv[1], Path(sys.argv[2])
    sys.stdout.write(f"{Path('/proc/self').readlink()}\n")  # still the outer /proc
    sys.stdout.flush()
    become_a_machine(name, directory)
    wait_for_the_cable()
    # -b: this node has just booted; -D: stay a child, so that its end is seen
    os.posix_spawnp("slurmd", ["slurmd", "-b", "-D", "-N", name], os.environ)
    reap_forever()
