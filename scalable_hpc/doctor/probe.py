"""The doctor's job on a node: ``python -m scalable_hpc.doctor.probe DIRECTORY...``; says in JSON what it finds there.

It looks for its order in the given directories, so that one that is not shared is found out by the others.

Rule 1: it ends within a minute, whatever it finds; what cannot be done is part of the answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from scalable_hpc.doctor.facts import NodeSeen, PlaceSeen
from scalable_hpc.doctor.hearing import Hearing, address_of, greet, interfaces
from scalable_hpc.doctor.order import ANSWER, HELLO, Order, Place, read_order, write_json
from scalable_hpc.doctor.packages import packages_here, python_here

_WRITTEN = 16 * 2**20
"""Bytes: enough to see a slow disk, written in a moment by any other."""
_BLIND = 3
"""Exit code: no order is to be seen in any of the directories."""
_SINGULARITY = ("/.singularity.d",), ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
_SIGNS = {
    "apptainer": _SINGULARITY,
    "singularity": _SINGULARITY,
    "podman-hpc": (("/run/.containerenv",), ()),
    "shifter": ((), ("SHIFTER_RUNTIME",)),
    "charliecloud": (("/ch/environment",), ("CH_RUNNING",)),
}
"""What each container runtime leaves in an image: files, variables."""


def main(directories: list[str]) -> int:
    """Look around and answer; the exit code is 0 unless nobody can be told."""
    for added in reversed(os.environ.get("SCALABLE_HPC_PYTHONPATH", "").split(os.pathsep)):
        if added and added not in sys.path:
            sys.path.append(added)
    found = [(Path(own), order) for own in directories if (order := read_order(Path(own))) is not None]
    if not found:
        print(f"no order in any of {directories}: {socket.gethostname()} sees none of them", file=sys.stderr)  # noqa: T201
        return _BLIND
    own, order = found[0]
    asyncio.run(_answer(own, order, {str(place) for place, _ in found}))
    return 0


async def _answer(own: Path, order: Order, seen: set[str]) -> None:
    host = socket.gethostname()
    node = NodeSeen(
        host=host,
        python=python_here(),
        executable=sys.executable,
        packages=packages_here(order.modules),
        places=tuple(_place(place, seen) for place in order.places),
        cpus=len(os.sched_getaffinity(0)),
        interfaces=tuple(interfaces()),
        runtimes=_runtimes(),
    )
    network = await _network(own, order, host) if _is_there(order.key) and order.port else {}
    told = {**asdict(node), **network}
    write_json(own / f"{ANSWER}{host}.json", told)


async def _network(own: Path, order: Order, host: str) -> dict[str, object]:
    """Reach the driver, and let it reach us."""
    told: dict[str, object] = {}
    with suppress(OSError):  # no such interface: found out by its name
        hearing = Hearing(order.ca, order.cert, order.key)
        try:
            address, port = await hearing.listen(address_of(order.interface))
            told["address"] = f"{address}:{port}"
            write_json(own / f"{HELLO}{host}.json", {"host": address, "port": port})
            told |= await _to_driver(order, host)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(hearing.heard.wait(), order.patience_s)
        finally:
            await hearing.close()
    return told or await _to_driver(order, host)


async def _to_driver(order: Order, host: str) -> dict[str, object]:
    try:
        cipher = await greet(order.host, order.port, (order.ca, order.cert, order.key), {"node": host})
    except (OSError, asyncio.TimeoutError) as err:
        return {"to_driver": str(err) or "no answer in time"}
    return {"to_driver": "", "cipher": cipher}


def _place(place: Place, seen: set[str]) -> PlaceSeen:
    if place.own not in seen:
        return PlaceSeen(place.label, place.path, is_visible=False)
    file = Path(place.own) / f"written-{socket.gethostname()}"
    began = time.monotonic()
    try:
        with file.open("wb") as out:
            out.write(os.urandom(_WRITTEN))
            out.flush()
            os.fsync(out.fileno())
        took_s = max(time.monotonic() - began, 1e-6)
        file.unlink()
    except OSError as err:
        return PlaceSeen(place.label, place.path, is_visible=True, error=err.strerror or str(err))
    return PlaceSeen(place.label, place.path, is_visible=True, mb_per_s=_WRITTEN / 1e6 / took_s)


def _is_there(path: str) -> bool:
    return Path(path).exists()


def _runtimes() -> tuple[str, ...]:
    return tuple(
        name
        for name, (files, variables) in _SIGNS.items()
        if any(Path(file).exists() for file in files) or any(os.environ.get(each) for each in variables)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
