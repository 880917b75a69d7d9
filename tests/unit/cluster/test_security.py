"""Laws of a run's certificates."""

from __future__ import annotations

import ssl
import stat
from contextlib import suppress

import pytest
from cryptography import x509

from scalable_hpc.cluster.security import create_tls_files


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Shake hands in memory; raises ``ssl.SSLError`` when either side says no."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_side=False),
    ]
    for _ in range(6):
        for side in sides:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    for side in sides:
        with suppress(ssl.SSLWantReadError):
            side.read()


def contexts(files):
    security = files.security()
    server = security.get_listen_args("scheduler")["ssl_context"]
    return server, security.get_connection_args("worker")["ssl_context"]


def test_that_members_of_a_run_trust_each_other(tmp_path):
    """Scheduler and worker of one run shake hands."""
    handshake(*contexts(create_tls_files(tmp_path, "run-1")))


def test_that_members_of_another_run_are_turned_away(tmp_path):
    """A worker with another run's certificate is refused, even under the same run id."""
    server, _ = contexts(create_tls_files(tmp_path / "one", "run-1"))
    _, stranger = contexts(create_tls_files(tmp_path / "two", "run-1"))
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE  # the stranger takes anyone; the scheduler does not

    with pytest.raises(ssl.SSLError):
        handshake(server, stranger)


def test_that_encryption_is_required(tmp_path):
    """A plain connection is refused by Dask itself."""
    assert create_tls_files(tmp_path, "run-1").security().require_encryption


def test_that_files_are_private_and_can_be_made_again(tmp_path):
    """A second driver of the run replaces what a dead one left; modes are 0700 and 0600."""
    first = create_tls_files(tmp_path, "run-1")
    old = (tmp_path / "security" / "cert.pem").read_bytes()
    second = create_tls_files(tmp_path, "run-1")

    assert first == second
    assert (tmp_path / "security" / "cert.pem").read_bytes() != old
    assert stat.S_IMODE((tmp_path / "security").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "security").iterdir()} == {0o600}


def test_that_the_authority_cannot_be_used_by_anyone_later(tmp_path):
    """The only private key on disk belongs to the member certificate, which is no authority."""
    files = create_tls_files(tmp_path, "run-1")
    certificate = x509.load_pem_x509_certificate((tmp_path / "security" / "cert.pem").read_bytes())
    keys = [path.name for path in (tmp_path / "security").iterdir() if b"PRIVATE KEY" in path.read_bytes()]

    assert keys == ["key.pem"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert files.key.endswith("key.pem")


def test_that_removing_leaves_what_is_not_ours(tmp_path):
    """The directory goes only when it is empty; removing twice is no error."""
    files = create_tls_files(tmp_path, "run-1")
    (tmp_path / "security" / "note").write_text("mine")
    files.remove()
    files.remove()

    assert [path.name for path in (tmp_path / "security").iterdir()] == ["note"]
