"""Laws of finding and trusting the run's scheduler."""

from __future__ import annotations

import json
import os
import socket

import pytest

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.worker.contact import (
    FILE_NAME,
    SchedulerContact,
    TlsFiles,
    is_answered,
    read_contact,
    wait_for_contact,
)

CONTENT = {"version": 1, "run_id": "r1", "address": "tcp://10.0.0.1:8786", "driver": {"host": "login1", "pid": 7}}


@pytest.fixture
def run_dir(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


def write(run_dir, content, mode=0o600):
    path = run_dir / FILE_NAME
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def test_that_a_private_file_is_read(run_dir):
    """Address, driver and TLS files come out as written."""
    key = run_dir / "key.pem"
    key.touch(mode=0o600)
    write(run_dir, CONTENT | {"tls": {"ca": "/ca", "cert": "/cert", "key": str(key)}})

    contact = read_contact(run_dir)

    assert contact == SchedulerContact(
        "r1", "tcp://10.0.0.1:8786", TlsFiles("/ca", "/cert", str(key)), driver_host="login1", driver_pid=7
    )


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o606, 0o660])
def test_that_a_file_open_to_others_is_refused(run_dir, mode):
    """Whoever could have written or read it might make us run their code."""
    write(run_dir, CONTENT | {"tls": None}, mode)

    with pytest.raises(RunDirectoryError, match=f"mode 0{mode:o}"):
        read_contact(run_dir)


def test_that_a_directory_open_to_others_is_refused(run_dir):
    """Who can write the directory can replace the file."""
    write(run_dir, CONTENT | {"tls": None})
    run_dir.chmod(0o750)

    with pytest.raises(RunDirectoryError, match="run directory"):
        read_contact(run_dir)


def test_that_a_key_open_to_others_is_refused(run_dir):
    """A key that others can read lets them speak as this run's driver."""
    key = run_dir / "key.pem"
    key.touch()
    key.chmod(0o640)
    write(run_dir, CONTENT | {"tls": {"ca": "/ca", "cert": "/cert", "key": str(key)}})

    with pytest.raises(RunDirectoryError, match="TLS key"):
        read_contact(run_dir)


def test_that_a_link_is_not_followed(run_dir, tmp_path_factory):
    """A link could lead to a file that only looks private."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    target = write(elsewhere, CONTENT | {"tls": None})
    (run_dir / FILE_NAME).symlink_to(target)

    with pytest.raises(RunDirectoryError):
        read_contact(run_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_that_a_file_of_another_owner_is_refused(run_dir):
    """Private to somebody else is worse than open."""
    os.chown(write(run_dir, CONTENT | {"tls": None}), 12345, -1)

    with pytest.raises(RunDirectoryError, match="belongs to uid 12345"):
        read_contact(run_dir)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", json.dumps(CONTENT | {"version": 2, "tls": None}), json.dumps(CONTENT)]
)
def test_that_what_cannot_be_understood_is_refused(run_dir, content):
    """Cut off, of another version or without a field: an error that names the file."""
    write(run_dir, content)

    with pytest.raises(RunDirectoryError, match=FILE_NAME):
        read_contact(run_dir)


def test_that_a_late_file_is_waited_for(run_dir):
    """A file system may show the file to this node after the job has started."""
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            write(run_dir, CONTENT | {"tls": None})

    contact = wait_for_contact(run_dir, timeout_s=60, pause=pause, clock=lambda: sum(pauses))

    assert contact.run_id == "r1"
    assert len(pauses) == 3


def test_that_waiting_ends(run_dir):
    """After the bound the error says what did not appear where."""
    pauses = []

    with pytest.raises(RunDirectoryError, match="did not appear within 60 s"):
        wait_for_contact(run_dir, timeout_s=60, pause=pauses.append, clock=lambda: sum(pauses))

    assert sum(pauses) >= 60


def test_that_an_address_is_answered_only_while_somebody_listens():
    """A listening socket answers, a closed one does not, an unreadable address neither."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        while_open = is_answered(address)

    assert while_open
    assert not is_answered(address)
    assert not is_answered("nonsense")
