"""How the controller of a cluster in containers speaks with the machine that a node is: a line each way.

Rule 1: the socket lies on the volume that all machines share; nothing listens on any network.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.rig.packages import PATH
from tests.rig.settings import RigError

SECONDS_TO_ANSWER = 30.0


class Console:
    """One node's console."""

    def __init__(self, place: Path) -> None:
        """``place`` is the node's directory on the shared volume."""
        self._path = place / "console"

    def serve(self, verbs: Mapping[str, Callable[[], str]]) -> None:
        """Obey, one order at a time, for ever."""
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._path))
            listener.listen(8)
            while True:
                caller, _ = listener.accept()
                with caller:
                    verb = caller.recv(100).decode().strip()
                    try:
                        answer = verbs[verb]()
                    except (KeyError, RigError, OSError) as err:
                        answer = f"! {type(err).__name__}: {err}"
                    caller.sendall(answer.encode())

    def ask(self, verb: str) -> str:
        """Give an order and return the answer.

        Raises:
            RigError: nobody answers, or it went wrong.
        """
        try:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(SECONDS_TO_ANSWER)
                caller.connect(str(self._path))
                caller.sendall(verb.encode() + b"\n")
                answer = b"".join(iter(lambda: caller.recv(65536), b"")).decode()
        except OSError as err:
            raise RigError(f"the console of {self._path.parent.name!r} does not answer: {err}") from err
        if answer.startswith("!"):
            raise RigError(f"{self._path.parent.name} could not {verb}: {answer[2:]}")
        return answer


def run_ip(*words: str) -> str:
    """Run ``ip`` on this machine and return what it printed.

    Raises:
        RigError: it failed.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True, env={"PATH": PATH}, check=False, timeout=30)
    if done.returncode != 0:
        raise RigError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
