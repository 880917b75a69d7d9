"""What a task costs here and in plain Dask, in one run on one machine, as a Markdown table.

Both run the same number of calls on two processes of this machine:

    plain distributed     LocalCluster, two workers of one thread, TLS off: client.map and gather; nothing is durable
    scalable_hpc          one allocation of two slots, TLS on; journalled, results fsynced, then reported
                          "tiny" calls share round trips once they are known to be short, "single" ones never do

Usage: python benchmarks/overhead.py [--tasks 2000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

MANIFEST = """\
version: 1
project: {name: overhead}
targets:
  here: {provider: local, capacity: {cpus: 2}, allocations: {max: 1, walltime: "01:00:00"}}
components:
  pair: {cpus: 2}
"""


def nothing(number: int) -> int:
    return number


def at_least_a_tenth(number: int) -> int:
    time.sleep(0.11)
    return number


def with_dask(function, count: int) -> float:
    """Seconds for ``count`` calls on a warm cluster."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(function, range(20), pure=False))
        began = time.perf_counter()
        client.gather(client.map(function, range(count), pure=False))
        return time.perf_counter() - began


def with_scalable(function, count: int, place: Path) -> float:
    """Seconds for ``count`` calls on a warm allocation."""
    from scalable_hpc import ScalableSession

    (place / "scalable.yaml").write_text(MANIFEST)
    with ScalableSession.from_yaml(place / "scalable.yaml") as client:
        client.gather(client.map(function, range(40)))
        began = time.perf_counter()
        client.gather(client.map(function, range(count)))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    count = parser.parse_args().tasks
    few = max(40, count // 20)
    slept = few * 0.11 / 2
    with tempfile.TemporaryDirectory() as place:
        rows = [
            ("tiny, per task (ms)", 1e3 * with_dask(nothing, count) / count,
             1e3 * with_scalable(nothing, count, Path(place)) / count),
            ("single of 110 ms, above the sleep, per task (ms)", 1e3 * (with_dask(at_least_a_tenth, few) - slept) / few,
             1e3 * (with_scalable(at_least_a_tenth, few, Path(place)) - slept) / few),
        ]  # fmt: skip
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {count} tiny and {few} single calls\n")
    print("| | plain distributed | scalable_hpc | ratio |\n| --- | ---: | ---: | ---: |")
    for name, theirs, ours in rows:
        print(f"| {name} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
