"""A port that only members of the run may speak to, and how one speaks to it: TLS with certificates on both sides.

Rule 1: used alike by driver and node, and by nothing that carries work: a greeting is one line each way.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

PATIENCE_S = 5.0
"""For a connection and a line; a firewall that drops packets says nothing at all."""


class Hearing:
    """Listens, and remembers who spoke and what the clock said there."""

    def __init__(self, ca: str, cert: str, key: str) -> None:
        self._context = _context(ssl.PROTOCOL_TLS_SERVER, ca, cert, key)
        self._server: asyncio.Server | None = None
        self.heard = asyncio.Event()
        self.skews: dict[str, float] = {}
        """Node to how far its clock is ahead, seconds."""

    async def listen(self, host: str, port: int = 0) -> tuple[str, int]:
        """Begin; return address and port.

        Raises:
            OSError: they are not to be had.
        """
        self._server = await asyncio.start_server(self._hear, host, port, ssl=self._context)
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def close(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                await self._server.wait_closed()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.TimeoutError):
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            now = time.time()
            said = json.loads(line)
            if "node" in said:
                self.skews[str(said["node"])] = float(said["now"]) - now
            writer.write(b"{}\n")
            await writer.drain()
            self.heard.set()
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()


async def greet(host: str, port: int, files: tuple[str, str, str], words: Mapping[str, Any]) -> str:
    """Speak to a hearing and wait for its line; return the cipher of the connection.

    Raises:
        OSError: it cannot be reached, or is not one of ours.
        asyncio.TimeoutError: nobody answered.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, *files)
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), PATIENCE_S)
    try:
        cipher = writer.get_extra_info("cipher")
        writer.write(json.dumps({**words, "now": time.time()}).encode() + b"\n")
        await writer.drain()
        if not await asyncio.wait_for(reader.readline(), PATIENCE_S):
            raise ConnectionError(f"{host}:{port} closed the connection")
        return f"{cipher[1]} {cipher[0]}" if cipher else ""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def interfaces() -> dict[str, str]:
    """Return this host's network interfaces that have an IPv4 address, with the first one of each."""
    import psutil

    return {
        name: addresses[0]
        for name, found in psutil.net_if_addrs().items()
        if (addresses := [each.address for each in found if each.family == socket.AF_INET])
    }


def address_of(interface: str | None) -> str:
    """Return the address that a scheduler or worker takes: of an interface, else the one that leads outside.

    Raises:
        OSError: there is no such interface.
    """
    if interface is not None:
        found = interfaces()
        if interface not in found:
            raise OSError(f"no interface {interface!r} with an IPv4 address; there is {', '.join(found)}")
        return found[interface]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(("10.255.255.255", 1))  # sends nothing: asks which address would be used
            return str(way.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())


def _context(protocol: int, ca: str, cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # the run's own authority signed one certificate, for its members alone
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    return context
