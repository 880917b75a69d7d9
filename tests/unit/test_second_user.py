"""What is asked of other users' processes is asked while they come and go."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.second_user import Listener, listeners
from tests.waiting import wait_until


def test_that_a_process_that_has_ended_listens_nowhere():
    """Neither one that nobody has collected yet, nor one that is gone; the others are looked at all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["true"]) as ended:
        wait_until("it is dead", lambda: not list(Path(f"/proc/{ended.pid}/fd").iterdir()), timeout=10)
        mine = Listener(os.getpid(), "tcp", "127.0.0.1", server.getsockname()[1])
        assert mine in listeners([ended.pid, os.getpid()])
        ended.wait()
        assert mine in listeners([ended.pid, os.getpid()])
