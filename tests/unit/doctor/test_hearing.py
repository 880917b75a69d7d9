"""The port that the doctor listens at: a stranger is told nothing, whatever they show and say."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from scalable_hpc.cluster.security import create_tls_files
from scalable_hpc.doctor.hearing import Hearing, greet


def member(folder):
    folder.mkdir()
    files = create_tls_files(folder, "run")
    return files.ca, files.cert, files.key


def strangers(files) -> ssl.SSLContext:
    """Return the context of somebody who asks for no proof, and perhaps shows a certificate of their own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(files[1], files[2])
    return context


async def answer(port: int, context: ssl.SSLContext | None) -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b'{"node": "evil", "now": 0}\n')
        await writer.drain()
        found = await asyncio.wait_for(reader.read(100), 5)
        writer.close()
    except OSError:  # turned away, which an ssl.SSLError is too
        return b""
    return found


@pytest.mark.parametrize("shows", ["no TLS", "no certificate", "their own certificate"])
def test_that_a_stranger_is_told_nothing_and_not_believed(tmp_path, shows):
    """Neither in the clear, nor encrypted, nor with a certificate that another authority signed."""
    own, other = member(tmp_path / "own"), member(tmp_path / "other")
    contexts = {"no TLS": None, "no certificate": strangers(None), "their own certificate": strangers(other)}

    async def tries() -> dict[str, float]:
        hearing = Hearing(*own)
        _, port = await hearing.listen("127.0.0.1")
        assert await answer(port, contexts[shows]) == b""
        assert not hearing.heard.is_set()
        await greet("127.0.0.1", port, own, {"node": "mine"})
        await hearing.close()
        return hearing.skews

    assert set(asyncio.run(tries())) == {"mine"}


def test_that_who_listens_must_be_one_of_the_run_too(tmp_path):
    """A node does not speak to whoever has taken the driver's port."""
    own, other = member(tmp_path / "own"), member(tmp_path / "other")

    async def tries() -> None:
        hearing = Hearing(*other)
        _, port = await hearing.listen("127.0.0.1")
        with pytest.raises(ssl.SSLError):
            await greet("127.0.0.1", port, own, {"node": "mine"})
        await hearing.close()

    asyncio.run(tries())


def test_that_a_clock_that_is_ahead_is_told_by_how_much(tmp_path):
    """The node's time and the driver's, in one line of a greeting."""
    own = member(tmp_path / "own")

    async def tries() -> float:
        hearing = Hearing(*own)
        _, port = await hearing.listen("127.0.0.1")
        context = strangers(own)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(f'{{"node": "n1", "now": {time.time() + 90}}}\n'.encode())
        assert await reader.readline() == b"{}\n"
        writer.close()
        await hearing.close()
        return hearing.skews["n1"]

    assert asyncio.run(tries()) == pytest.approx(90, abs=5)
