from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from distributed import Client

from scalable_hpc.cluster.opening import connect, free_port
from scalable_hpc.errors import SiteError


def listening(port: int = 0) -> socket.socket:
    taken = socket.socket()
    taken.bind(("", port))
    taken.listen()
    return taken


def a_range(stack: ExitStack) -> tuple[int, int]:
    """Two neighbouring ports, of which the first is taken."""
    for _ in range(100):
        first = stack.enter_context(listening()).getsockname()[1]
        with socket.socket() as probe:
            try:
                probe.bind(("", first + 1))
            except OSError:
                continue
            return first, first + 1
    raise AssertionError("no two neighbouring ports are free")


def test_that_the_driver_takes_a_free_port_of_its_range():
    """Whatever else listens in it."""
    with ExitStack() as stack:
        first, last = a_range(stack)

        assert {free_port(first, last) for _ in range(8)} == {last}


def test_that_a_range_without_a_free_port_is_an_error_with_what_to_do():
    """The range is named, and the setting."""
    with listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SiteError, match=f"no port from {port} to {port} is free") as caught:
            free_port(port, port)

    assert "scheduler_ports" in str(caught.value)


def test_that_a_client_whose_opening_is_cancelled_is_closed():
    """A session may end while it is opened; Dask would complain of what is left, some time later."""

    async def story():
        called = asyncio.Event()

        async def say_nothing(reader, writer):
            called.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            opening = asyncio.ensure_future(connect(SimpleNamespace(scheduler_address=f"tcp://127.0.0.1:{port}"), None))
            await called.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            return [
                client.status for client in gc.get_objects() if isinstance(client, Client) and str(port) in str(client)
            ]

    assert set(asyncio.run(story())) <= {"closed"}
