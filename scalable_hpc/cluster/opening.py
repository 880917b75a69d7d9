"""The steps of starting a link that can fail for the site's or the disk's reasons, with errors that say so."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scalable_hpc.cluster.cluster import ScalableCluster
from scalable_hpc.cluster.quiet_import import Client
from scalable_hpc.cluster.security import TlsFiles
from scalable_hpc.errors import RunDirectoryError, SiteError


async def start_listening(cluster: ScalableCluster, where: str | None, port: int) -> None:
    """Start the scheduler.

    Raises:
        SiteError: the interface, host or port is not to be had.
    """
    try:
        await cluster
    except (OSError, RuntimeError, ValueError) as error:
        place = " ".join(filter(None, (f"on '{where}'" if where else "", f"at port {port}" if port else "")))
        raise SiteError(
            f"the driver cannot listen {place or 'for workers'}: {error.__cause__ or error}",
            hint="ip -brief address    # then set the site's interface or host",
        ) from error


def free_port(first: int, last: int) -> int:
    """Return a port from ``first`` to ``last`` that nobody listens on; any of them, so that drivers rarely collide.

    Raises:
        SiteError: all are taken.
    """
    ports = list(range(first, last + 1))
    random.shuffle(ports)
    for port in ports:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return port
    raise SiteError(
        f"no port from {first} to {last} is free on this machine",
        hint="ss -ltn    # then widen scheduler_ports in the target or the site config",
    )


async def connect(cluster: ScalableCluster, tls: TlsFiles | None) -> Client:
    """Return an asynchronous client of this loop, which is not the process's default one."""
    security = tls.security() if tls else None
    client = Client(cluster.scheduler_address, security=security, asynchronous=True, set_as_default=False)
    try:
        return await client
    except BaseException:  # a session that ends meanwhile cancels this, and Dask leaves the client half open
        await client.close()
        raise


async def close_part(part: Any) -> None:
    """Close a cluster or a client."""
    await part.close()


@contextmanager
def writing_in(run_dir: Path) -> Iterator[None]:
    """Turn the disk's refusals into an error that names the run directory.

    Raises:
        RunDirectoryError: whatever ``OSError`` said.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write in the run directory '{run_dir}': {error}", hint=f"ls -ld '{run_dir}'; df -h '{run_dir}'"
        ) from error
